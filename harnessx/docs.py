"""Pages about the named bundles, written from the docstrings of what they are made of.

``python -m harnessx.docs`` writes ``harnessx/pages/``; with ``--check`` it says what is out of date.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from harnessx.bundles import BUNDLES
from harnessx.canonical import canonical_json
from harnessx.harness import HarnessConfig
from harnessx.processor import Processor
from harnessx.spec import Spec, build

PLACE = Path("harnessx/pages")


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"README.md": index(), **{f"{name}.md": page(name) for name in BUNDLES}}


def index() -> str:
    """The page that lists the others."""
    rows = [f"* [`{name}`]({name}.md): {_summary(bundle)}" for name, bundle in BUNDLES.items()]
    lines = [
        "# Bundles",
        "",
        "Named harnesses to start from. Any of them compose: `bundles.minimal() | bundles.coding()` in Python,",
        "`harness='minimal|coding'` on a command line. Written by `python -m harnessx.docs`.",
        "",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def page(name: str) -> str:
    """The page of one bundle: its parts in the order in which they run, and its YAML."""
    bundle = BUNDLES[name]
    harness = bundle()
    parts = [line for spec in harness.processors for line in _part(spec, harness)]
    lines = [
        f"# `{name}`",
        "",
        inspect.cleandoc(bundle.__doc__ or ""),
        "",
        f"`bundles.{name}()`, or `harness={name}` on a command line. Its parts, in the order in which they run:",
        "",
        *parts,
        "## As a file",
        "",
        "```yaml",
        *harness.to_yaml().rstrip().splitlines(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _part(spec: Spec, harness: HarnessConfig) -> Iterator[str]:
    """One processor: what it promises, where it acts, the tools that it brings, its parameters."""
    processor = build(spec, harness.assets, allow_assets=False)
    assert isinstance(processor, Processor)
    cls = type(processor)
    assert is_dataclass(cls)
    hooks = ", ".join(f"`{hook}`" for hook in cls.hooks)
    group = f"; group `{cls.group}`" if cls.group else ""
    yield from (f"## {spec.name}", "", inspect.cleandoc(cls.__doc__ or ""), "")
    yield f"* dimension {cls.dimension.value}, at {hooks}{group}"
    yield from (f"* brings the tool `{tool.name}`: {tool.description}" for tool in processor.brings())
    said = _field_docs(cls)
    for field in fields(cls):
        if field.init:
            value = spec.params.get(field.name, MISSING)
            yield f"* `{field.name}` ({_default(field)}): {said.get(field.name, '')}".rstrip(": ")
            if value is not MISSING:
                yield f"  here: `{_short(value)}`"
    yield ""


def _default(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return f"default `{_short(default)}`"


def _short(value: Any) -> str:
    text = canonical_json(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _field_docs(cls: type) -> dict[str, str]:
    """The text below each field of a class, as one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def _summary(bundle: Any) -> str:
    return inspect.cleandoc(bundle.__doc__ or "").splitlines()[0]


def outdated(place: Path) -> list[str]:
    """The files below ``place`` that differ from what would be written there, or should not be there."""
    wanted = pages()
    there = {path.name for path in place.glob("*.md")}
    differing = [name for name, text in wanted.items() if name not in there or (place / name).read_text() != text]
    return sorted({*differing, *(there - wanted.keys())})


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m harnessx.docs", description="Write harnessx/pages/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is out of date")
    place = PLACE
    stale = outdated(place)
    if parser.parse_args().check:
        for name in stale:
            sys.stderr.write(f"{place / name} is out of date: python -m harnessx.docs\n")
        return int(bool(stale))
    place.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (place / name).unlink(missing_ok=True)
    for name, text in pages().items():
        (place / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
