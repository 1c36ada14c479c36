"""What evolved source may not contain, read from its syntax tree (the static policy's rules).

It gives good errors, and early; it is a filter and no wall: what is not seen here meets the sandbox.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from aegis.gate.rules import DUNDERS, FRAMES, NAMES, is_module, module_problem, name_problem

MAX_SOURCE = 64 * 1024
MAX_DEPTH = 100
"""Levels of the syntax tree. Far deeper ones end the parser, and the process with it."""

_CODING = re.compile(r"[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")  # PEP 263
_FIELD = re.compile(r"\{[^{}]*[.\[]_")
"""A replacement field that reads an attribute or item whose name begins with an underscore."""


@dataclass(frozen=True, slots=True, order=True)
class SourceFinding:
    """One violation: where, which rule, and what to do instead."""

    path: str
    line: int
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.remedy}"


def findings_in(sources: Mapping[str, str], literals: Collection[str] = ()) -> list[SourceFinding]:
    """Every violation in the sources, by path and line."""
    return [found for path, source in sources.items() for found in sorted(set(_findings(path, source, literals)))]


def belongs(literal: str) -> str:
    """Why a task literal may not be in an edit."""
    return f"{literal[:40]!r} belongs to one task; an edit must generalise"


def _findings(path: str, source: str, literals: Collection[str]) -> Iterator[SourceFinding]:
    if len(source.encode(errors="surrogatepass")) > MAX_SOURCE:
        yield SourceFinding(path, 1, "size", f"keep a source under {MAX_SOURCE} bytes")
        return
    yield from _characters(path, source)
    problem = _unreadable(source)
    if problem is not None:
        yield SourceFinding(path, *problem)
        return
    try:
        module = MetadataWrapper(cst.parse_module(source))
    except (cst.ParserSyntaxError, ValueError, RecursionError) as error:
        yield SourceFinding(path, getattr(error, "raw_line", 1), "syntax", "it does not parse")
        return
    imports = _Imports()
    module.module.visit(imports)
    visitor = _Policy(path, literals, imports)
    module.visit(visitor)
    yield from visitor.findings


def _characters(path: str, source: str) -> Iterator[SourceFinding]:
    """What a reader of the text does not see, or sees as something else."""
    for number, line in enumerate(source.split("\n"), 1):
        if number <= 2 and _CODING.match(line):
            yield SourceFinding(path, number, "encoding", "sources are UTF-8; declare no encoding")
        if line.isascii() and line.isprintable():
            continue
        hidden = [c for c in line if unicodedata.category(c) in ("Cf", "Cc", "Cs") and c != "\t"]
        if hidden:
            yield SourceFinding(
                path, number, "invisible", f"U+{ord(hidden[0]):04X} cannot be seen; write it as an escape"
            )


def _unreadable(source: str) -> tuple[int, str, str] | None:
    """Line, rule and remedy where a source does not parse, or too deeply for the parser that reads it next."""
    try:
        layer: list[ast.AST] = [ast.parse(source)]
    except SyntaxError as error:
        return error.lineno or 1, "syntax", f"it does not parse: {error.msg}"
    except (RecursionError, MemoryError, ValueError):
        return 1, "depth", "it does not parse, or nests too deeply"
    for _ in range(MAX_DEPTH):
        layer = [child for node in layer for child in ast.iter_child_nodes(node)]
        if not layer:
            return None
    return int(getattr(layer[0], "lineno", 1)), "depth", f"it nests more than {MAX_DEPTH} deep; write it in steps"


class _Imports(cst.CSTVisitor):
    """What a source imports: modules by the name they are bound to, and all names that are not its own; its classes."""

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, str] = {}
        self.names: set[str] = set()
        self.classes: list[cst.ClassDef] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.classes.append(node)

    def visit_Import(self, node: cst.Import) -> None:
        for alias in node.names:
            name = _dotted(alias.name)
            bound = _bound(alias)
            self.modules[bound] = name if alias.asname else bound
            self.names.add(bound)

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        module = _dotted(node.module) if node.module is not None else ""
        if isinstance(node.names, cst.ImportStar):
            return
        for alias in node.names:
            name, bound = f"{module}.{_dotted(alias.name)}", _bound(alias)
            self.names.add(bound)
            if module_problem(module) is None and is_module(name):
                self.modules[bound] = name


class _Policy(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: str, literals: Collection[str], imports: _Imports) -> None:
        super().__init__()
        self.findings: list[SourceFinding] = []
        self._path, self._literals, self._imports = path, literals, imports
        self._declared = [_declares_network(imports.classes)]
        """Whether the classes around a place declare that they use the network; outermost, whether any class does."""
        self._labels: set[int] = set()
        """Names that stand for no value of their own: attributes, keywords, fields, and modules before a dot."""

    def _find(self, node: cst.CSTNode, rule: str, remedy: str) -> None:
        line = self.get_metadata(PositionProvider, node).start.line
        self.findings.append(SourceFinding(self._path, line, rule, remedy))

    def _report(self, node: cst.CSTNode, problem: tuple[str, str] | None) -> None:
        if problem is not None:
            self._find(node, *problem)

    # Imports.

    def visit_Import(self, node: cst.Import) -> None:
        for alias in node.names:
            self._label(alias.name)
            name = _dotted(alias.name)
            self._report(node, module_problem(name))
            if name.split(".")[0] == "harnessx":
                self._find(node, "import", f"write from {name if '.' in name else 'harnessx.…'} import what you need")

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if node.relative or node.module is None:
            self._find(node, "import", "name the module absolutely")
            return
        self._label(node.module)
        module = _dotted(node.module)
        problem = module_problem(module)
        self._report(node, problem)
        if isinstance(node.names, cst.ImportStar):
            self._find(node, "import", "name what you import instead of *")
            return
        for alias in node.names:
            self._label(alias.name)
            if problem is None:
                self._report(node, name_problem(module, _dotted(alias.name)))

    # Names and attributes.

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._declared.append(_declares_network([node]))

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:
        self._declared.pop()

    def visit_Attribute(self, node: cst.Attribute) -> None:
        name, of = node.attr.value, node.value
        self._labels.add(id(node.attr))
        own = isinstance(of, cst.Name) and of.value in ("self", "cls")
        module = self._module_of(of)
        if module is not None:
            if isinstance(of, cst.Name):
                self._labels.add(id(of))
            self._report(node, name_problem(module, name))
        elif name.startswith("__") and name not in DUNDERS:
            self._find(node, "dunder", f"{name} is out of bounds")
        elif name.startswith("_") and name not in DUNDERS and not own:
            self._find(node, "private", f"{name} belongs to another object; use what it offers")
        if name in FRAMES:
            self._find(node, "reflection", f"{name} reaches into frames or classes")
        if name == "fetch" and _named(of) in ("ctx", "context") and not self._declared[-1]:
            self._find(node, "network", "fetch is for a class that declares effects = frozenset({Effect.NETWORK})")
        of_ctx = name == "seed" and isinstance(of, cst.Attribute) and of.attr.value == "ctx"
        if name == "task_id" or (name == "attempt" and not own) or of_ctx:
            self._find(node, "identity", f"{name} tells one attempt from another; act on what the agent sees")

    def visit_Name(self, node: cst.Name) -> None:
        name = node.value
        if not name.isascii():
            plain = unicodedata.normalize("NFKC", name)
            means = f" and means {plain!r}" if plain != name else ""
            self._find(node, "identifier", f"{name!r} has look-alike letters{means}; use ASCII")
        if name.startswith("__") and name.endswith("__") and name not in DUNDERS:
            self._find(node, "dunder", f"{name} is out of bounds")
        if name == "task_id":
            self._find(node, "identity", "task_id tells one task from another; act on what the agent sees")
        if id(node) in self._labels:
            return
        if name in NAMES:
            self._find(node, "dynamic", f"{name}() is not for processors; {NAMES[name]}")
        if name in self._imports.modules:
            self._find(node, "module", f"{name} is a module; use it as {name}.something and nowhere else")

    def visit_Arg(self, node: cst.Arg) -> None:
        if node.keyword is not None:
            self._labels.add(id(node.keyword))

    def visit_AsName(self, node: cst.AsName) -> None:
        self._label(node.name)

    # What is changed.

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        self._changed(node.target)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if isinstance(node.target, cst.Name):
            self._labels.add(id(node.target))
        self._changed(node.target)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._changed(node.target)

    def visit_Del(self, node: cst.Del) -> None:
        self._changed(node.target)

    def _changed(self, target: cst.BaseExpression) -> None:
        root: cst.CSTNode = target
        while isinstance(root, cst.Attribute | cst.Subscript):
            root = root.value
        if root is not target and isinstance(root, cst.Name) and root.value in self._imports.names:
            self._find(target, "patch", f"{root.value} is imported: others use it too; derive your own from it")

    # Texts.

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        text = node.evaluated_value
        self._text(node, text if isinstance(text, str) else text.decode("latin-1"))

    def visit_ConcatenatedString(self, node: cst.ConcatenatedString) -> None:
        text = node.evaluated_value
        if isinstance(text, str):
            self._text(node, text)

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        self._literal(node, node.value)

    def _text(self, node: cst.CSTNode, text: str) -> None:
        self._literal(node, text)
        if _FIELD.search(text):
            self._find(node, "dunder", "a replacement field reads a private attribute; format the value itself")

    def _literal(self, node: cst.CSTNode, text: str) -> None:
        for literal in self._literals:
            if literal in text:
                self._find(node, "task literal", belongs(literal))
                return

    def _module_of(self, node: cst.BaseExpression) -> str | None:
        """The module that an expression names, if it names one that may be imported."""
        if isinstance(node, cst.Name):
            return self._imports.modules.get(node.value)
        if isinstance(node, cst.Attribute):
            outer = self._module_of(node.value)
            inner = f"{outer}.{node.attr.value}"
            if outer is not None and module_problem(inner) is None:
                return inner
        return None

    def _label(self, node: cst.CSTNode) -> None:
        while isinstance(node, cst.Attribute):
            self._labels.add(id(node.attr))
            node = node.value
        self._labels.add(id(node))


def _declares_network(classes: Iterable[cst.ClassDef]) -> bool:
    """Whether the body of one of ``classes`` sets ``effects`` to something with ``Effect.NETWORK``."""
    lines = (line for found in classes for line in found.body.body if isinstance(line, cst.SimpleStatementLine))
    assigned = (part for line in lines for part in line.body if isinstance(part, cst.Assign))
    return any(
        _named(target.target) == "effects" and "Effect.NETWORK" in cst.Module([]).code_for_node(part.value)
        for part in assigned
        for target in part.targets
    )


def _named(node: cst.BaseExpression) -> str:
    """The last name of a dotted one."""
    return _dotted(node).rsplit(".", 1)[-1]


def _dotted(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""


def _bound(alias: cst.ImportAlias) -> str:
    """The name that an import binds."""
    if alias.asname is not None and isinstance(alias.asname.name, cst.Name):
        return alias.asname.name.value
    return _dotted(alias.name).split(".")[0]
