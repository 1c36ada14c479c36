"""Runs side by side in the terminal: sealed scores, what they cost, and how they differ pairwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aegis.record import Decision, SplitScores
from aegis.statistics import Interval, paired_difference
from aegis.views import notation
from aegis.views.folder import RunFolder
from aegis.views.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("baseline", "final", "peak", "gain", "shipped", "rollouts", "tokens", "time")


def show(runs: Sequence[Path | str]) -> None:
    """Print the comparison of ``runs``; the first is what the others are held against.

    Raises:
        UserError: one of them is not a run folder.
    """
    folders = [RunFolder.read(run) for run in runs]
    screen = console()
    screen.print(table(folders))
    for line in differences(folders):
        screen.print(line)


def table(runs: Sequence[RunFolder]) -> Table:
    """One row a run: sealed scores with 95 % intervals, edits shipped of proposed, and costs."""
    from rich.table import Table

    result = Table(title="Sealed tasks, mean and 95 % interval", title_justify="left", box=None, padding=(0, 2, 0, 0))
    result.add_column("run")
    for name in COLUMNS:
        result.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        result.add_row(run.name, *_cells(run))
    return result


def _cells(run: RunFolder) -> list[str]:
    summary = run.summary
    if summary is None:
        return ["not finished", *[""] * (len(COLUMNS) - 1)]
    sealed = summary.splits.get("sealed", SplitScores())
    return [
        *(notation.rate(score) for score in (sealed.baseline, sealed.final, sealed.peak)),
        notation.gain(sealed.difference),
        f"{len(summary.having(Decision.SHIP))} of {len(summary.candidates)}",
        notation.count(summary.rollouts),
        notation.count(summary.tokens),
        notation.duration(sum(summary.seconds.values())),
    ]


def differences(runs: Sequence[RunFolder]) -> Iterator[str]:
    """How each later run's final harness differs from the first run's, on the tasks both were sealed with."""
    reference, *others = runs
    for run in others:
        pair = f"{run.name} − {reference.name}"
        difference = _paired(reference, run)
        if difference is None:
            yield f"{pair}: not paired ({_unpaired(reference, run)})"
        else:
            size = f"{notation.gain(difference)} points, paired on {difference.n} tasks"
            yield f"{pair}, final harnesses: {size}"


def _unpaired(reference: RunFolder, run: RunFolder) -> str:
    """Why two runs cannot be paired."""
    unfinished = [r.name for r in (reference, run) if r.summary is None]
    if unfinished:
        return f"not finished: {', '.join(unfinished)}"
    unread = [r.name for r in (reference, run) if r.sealed is None]
    if unread:
        return f"sealed tasks not scored: {', '.join(unread)}"
    return "they need the same benchmark and the same sealed tasks"


def _paired(reference: RunFolder, run: RunFolder) -> Interval | None:
    if not (reference.summary and run.summary and reference.sealed and run.sealed):
        return None
    if reference.summary.digests.benchmark != run.summary.digests.benchmark:
        return None
    before, after = reference.sealed.final, run.sealed.final
    if not before or before.keys() != after.keys():
        return None
    return paired_difference(_single(before), _single(after), seed=0)


def _single(rates: Mapping[str, float]) -> dict[str, list[float]]:
    return {task: [rate] for task, rate in rates.items()}
