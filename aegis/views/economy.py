"""What a run says about price: tokens per solved task, the gap to the sealed tasks, idle edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegis.evaluator import SPLITS
from aegis.record import HarnessCost, Summary
from aegis.record_ablation import Ablation, LeftOut, Place
from aegis.statistics import Interval
from aegis.views import charts, notation
from aegis.views.markup import Html, join, tag

HARNESSES = ("baseline", "final", "peak")
BADGES: Mapping[Place, str] = {Place.EARNS: "ship", Place.NO_LONGER: "reject", Place.UNDECIDED: "undecided"}


def prices(summary: Summary) -> list[tuple[str, list[str]]]:
    """By split: what one solved task costs baseline, final and peak."""
    measured = [(split, summary.costs[split]) for split in SPLITS if split in summary.costs]
    return [(split, [_price(by_name.get(name)) for name in HARNESSES]) for split, by_name in measured]


def growth(summary: Summary) -> str:
    """What an attempt of the final harness costs beside one of H_0, in a line; '' where it was not measured."""
    found = []
    for split in SPLITS:
        before, after = (summary.costs.get(split, {}).get(name) for name in ("baseline", "final"))
        if before is not None and after is not None and before.tokens and before.attempts and after.attempts:
            found.append(f"{(after.tokens / after.attempts) / (before.tokens / before.attempts):.2f} on {split}")
    return f"tokens of an attempt, final over baseline: {', '.join(found)}" if found else ""


def _price(cost: HarnessCost | None) -> str:
    return notation.UNSCORED if cost is None else notation.price(cost.tokens_per_solved, cost.dollars_per_solved)


def gaps(summary: Summary) -> str:
    """The gaps between evolve and sealed, in a line; '' where none was measured."""
    rates = [f"{name} {notation.gain(summary.gaps[name])}" for name in HARNESSES if name in summary.gaps]
    if not rates:
        return ""
    line = f"evolve − sealed, points: {', '.join(rates)}"
    return line + (f"; of the gain {notation.gain(summary.gaps['gain'])}" if "gain" in summary.gaps else "")


def price_rows(summary: Summary) -> list[Html]:
    """Rows of the report's table: a split, then tokens and money per solved task, and its attempts."""
    rows = []
    for split, cells in prices(summary):
        counts = [summary.costs[split].get(name) for name in HARNESSES]
        below = [f"{notation.count(c.solved)} of {notation.count(c.attempts)} attempts" if c else "" for c in counts]
        written = (tag("td", said, tag("small", note), class_="num") for said, note in zip(cells, below, strict=True))
        rows.append(tag("tr", tag("td", split.capitalize()), *written))
    return rows


def gap_row(interval: Interval | None) -> Html:
    """A cell with a gap and its bounds."""
    return tag("td", notation.points(interval), tag("small", notation.point_bounds(interval)), class_="num")


def ablation_rows(found: Ablation) -> list[Html]:
    """A row for each edit that was left out, and one for all that are idle."""
    tested: Sequence[LeftOut] = (*found.edits, *([found.together] if found.together else []))
    reach = charts.difference_reach(left_out.effect for left_out in tested)
    return [_left_out(left_out, reach) for left_out in tested]


def _left_out(left_out: LeftOut, reach: float) -> Html:
    fallen = f"with {', '.join(left_out.fallen)}, which does not apply without" if left_out.fallen else ""
    effect = join(notation.UNSCORED)
    if left_out.effect is not None:
        strip = charts.difference_strip(left_out.effect, reach, BADGES[left_out.verdict])
        effect = join(strip, tag("small", notation.gain(left_out.effect)))
    needed = f"of {notation.significant(1 / left_out.alpha)}" if left_out.alpha else ""
    return tag(
        "tr",
        tag("td", *(tag("div", tag("code", name)) for name in left_out.candidates), class_="ids"),
        tag("td", left_out.title, tag("small", fallen), class_="title"),
        tag("td", tag("span", left_out.verdict, class_=f"badge {BADGES[left_out.verdict]}")),
        tag("td", notation.significant(left_out.e_value), tag("small", needed), class_="num"),
        tag("td", notation.count(left_out.pairs), class_="num"),
        tag("td", effect),
    )
