"""The report's pictures, as inline SVG: intervals, the learning curve, the lineage, the task grid.

Colours come from the page's style sheet through class names, so that a picture follows the theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aegis.record import CurvePoint, FrontierPoint, Generation, Milestone, Scoreboard, SplitScores
from aegis.statistics import Interval
from aegis.views.markup import Html, join, tag
from aegis.views.notation import bounds, count, percent


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values ``lo … hi`` to pixels ``start … end``."""

    lo: float
    hi: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.lo) / (self.hi - self.lo) * (self.end - self.start)


def _svg(width: float, height: float, *children: Html, label: str, fluid: bool = False) -> Html:
    size = {"class_": "fluid"} if fluid else {"width": str(width), "height": str(height)}
    return tag("svg", *children, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, **size)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _label(text: str, x: float, y: float, class_: str = "", anchor: str = "middle") -> Html:
    return tag("text", text, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def _dot(x: float, y: float, radius: float, class_: str, title: str = "") -> Html:
    return tag("circle", tag("title", title) if title else None, cx=x, cy=y, r=radius, class_=class_)


def split_strip(scores: SplitScores) -> Html:
    """Baseline over final on one axis from 0 to 100 %, each with its interval."""
    x = Scale(0.0, 1.0, 6.0, 234.0)
    marks = [_line(x(0), 17, x(1), 17, "axis"), *(_line(x(t), 14, x(t), 20, "axis") for t in (0, 0.5, 1))]
    for interval, y, class_ in ((scores.baseline, 8.0, "baseline"), (scores.final, 26.0, "final")):
        if interval is not None:
            marks.append(_line(x(interval.lo), y, x(interval.hi), y, f"whisker {class_}"))
            marks.append(_dot(x(interval.mean), y, 4.5, class_))
    label = f"baseline {percent(scores.baseline)}, final {percent(scores.final)}"
    return _svg(240, 34, *marks, label=label)


def difference_reach(differences: Iterable[Interval | None]) -> float:
    """The half-width of an axis around zero on which all ``differences`` can be compared."""
    return max((abs(edge) for d in differences if d is not None for edge in (d.lo, d.hi)), default=0.0) or 0.1


def difference_strip(difference: Interval, reach: float, verdict: str) -> Html:
    """A difference and its interval about zero; ``reach`` is shared by the rows of a table."""
    x = Scale(-reach, reach, 4.0, 116.0)
    return _svg(
        120,
        16,
        _line(x(0), 1, x(0), 15, "zero"),
        _line(x(difference.lo), 8, x(difference.hi), 8, f"whisker {verdict}"),
        _dot(x(difference.mean), 8, 3.5, verdict),
        label="difference with its interval",
    )


def learning_curve(points: Sequence[CurvePoint], sealed: SplitScores, shipped: Mapping[int, str]) -> Html:
    """Pass rate by round, with intervals; the sealed baseline and final stand at the two ends.

    Args:
        points: one for each round; drawn in order of round.
        sealed: the sealed scores, where they have been read.
        shipped: what shipped in a round, by round.
    """
    points = sorted(points, key=lambda point: point.round)
    drawn = [i for p in points for i in (p.evolve, p.validation) if i]
    drawn += [i for i in (sealed.baseline, sealed.final) if i]
    lo = math.floor(min((i.lo for i in drawn), default=0.0) * 10) / 10
    hi = max(math.ceil(max((i.hi for i in drawn), default=1.0) * 10) / 10, lo + 0.1)
    width, height = 920.0, 340.0
    y = Scale(lo, hi, height - 52, 22)
    first, last = points[0].round, max(points[-1].round, points[0].round + 1)
    x = Scale(first, last, 146, width - 146)
    parts = [_curve_axes(y, width), *_curve_rounds(points, shipped, x, y)]
    parts += _series([(x(p.round), p.evolve) for p in points], y, "evolve", "evolve")
    parts += _series([(x(p.round) + 7, p.validation) for p in points], y, "validation", "validation")
    for at, interval, name in ((84.0, sealed.baseline, "baseline"), (width - 84, sealed.final, "final")):
        if interval is not None:
            parts += _series([(at, interval)], y, "sealed", f"sealed {name}")
            parts.append(_label(f"sealed {name}", at, height - 14, "sealed"))
            parts.append(_label(percent(interval), at, height - 30, "sealed strong"))
    return _svg(width, height, *parts, label="pass rate by round", fluid=True)


def _curve_axes(y: Scale, width: float) -> Html:
    ticks = range(round(y.lo * 10), round(y.hi * 10) + 1)
    step = 2 if len(ticks) > 7 else 1
    return join(
        *(
            join(
                _line(44, y(t / 10), width - 16, y(t / 10), "grid"),
                _label(f"{10 * t} %", 38, y(t / 10) + 4, "", "end"),
            )
            for t in ticks[::step]
        )
    )


def _curve_rounds(points: Sequence[CurvePoint], shipped: Mapping[int, str], x: Scale, y: Scale) -> list[Html]:
    stride = math.ceil(len(points) / 16)
    base = y(y.lo)
    parts: list[Html] = []
    for index, point in enumerate(points):
        if point.round in shipped:
            at = x(point.round)
            parts.append(_line(at, y(y.hi), at, base, "shipped"))
            mark = f"M{at - 5:.1f} {base + 3:.1f}h10l-5 -8z"
            parts.append(tag("path", tag("title", f"shipped {shipped[point.round]}"), d=mark, class_="ship"))
        if index % stride == 0:
            parts.append(_label(f"R{point.round}", x(point.round), base + 22))
    return parts


def _series(at: Sequence[tuple[float, Interval | None]], y: Scale, class_: str, name: str) -> list[Html]:
    known = [(x, interval) for x, interval in at if interval is not None]
    path = " ".join(f"{x:.1f},{y(interval.mean):.1f}" for x, interval in known)
    parts = [tag("polyline", points=path, class_=f"series {class_}")] if len(known) > 1 else []
    for x, interval in known:
        parts.append(_line(x, y(interval.lo), x, y(interval.hi), f"whisker {class_}"))
        parts.append(_dot(x, y(interval.mean), 4.0, class_, f"{name} {percent(interval)} ({bounds(interval)})"))
    return parts


def best_for_their_price(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """The points that no other one beats in both rate and tokens, cheapest first."""
    best: list[FrontierPoint] = []
    for point in sorted(points, key=lambda p: (p.tokens, -p.rate)):
        if not best or point.rate > best[-1].rate:
            best.append(point)
    return best


def frontier(points: Sequence[FrontierPoint]) -> Html:
    """Pass rate over tokens per attempt: generations joined where none is better for less, bought gains hollow."""
    width, height = 920.0, 340.0
    lo = math.floor(min(p.rate for p in points) * 10) / 10
    hi = max(math.ceil(max(p.rate for p in points) * 10) / 10, lo + 0.1)
    y = Scale(lo, hi, height - 52, 22)
    step = _round_step(max(p.tokens for p in points) / 6)
    x = Scale(0.0, step * math.ceil(max(p.tokens for p in points) * 1.08 / step), 44, width - 130)
    parts: list[Html] = [_curve_axes(y, width)]
    for tick in range(round(x.hi / step) + 1):
        parts.append(_label(count(tick * step), x(tick * step), height - 30))
    parts.append(_label("tokens per attempt", (44 + width - 130) / 2, height - 8))
    generations = [p for p in points if p.kind is Milestone.GENERATION]
    leading = best_for_their_price(generations)
    path = " ".join(f"{x(p.tokens):.1f},{y(p.rate):.1f}" for p in leading)
    parts += [tag("polyline", points=path, class_="series final")] if len(leading) > 1 else []
    at = {p.harness: p for p in generations}
    for point in points:
        here, bought = (x(point.tokens), y(point.rate)), point.kind is Milestone.BUDGET
        if bought and point.incumbent in at:
            parent = at[point.incumbent]
            parts.append(_line(x(parent.tokens), y(parent.rate), *here, "bought"))
        price = f"{count(point.tokens)} tokens an attempt, {point.attempts} attempts"
        said = f"{point.name}: {100 * point.rate:.1f} %, {price}"
        parts.append(_dot(*here, 5.0, "bought" if bought else "final", said))
        parts.append(_label(point.name, here[0] + 9, here[1] + 4, "" if bought else "strong", "start"))
    return _svg(width, height, *parts, label="pass rate over tokens per attempt", fluid=True)


def _round_step(size: float) -> float:
    """The next of 1, 2, 5, 10, 20, … that is at least ``size``."""
    power = 10.0 ** math.floor(math.log10(max(size, 1.0)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= size)


def lineage(generations: Sequence[Generation], tags: Mapping[str, str]) -> Html:
    """The tree of incumbents, oldest at the top; a second child of a harness opens a lane to the right.

    Args:
        generations: in the order they came to be; parents before children.
        tags: words to set beside a harness, by digest (``final``, ``peak``).
    """
    generations = list({g.digest: g for g in reversed(generations)}.values())[::-1]  # the first of each
    row, lane_width = 34.0, 22.0
    place: dict[str, tuple[int, int]] = {}
    continued: set[str] = set()
    lanes = 0
    for index, generation in enumerate(generations):
        if generation.parent in place and generation.parent not in continued:
            lane = place[generation.parent][1]
        else:
            lane, lanes = lanes, lanes + 1
        continued.add(generation.parent)
        place[generation.digest] = (index, lane)
    text_at = 20 + lanes * lane_width
    parts: list[Html] = []
    for generation in generations:
        index, lane = place[generation.digest]
        x, y = 16 + lane * lane_width, 20 + index * row
        if generation.parent in place:
            above, beside = place[generation.parent]
            start, top = 16 + beside * lane_width, 20 + above * row
            turn = f"C{start:.1f} {y:.1f} {x:.1f} {top:.1f} {x:.1f} {y:.1f}" if beside != lane else f"L{x:.1f} {y:.1f}"
            parts.insert(0, tag("path", d=f"M{start:.1f} {top:.1f}{turn}", class_="edge"))
        parts.append(_dot(x, y, 6.0, "node" if generation.parent in place else "node root"))
        parts.append(_generation_text(generation, text_at, y + 4.5, tags.get(generation.digest, "")))
    return _svg(900, 40 + (len(generations) - 1) * row, *parts, label="lineage of harnesses")


def _generation_text(generation: Generation, x: float, y: float, note: str) -> Html:
    title = generation.title if len(generation.title) <= 74 else f"{generation.title[:73]}…"
    span = [tag("tspan", f"{generation.digest[:8]}  ", class_="code")]
    if generation.candidate:
        span.append(tag("tspan", f"{generation.candidate}  ", class_="strong"))
    span.append(tag("tspan", title))
    if note:
        span.append(tag("tspan", f"  {note}", class_="sealed strong"))
    return tag("text", *span, tag("title", generation.title), x=x, y=y, class_="row")


def task_grid(scoreboard: Scoreboard, cluster: str, tasks: Sequence[str]) -> Html:
    """One cluster: a row for each round, a column for each task, the shade its pass rate."""
    cell, left, top = 16, 34, 4
    parts = []
    for row, record in enumerate(scoreboard.rounds):
        y = top + row * cell
        parts.append(_label(f"R{record.round}", left - 6, y + 11, "small", "end"))
        for column, task in enumerate(tasks):
            rate = record.rates.get(task)
            shade = (
                {"class_": "missing"}
                if rate is None
                else {"class_": "cell", "fill_opacity": f"{0.06 + 0.94 * rate:.2f}"}
            )
            said = f"{task} · round {record.round} · " + ("not run" if rate is None else f"{100 * rate:.0f} %")
            parts.append(
                tag(
                    "rect",
                    tag("title", said),
                    x=left + column * cell,
                    y=y,
                    width=14,
                    height=14,
                    rx=2,
                    **shade,
                )
            )
    width = left + max(len(tasks), 4) * cell + 4
    return _svg(width, top * 2 + len(scoreboard.rounds) * cell, *parts, label=f"pass rates of {cluster}")
