"""How often the sealed tasks of a benchmark were read, and which harnesses may be read on them (STATISTICS rule 10).

One run reads them once, for the three harnesses that its audit trail freezes beforehand. Many runs read them many
times, and so does ``aegis.evaluate``; whoever quotes the best of what they say has chosen by sealed tasks after all.
So each reading is on disk before its first rollout, a run's in its audit trail, an evaluation's in `RECORD` beside
the runs, and all those of one benchmark are counted, over the runs and sweeps that share a folder. One that was begun
counts: who stops it may have seen enough. Where a run has frozen its harnesses, `check_frozen` keeps others out.

Runs are held to the harnesses that they freeze themselves, by their audit trail. ``aegis.compare`` and
``aegis.report`` show what was read and read nothing; ``aegis.ablate`` plays validation tasks alone. What asks an
`aegis.evaluator.Evaluator` itself, as ``scripts/`` do, counts nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aegis.audit import append_line, whole_lines
from harnessx.errors import UserError

RECORD = "sealed.jsonl"
TRAIL = "audit.jsonl"
FROZEN = ("baseline", "final", "peak")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one evaluation read. All but the counts are digests; ``unsealed`` are the harnesses that no run froze."""

    benchmark: str
    model: str
    harnesses: tuple[str, ...]
    tasks: int
    attempts: int
    unsealed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Readings:
    """How often the sealed tasks of one benchmark were read in ``folders``."""

    folders: tuple[Path, ...]
    runs: int
    evaluations: int

    @property
    def line(self) -> str:
        """The count for whoever ends a reading; '' where it was the first."""
        if self.runs + self.evaluations < 2:
            return ""
        return (
            f"sealed tasks read by {_counted(self.runs, 'run')} and {_counted(self.evaluations, 'evaluation')} in "
            f"{', '.join(map(str, self.folders))}: the best of them, chosen by it, is no fair score"
        )


def frozen_entry(benchmark: str, harnesses: Mapping[str, str]) -> dict[str, str]:
    """The audit entry of a run that goes on to read sealed tasks: the digests of what it reads on which."""
    return {"event": "sealed", "benchmark": benchmark, **harnesses}


def readings(folders: Sequence[Path], benchmark: str) -> Readings:
    """The readings of the benchmark with this digest by runs in ``folders``, and by evaluations recorded there."""
    evaluations = [entry for folder in folders for entry in _entries(folder / RECORD)]
    return Readings(
        tuple(folders),
        len(_frozen(folders, benchmark)),
        sum(entry.get("benchmark") == benchmark for entry in evaluations),
    )


def said(folder: Path, benchmark: str) -> str:
    """`Readings.line` of the runs beside ``folder``, for the run in it."""
    return readings([folder.parent], benchmark).line


def beside(runs: Path, harnesses: Iterable[str | None]) -> tuple[Path, ...]:
    """Where readings count: the folder ``runs``, and those of the runs that the named ``harnesses`` were saved by."""
    folders = {runs.resolve(): runs}
    for name in harnesses:
        places = Path(name).resolve().parents if name is not None else ()
        saved = [place for place in places if (place / TRAIL).is_file()]
        if saved:
            folders.setdefault(saved[-1].parent, saved[-1].parent)
    return tuple(folders.values())


def check_frozen(folders: Sequence[Path], benchmark: str, named: Mapping[str, str], *, unseal: bool) -> tuple[str, ...]:
    """The digests of ``named`` (name: digest) that no run in ``folders`` froze, where any run froze some.

    Raises:
        UserError: there are such, and nobody asked to ``unseal``.
    """
    frozen = _frozen(folders, benchmark)
    known = {entry.get(name) for entry in frozen for name in FROZEN}
    others = {name: digest for name, digest in named.items() if frozen and digest not in known}
    for name, digest in others.items() if not unseal else ():
        raise UserError(
            f"harness={name} ({digest[:8]}) is none of the harnesses that {_counted(len(frozen), 'run')} in "
            f"{', '.join(map(str, folders))} froze for these sealed tasks: score it with split=validation, or set "
            "unseal=true, which is recorded"
        )
    return tuple(dict.fromkeys(others.values()))


def record(folders: Sequence[Path], reading: Reading) -> None:
    """Write that ``reading`` begins; it is on disk when this returns.

    Raises:
        UserError: it cannot be written.
    """
    for folder in folders:
        append_line(folder / RECORD, json.dumps(asdict(reading), sort_keys=True))


def _frozen(folders: Sequence[Path], benchmark: str) -> list[dict[str, Any]]:
    """The audit entries of the runs in ``folders`` that read the sealed tasks of this benchmark, or began to."""
    trails = sorted({trail.resolve() for folder in folders for trail in folder.glob(f"*/{TRAIL}")})
    found = [[e for e in _entries(trail) if e.get("event") == "sealed"] for trail in trails]
    return [entries[-1] for entries in found if entries and entries[-1].get("benchmark") == benchmark]


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    """The objects in an append-only file; a file that is none of ours holds none."""
    try:
        lines = whole_lines(file)
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"
