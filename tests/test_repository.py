"""The shape of the repository: who may import whom, what stays light, what lies where."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("harnessx", "aegis", "benchmarks")
TOP_LEVEL = {
    "LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements.lock",
    "aegis", "benchmarks", "configs", "harnessx", "results", "scripts", "tests",
}  # fmt: skip
HEAVY = (
    *("datasets", "httpx2", "hydra", "libcst", "litellm", "mcp", "numpy", "pandas", "pyarrow", "ray", "torch"),
    "wandb",
)
GRAB_BAGS = ("utils", "util", "helpers", "helper", "common", "misc", "manager")
FLOORS = (
    "canonical delegation errors permissions",
    "messages sandbox",
    "hooks models tools trajectory tasks web",
    "processor contracts redaction servers spec",
    "harness processors model_config slots",
    "algebra loop pipeline port spawning toolbox",
    "runner bundles agent run trace docs",
)
"""Of ``harnessx``, bottom up. A module imports from its own floor and from those below."""
ELEVATORS = {("harnessx.model_config", "harnessx.agent"), ("harnessx.harness", "harnessx.algebra")}
"""What is imported upward, inside functions: methods that stand for what a higher floor does."""
MOST_LINES = 450


def source_files() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = source_files()


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that import statements among ``nodes`` name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def at_import_time(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported; ``if TYPE_CHECKING`` and functions do not."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import_time(node.orelse)
            continue
        yield node
        yield from at_import_time(ast.iter_child_nodes(node))


def when_run(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from when_run(ast.iter_child_nodes(node))


def floor(module: str) -> int:
    """The floor of a module of ``harnessx``; the package itself is the roof."""
    _, _, rest = module.partition(".")
    if not rest:
        return len(FLOORS)
    room = rest.split(".")[0]
    found = [height for height, rooms in enumerate(FLOORS) if room in rooms.split()]
    assert found, f"harnessx.{room} is on no floor: add it to FLOORS"
    return found[0]


@pytest.mark.parametrize(
    ("package", "foreign"),
    [("harnessx", ("aegis", "benchmarks", "configs")), ("benchmarks", ("aegis", "configs"))],
)
def test_packages_import_downward_only(package: str, foreign: tuple[str, ...]) -> None:
    for module, path in MODULES.items():
        if module.split(".")[0] == package:
            named = {name.split(".")[0] for name in imported(ast.walk(ast.parse(path.read_text())))}
            assert not named & set(foreign), f"{module} imports {named & set(foreign)}"


def test_no_import_cycles() -> None:
    graph = {m: set(imported(at_import_time([ast.parse(p.read_text())]))) & MODULES.keys() for m, p in MODULES.items()}
    assert sum(map(len, graph.values())) > len(graph), "the graph has too few edges to be the real one"
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_no_arrow_of_harnessx_runs_up() -> None:
    upward = set()
    for module, path in MODULES.items():
        if module.startswith("harnessx"):
            for name in imported(when_run([ast.parse(path.read_text())])):
                if name.startswith("harnessx") and floor(name) > floor(module):
                    upward.add((module, name))
    assert upward == ELEVATORS


@pytest.mark.parametrize("statement", ["import harnessx", "import harnessx.agent, harnessx.bundles, benchmarks.check"])
def test_nothing_heavy_is_imported_before_it_is_used(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "harnessx" in loaded.split()
    assert set(HEAVY).isdisjoint(loaded.split())


def test_heavy_packages_are_imported_inside_functions() -> None:
    for module, path in MODULES.items():
        named = {name.split(".")[0] for name in imported(at_import_time([ast.parse(path.read_text())]))}
        allowed = {"libcst"} if module.startswith("aegis") else set()  # its visitors are classes
        assert named & set(HEAVY) <= allowed, module


def test_every_module_has_one_idea() -> None:
    for path in (*MODULES.values(), *(ROOT / "scripts").rglob("*.py"), *(ROOT / "configs").rglob("*.py")):
        lines = len(path.read_text().splitlines())
        assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines"
        assert path.stem not in GRAB_BAGS, f"{path.relative_to(ROOT)}: name it by what it is"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_of_tests_does_not_pass_for_a_package(package: str) -> None:
    found = PathFinder.find_spec(package)
    assert found is not None
    assert found.origin == str(ROOT / package / "__init__.py")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_top_level_holds_what_the_readme_lists(tracked: list[Path]) -> None:
    assert {path.parts[0] for path in tracked if not path.parts[0].startswith(".")} == TOP_LEVEL
    readme = (ROOT / "README.md").read_text()
    folders = [name for name in TOP_LEVEL if (ROOT / name).is_dir()]
    assert all(f"{name}/" in readme for name in folders)


def test_no_path_of_a_machine_is_committed(tracked: list[Path]) -> None:
    machine = re.compile(r"(?<![\w.~-])/(?:root|work|opt/pypi|home/\w+|Users/\w+)/")
    for path in tracked:
        if path.suffix in (".png", ".gz", ".zip"):
            continue
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
            assert not machine.search(line), f"{path}:{number}: {line.strip()[:100]}"


def test_every_locked_version_has_its_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    blocks = re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)((?:.*\\\n)(?: +--hash=sha256:[0-9a-f]{64}.*\n)+)", lock, re.M)
    names = {name for name, _, _ in blocks}
    assert len(blocks) == len(re.findall(r"^[a-z0-9]", lock, re.M))
    assert {"setuptools", "pytest", "ruff", "mypy", "hydra-core", "litellm"} <= names
    litellm = next(version for name, version, _ in blocks if name == "litellm")
    assert tuple(map(int, litellm.split(".")[:2])) >= (1, 106), "1.82.7 and 1.82.8 were compromised on the index"
