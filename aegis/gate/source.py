"""What evolved source may not contain, read from its syntax tree (the static policy's rules)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

IMPORTS = frozenset(
    """__future__ abc asyncio bisect collections contextlib copy dataclasses datetime enum fractions functools
    harnessx heapq itertools json math operator random re statistics string textwrap typing unicodedata""".split()
)
FORBIDDEN_CALLS = frozenset(
    """eval exec compile __import__ open input breakpoint globals locals vars getattr setattr delattr
    memoryview exit quit""".split()
)
DUNDERS = frozenset("__init__ __post_init__ __future__ __all__ __len__ __iter__ __contains__ __name__".split())
LOOP_MODULES = ("harnessx.loop", "harnessx.runner", "harnessx.agent", "harnessx.contracts", "harnessx.spec")
MAX_SOURCE = 64 * 1024


def findings_in(sources: Mapping[str, str], literals: Collection[str] = ()) -> list[str]:
    """Every violation in the sources, as ``path:line: rule: remedy``."""
    findings = []
    for path, source in sources.items():
        if len(source.encode()) > MAX_SOURCE:
            findings.append(f"{path}:1: size: keep a source under {MAX_SOURCE} bytes")
            continue
        try:
            module = MetadataWrapper(cst.parse_module(source))
        except (cst.ParserSyntaxError, RecursionError, ValueError) as error:
            line = getattr(error, "raw_line", 1)
            findings.append(f"{path}:{line}: syntax: it does not parse")
            continue
        visitor = _Policy(path, literals)
        module.visit(visitor)
        findings += visitor.findings
    return list(dict.fromkeys(findings))


class _Policy(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: str, literals: Collection[str]) -> None:
        super().__init__()
        self.findings: list[str] = []
        self._path, self._literals = path, literals

    def _find(self, node: cst.CSTNode, rule: str, remedy: str) -> None:
        line = self.get_metadata(PositionProvider, node).start.line
        self.findings.append(f"{self._path}:{line}: {rule}: {remedy}")

    def visit_Import(self, node: cst.Import) -> None:
        for alias in node.names:
            self._module(node, _dotted(alias.name))

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if node.relative or node.module is None:
            self._find(node, "import", "name the module absolutely")
            return
        module = _dotted(node.module)
        self._module(node, module)
        if not isinstance(node.names, cst.ImportStar):
            for alias in node.names:
                self._module(node, f"{module}.{_dotted(alias.name)}")

    def _module(self, node: cst.CSTNode, name: str) -> None:
        if name.split(".")[0] not in IMPORTS:
            self._find(node, "import", f"{name.split('.')[0]!r} is not on the list of allowed modules")
        if any(name == m or name.startswith(m + ".") for m in LOOP_MODULES):
            self._find(node, "reflection", f"{name} belongs to the loop; use events and self.ctx")

    def visit_Call(self, node: cst.Call) -> None:
        if isinstance(node.func, cst.Name) and node.func.value in FORBIDDEN_CALLS:
            self._find(node, "dynamic", f"{node.func.value}() is not for processors; write it out")

    def visit_Attribute(self, node: cst.Attribute) -> None:
        name = node.attr.value
        if name.startswith("__") and name not in DUNDERS:
            self._find(node, "dunder", f"{name} is out of bounds")
        if name in ("gi_frame", "cr_frame", "ag_frame", "f_globals", "f_back", "tb_frame"):
            self._find(node, "reflection", f"{name} reaches into frames")
        own = isinstance(node.value, cst.Name) and node.value.value == "self"
        if name == "task_id" or (name == "attempt" and not own):
            self._find(node, "identity", f"{name} tells one attempt from another; act on what the agent sees")

    def visit_Name(self, node: cst.Name) -> None:
        name = node.value
        if not name.isascii():
            self._find(node, "identifier", f"{name!r} has look-alike letters; use ASCII")
        if name.startswith("__") and name.endswith("__") and name not in DUNDERS:
            self._find(node, "dunder", f"{name} is out of bounds")
        if name == "task_id":
            self._find(node, "identity", "task_id tells one task from another; act on what the agent sees")

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        text = node.evaluated_value
        if isinstance(text, str):
            self._literal(node, text)

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        self._literal(node, node.value)

    def _literal(self, node: cst.CSTNode, text: str) -> None:
        for literal in self._literals:
            if literal in text:
                self._find(node, "task literal", belongs(literal))
                return


def _dotted(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""


def belongs(literal: str) -> str:
    """Why a task literal may not be in an edit."""
    return f"{literal[:40]!r} belongs to one task; an edit must generalise"
