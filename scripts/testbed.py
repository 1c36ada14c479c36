"""Judges the gate where the truth is known, and writes the tables.

    python scripts/testbed.py                      # all studies, about half an hour on two cores
    python scripts/testbed.py power drift --share 0.1

Each study of ``python -m aegis.testbed`` goes to ``results/testbed_<study>.json``, with its seed, the
commit and the versions. The default gate is held to the most simulated runs, the rules it is compared with
to fewer; every row says how many.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from aegis.testbed.null import PLANS

RUNS = {"null": 1000, "power": 2000, "drift": 200, "conflict": 40}
HELD = 2
"""The first rules are the default gate: tested to the end, and as it comes."""
OTHERS = 100
"""Runs of the rules that it is compared with."""


def main() -> None:
    """Run the studies asked for, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"{', '.join(RUNS)}; none named: all of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the runs, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    for study in set(arguments.studies) - set(RUNS):
        parser.error(f"no study is called {study!r}; valid: {', '.join(RUNS)}")
    for study in arguments.studies or RUNS:
        found = _null(arguments) if study == "null" else _study(study, _runs(RUNS[study], arguments), arguments.seed)
        path = arguments.out / f"testbed_{study}.json"
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(path, flush=True)


def _null(arguments: argparse.Namespace) -> dict[str, Any]:
    default, others = list(PLANS)[:HELD], list(PLANS)[HELD:]
    found = _study("null", _runs(RUNS["null"], arguments), arguments.seed, *default)
    further = _study("null", _runs(OTHERS, arguments), arguments.seed, *others)
    return {**found, "rows": [*found["rows"], *further["rows"]]}


def _runs(count: int, arguments: argparse.Namespace) -> int:
    return max(2, round(count * arguments.share))


def _study(name: str, runs: int, seed: int, *rules: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "aegis.testbed", name, "--runs", str(runs), "--seed", str(seed), "--json"]
    if rules:
        command += ["--rules", *rules]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


if __name__ == "__main__":
    main()
