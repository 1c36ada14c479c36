"""``python -m aegis.testbed``: acceptance judged against known truth, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aegis.provenance import versions
from aegis.testbed import conflict, drift, null, power
from aegis.views.terminal import console, exit_code
from harnessx.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aegis.testbed", description=__doc__.split(": ", 1)[1])
    parser.add_argument("study", choices=sorted(STUDIES), help="; ".join(f"{n}: {about}" for n, (_, about) in _ABOUT))
    parser.add_argument("--runs", type=int, default=1000, help="simulated runs of each rule, or paths of each price")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="+", choices=list(null.PLANS), help="of null: only these")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.runs < 1:
        raise UserError(f"--runs {arguments.runs}: at least one")
    found = STUDIES[arguments.study][0](arguments)
    record = {"study": arguments.study, "runs": arguments.runs, "seed": arguments.seed, **found}
    if arguments.json:
        print(json.dumps({**record, "versions": asdict(versions())}, indent=1))
    else:
        _show(record["rows"])
        for kind in record.get("impossible", ()):
            print("no edit can be: " + ", ".join(f"{name} {value:.3g}" for name, value in kind.items()))


def _null(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = null.study(arguments.rules or list(null.PLANS), arguments.runs, arguments.seed)
    first = rows[0]
    return {"rule": first.rule, "runs_that_shipped_share": first.shipped.mean, "rows": [asdict(row) for row in rows]}


def _power(arguments: argparse.Namespace) -> dict[str, Any]:
    ratios = ("against_coupled", "against_uncoupled")
    rows, impossible = power.study(arguments.runs, arguments.seed)
    return {
        "rows": [{**asdict(row), **{name: getattr(row, name) for name in ratios}} for row in rows],
        "impossible": [{"gain": gain, "scope": scope, "losses": losses} for gain, scope, losses in impossible],
    }


def _drift(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"rows": [asdict(row) for row in drift.study(arguments.runs, arguments.seed)]}


def _conflict(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"rows": [asdict(row) for row in conflict.study(arguments.runs, arguments.seed)]}


STUDIES = {
    "conflict": (_conflict, "what each strategy is left with where tasks want different harnesses"),
    "drift": (_drift, "when small losses, round after round, are noticed"),
    "null": (_null, "how often a run ships something false, by acceptance rule"),
    "power": (_power, "what confirming a true gain costs"),
}
_ABOUT = sorted(STUDIES.items())


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "rule" else "right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console().print(table)


def _cell(value: object) -> str:
    match value:
        case {"mean": mean, "lo": lo, "hi": hi}:
            return f"{100 * mean:.1f} % [{100 * lo:.1f}, {100 * hi:.1f}]"
        case float():
            return f"{value:.3g}"
        case tuple() | list():
            return ", ".join(map(_cell, value))
        case _:
            return "–" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
