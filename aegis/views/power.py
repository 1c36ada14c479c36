"""The table of what a gate can confirm, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aegis.statistics.power import POWERS, PlannedTest, PowerRow
from aegis.views import notation
from aegis.views.terminal import console

if TYPE_CHECKING:
    from rich.console import Group


def show(
    test: PlannedTest,
    noise: float,
    rows: Sequence[PowerRow],
    smallest: Mapping[float, float | None],
    tokens: int | None,
) -> None:
    """Print it."""
    console().print(table(test, noise, rows, smallest, tokens))


def table(
    test: PlannedTest,
    noise: float,
    rows: Sequence[PowerRow],
    smallest: Mapping[float, float | None],
    tokens: int | None,
) -> Group:
    """A rich renderable: a row per gain and scope; ``tokens`` per rollout adds a price."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = (
        f"level {test.alpha:.4g} a decision, at most {notation.count(test.cap)} pairs; two attempts of one harness "
        f"differ with chance {noise:.3g}"
    )
    grid = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("gain", "acts on", *(f"pairs for {100 * power:.0f} %" for power in POWERS), "power at the cap",
                 "candidate", "incumbent", *(["tokens"] if tokens else [])):  # fmt: skip
        grid.add_column(name, justify="right")
    for row in rows:
        pairs = [notation.UNSCORED if n is None else notation.count(n) for n in row.pairs]
        both = row.candidate + row.incumbent
        price = [notation.count(round(both * tokens))] if tokens else []
        grid.add_row(
            f"+{100 * row.gain:.0f}", f"{100 * row.scope:.0f} %", *pairs, f"{100 * row.power:.0f} %",
            notation.count(round(row.candidate)), notation.count(round(row.incumbent)), *price,
        )  # fmt: skip
    found = ", ".join(
        f"{'none' if gain is None else f'+{100 * gain:.1f}'} on {100 * scope:.0f} %" for scope, gain in smallest.items()
    )
    return Group(
        Text(head), Text(), grid, Text(),
        Text(f"smallest gain in points that ships with power 80 %, by share of attempts acted on: {found}"),
        Text("candidate, incumbent: mean rollouts of a confirmation; the incumbent's serve all candidates of a round"),
    )  # fmt: skip
