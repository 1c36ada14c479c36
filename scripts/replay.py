"""What prefix replay saves: model calls of the candidates' arms in the confirmations of finished runs.

    python scripts/replay.py results/household/run-a results/household/run-b --out results/replay.json

By bucket, and apart for edits that leave the first request of a rollout as it was (a call was replayed in
some pair) and those that change it (none ever was).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aegis.provenance import publish
from aegis.record import CandidateRecord
from aegis.views.folder import RunFolder


def main() -> None:
    """Read the runs, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, help="where the table goes; left out: it is printed")
    arguments = parser.parse_args()
    folders = [RunFolder.read(path) for path in arguments.runs]
    confirmed = [c for folder in folders for c in folder.candidates if c.pairs]
    table = {
        "runs": len(folders),
        "seeds": [seed for folder in folders if folder.summary is not None for seed in folder.summary.seeds],
        "later_request": _by_bucket(c for c in confirmed if c.calls.candidate.replayed),
        "first_request": _by_bucket(c for c in confirmed if not c.calls.candidate.replayed),
    }
    publish(table, arguments.out)


def _by_bucket(candidates: Iterable[CandidateRecord]) -> dict[str, dict[str, Any]]:
    """Per bucket, and over ``all``: candidates, model calls of their arm, and the share that was replayed."""
    rows: dict[str, list[CandidateRecord]] = defaultdict(list)
    for candidate in candidates:
        rows["+".join(sorted(candidate.bucket))].append(candidate)
        rows["all"].append(candidate)
    return {name: _row(rows[name]) for name in sorted(rows)}


def _row(candidates: list[CandidateRecord]) -> dict[str, Any]:
    made = sum(c.calls.candidate.made for c in candidates)
    replayed = sum(c.calls.candidate.replayed for c in candidates)
    pairs = sum(c.pairs for c in candidates)
    return {
        "candidates": len(candidates),
        "pairs": pairs,
        "diverged_share": sum(c.diverged for c in candidates) / pairs,
        "calls": made + replayed,
        "replayed_share": replayed / (made + replayed),
    }


if __name__ == "__main__":
    main()
