"""An ablation for people: a table in the terminal, a page beside its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aegis.record_ablation import Ablation, LeftOut, Place
from aegis.views import notation
from aegis.views.terminal import console

COLUMNS = ("verdict", "what it brings", "E-value", "pairs", "differ")


def show(found: Ablation, run: Path | str) -> None:
    """Print the ablation of ``run``."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), title="The final harness without …", title_justify="left")
    table.add_column("edit")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for left_out in _all(found):
        style = {Place.EARNS: "green", Place.NO_LONGER: "red", Place.UNDECIDED: "yellow"}[left_out.verdict]
        table.add_row(_named(left_out), Text(left_out.verdict, style), *_figures(left_out))
    screen = console()
    screen.print(table)
    for line in _closing(found, f"{Path(run) / 'ablation/proposed'}"):
        screen.print(line)
    screen.print(f"page: {Path(run) / 'ablation/ablation.md'}")


def markdown(found: Ablation) -> str:
    """The page ``ablation.md``."""
    lines = ["# Ablation", "", f"The final harness `{found.final[:12]}` without each of its edits in turn.", ""]
    lines += [f"| edit | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for left_out in _all(found):
        cells = (_named(left_out), f"**{left_out.verdict}**", *_figures(left_out))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines += ["", *(f"* {'+'.join(a.candidates)}: {a.reason}" for a in _all(found)), ""]
    return "\n".join([*lines, *(f"{line}\n" for line in _closing(found, "proposed/"))])


def _all(found: Ablation) -> tuple[LeftOut, ...]:
    return found.edits if found.together is None else (*found.edits, found.together)


def _named(left_out: LeftOut) -> str:
    fallen = f" (and {', '.join(left_out.fallen)}, which does not apply without)" if left_out.fallen else ""
    return f"{' + '.join(left_out.candidates)} {left_out.title}{fallen}"


def _figures(left_out: LeftOut) -> tuple[str, ...]:
    needed = f" of {notation.significant(1 / left_out.alpha)}" if left_out.alpha else ""
    return (
        notation.gain(left_out.effect),
        f"{notation.significant(left_out.e_value)}{needed}",
        notation.count(left_out.pairs),
        notation.count(left_out.diverged),
    )


def _closing(found: Ablation, bundle: str) -> Iterator[str]:
    yield (
        f"What an edit brings is final − left out, in points, with a 95 % interval. {found.guarantee}. One that brings "
        f"{100 * found.mei:g} points or more is said not to earn its place with probability at most 1/10."
    )
    idle = [edit for edit in found.edits if edit.verdict is Place.NO_LONGER]
    if found.together is not None and found.together.verdict is not Place.NO_LONGER:
        yield (
            f"Together, {' and '.join(found.together.candidates)} are not shown to be idle "
            f"({found.together.verdict}), so only the one that brings least is proposed for removal."
        )
    if found.proposed is not None:
        yield f"Proposed: the final harness without {' and '.join(found.removed)}, in {bundle}"
    elif idle:
        yield "No removal is proposed: the final harness is the same without what is idle."
    else:
        yield "No removal is proposed."
    if found.hosts:
        yield notation.reachable(found.hosts)
    calls = found.model_calls
    yield (
        f"{notation.count(found.rollouts)} rollouts, {notation.count(calls.made)} model calls made and "
        f"{notation.count(calls.replayed)} replayed, {notation.count(found.tokens)} tokens"
    )
