"""What a finished run prints: the splits before and after, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.record import Decision, Summary
from aegis.views import economy, notation, wording

if TYPE_CHECKING:
    from rich.console import Group

ORDER = ("evolve", "validation", "sealed")


def summary_table(summary: Summary) -> Group:
    """A rich renderable: pass rates with 95 % intervals by split, shipped edits, costs and times."""
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    # A rate and its interval stand on two lines, so that the table fits 80 columns.
    scores = Table(box=None, padding=(0, 2, 0, 0))
    scores.add_column("split", no_wrap=True)
    for name in ("baseline", "final", "peak", "difference", "tasks"):
        scores.add_column(name, justify="right", no_wrap=True)
    for name, split in sorted(summary.splits.items(), key=lambda item: ORDER.index(item[0])):
        rates = (split.baseline, split.final, split.peak)
        n = next((notation.count(rate.n) for rate in rates if rate is not None), notation.UNSCORED)
        style = "bold" if name == "sealed" else ""
        cells = [f"{notation.percent(rate)}\n{notation.bounds(rate)}" for rate in rates]
        gain = f"{notation.points(split.difference)}\n{notation.point_bounds(split.difference)}"
        scores.add_row(name, *cells, gain, n, style=style)
    price = Table(box=None, padding=(0, 2, 0, 0), title="per solved task", title_justify="left", title_style="dim")
    price.add_column("split", no_wrap=True)
    for name in economy.HARNESSES:
        price.add_column(name, justify="right", no_wrap=True)
    for name, cells in economy.prices(summary):
        price.add_row(name, *cells)
    lasting = [Text(line) for line in (economy.growth(summary), economy.gaps(summary))]
    spent: list[RenderableType] = [price, Text(), *lasting, Text()] if summary.costs else []
    shipped = summary.having(Decision.SHIP)
    lines = [Text(f"{len(shipped)} of {len(summary.candidates)} edits shipped in {summary.rounds} rounds", "bold")]
    lines += [Text(f"  {c.id}  {c.title} ({', '.join(c.bucket)})") for c in shipped]
    lines += [Text(f"  R{d.round}  drift: {wording.DRIFT_ACTIONS[d.action]}: {d.reason}") for d in summary.drift]
    lines += [Text(text) for text in gaps(summary)]
    return Group(scores, Text(), *spent, *lines, Text(), Text(cost(summary)), Text(times(summary), "dim"))


def gaps(summary: Summary) -> list[str]:
    """What the table could not be made of (splits without scores, rollouts that could not be run), and open hosts."""
    lines = []
    for reason in dict.fromkeys(summary.unscored.values()):
        splits = ", ".join(split for split, why in summary.unscored.items() if why == reason)
        lines.append(f"not scored: {splits}: {reason}; to go on, resume with a larger one")
    if summary.missing:
        lines.append(f"missing: {notation.count(summary.missing)} rollouts could not be run, and count nowhere")
    if summary.hosts:
        lines.append(notation.reachable(summary.hosts))
    return lines


def cost(summary: Summary) -> str:
    """Rollouts, model calls, tokens and money, in a line."""
    calls = summary.model_calls
    meta = ""
    if (asked := summary.meta) is not None:
        meta = (
            f"; the meta-agent's {notation.count(asked.sessions)} sessions {notation.count(asked.tokens)} tokens, "
            f"cost {notation.dollars(asked.dollars)}"
        )
    return (
        f"{notation.count(summary.rollouts)} rollouts, {notation.count(calls.made)} model calls made and "
        f"{notation.count(calls.replayed)} replayed, {notation.count(summary.tokens)} tokens, "
        f"cost {notation.dollars(summary.dollars)}{meta}; stopped: {summary.stopped}"
    )


def times(summary: Summary) -> str:
    """Wall time, whole and by stage, in a line."""
    stages = ", ".join(f"{stage} {notation.duration(seconds)}" for stage, seconds in summary.seconds.items())
    return f"{notation.duration(sum(summary.seconds.values()))}: {stages}" if stages else ""
