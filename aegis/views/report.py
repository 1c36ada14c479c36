"""``report.html``: a run on one self-contained page: no script, no network, nothing unescaped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from aegis.record import CandidateRecord, Decision, Milestone, SplitScores
from aegis.views import charts, economy, notation, wording
from aegis.views.folder import RunFolder
from aegis.views.markup import Html, join, tag
from harnessx.errors import UserError

SPLITS = ("evolve", "validation", "sealed")


def render(run_dir: Path | str) -> str:
    """The report of the run at ``run_dir`` as HTML. An unfinished run shows what there is of it.

    Raises:
        UserError: not a run folder, or a record in it cannot be read.
    """
    run = RunFolder.read(run_dir)
    sections = (
        _header, _headline, _prices, _curve, _frontier, _edits, _drift, _ablation, _lineage, _grid, _cost, _rounds,
        _limits, _provenance,
    )  # fmt: skip
    body = tag("main", *(section(run) for section in sections))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{run.name}: harness evolution"),
        tag("style", Html((Path(__file__).parent / "report.css").read_text(encoding="utf-8"))),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def write(run_dir: Path | str) -> Path:
    """Render the report into the run folder, atomically; its path.

    Raises:
        UserError: as `render`, or the folder cannot be written.
    """
    target = Path(run_dir) / "report.html"
    page = render(run_dir)
    draft = target.with_suffix(".html.tmp")
    try:
        draft.write_text(page, encoding="utf-8")
        os.replace(draft, target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}; make a copy of the run and render that") from error
    return target


def _section(title: str, *content: str | None) -> Html:
    return tag("section", tag("h2", title), *content)


def _table(head: Sequence[tuple[str, str]], rows: Sequence[Html], class_: str = "") -> Html:
    """``head`` pairs a column's title with its class; wide tables scroll inside the page."""
    columns = tag("tr", *(tag("th", title, class_=kind or None, scope="col") for title, kind in head))
    table = tag("table", tag("thead", columns), tag("tbody", *rows), class_=class_ or None)
    return tag("div", table, class_="scroll", tabindex=0)


def _header(run: RunFolder) -> Html:
    facts = wording.identity(run)
    return tag(
        "header",
        tag("h1", run.name),
        tag("p", *_emphasized(wording.lead(run)), class_="lead"),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts"),
        *(tag("p", text, class_="note") for text in wording.guarantee(run)),
    )


def _emphasized(text: str) -> list[str]:
    """``*…*`` becomes bold; every piece is escaped by `tag`."""
    return [tag("b", piece) if index % 2 else piece for index, piece in enumerate(text.split("*"))]


def _headline(run: RunFolder) -> Html | None:
    if run.summary is None:
        return None
    splits = run.summary.splits
    rows = [_split_row(name, splits[name]) for name in SPLITS if name in splits]
    head = [
        ("", ""),
        ("Baseline", "num"),
        ("Final", "num"),
        ("Peak", "num"),
        ("Final − baseline, paired", "num"),
    ]
    return _section(
        "Before and after",
        _table([*head, ("Tasks", "num"), ("0 … 100 %", "")], rows, "headline"),
        tag("p", wording.SPLIT_ROLES, class_="note"),
    )


def _split_row(name: str, scores: SplitScores) -> Html:
    def cell(main: str, below: str) -> Html:
        return tag("td", tag("span", main, class_="big"), tag("small", below), class_="num")

    rates = (scores.baseline, scores.final, scores.peak)
    n = next((interval.n for interval in rates if interval is not None), None)
    return tag(
        "tr",
        tag("td", name.capitalize()),
        *(cell(notation.percent(rate), notation.bounds(rate)) for rate in rates),
        cell(notation.points(scores.difference), notation.point_bounds(scores.difference)),
        tag("td", notation.UNSCORED if n is None else notation.count(n), class_="num"),
        tag("td", charts.split_strip(scores)),
    )


def _prices(run: RunFolder) -> Html | None:
    if run.summary is None or not run.summary.costs:
        return None
    head = [("", ""), ("Baseline", "num"), ("Final", "num"), ("Peak", "num")]
    known = run.summary.gaps
    names = (*economy.HARNESSES, "gain")
    row = tag("tr", tag("td", "Evolve − sealed"), *(economy.gap_row(known.get(name)) for name in names))
    return _section(
        "What a solved task costs, and what carries over",
        _table(head, economy.price_rows(run.summary)),
        tag("p", wording.PRICES, class_="note"),
        tag("p", f"{economy.growth(run.summary).capitalize()}.", class_="note"),
        _table([*head, ("Of the gain", "num")], [row]) if known else None,
        tag("p", wording.GAPS, class_="note") if known else None,
    )


def _frontier(run: RunFolder) -> Html | None:
    if not any(point.kind is Milestone.GENERATION for point in run.frontier):
        return None
    bought = any(point.kind is Milestone.BUDGET for point in run.frontier)
    keys = ("generation", "bought") if bought else ("generation",)
    said = wording.FRONTIER + (wording.BOUGHT if bought else "")
    legend = (join(tag("span", class_=f"key {key}"), wording.KEYS[key]) for key in keys)
    picture = tag("div", charts.frontier(run.frontier), class_="scroll", tabindex=0)
    return _section("Accuracy and cost", tag("figure", picture, tag("figcaption", *legend, tag("br"), said)))


def _ablation(run: RunFolder) -> Html | None:
    if run.ablation is None:
        return None
    head = [("Left out", ""), ("Edit", "title"), ("Verdict", ""), ("E-value", "num"), ("Pairs", "num")]
    said = f"{run.ablation.guarantee}. {wording.ABLATION}"
    rows = economy.ablation_rows(run.ablation)
    return _section(
        "Do they still earn their place?",
        _table([*head, ("Final − left out", "")], rows),
        tag("p", said, class_="note"),
    )


def _curve(run: RunFolder) -> Html | None:
    if not run.curves.rounds:
        return None
    sealed = run.summary.splits.get("sealed", SplitScores()) if run.summary else SplitScores()
    shipped: dict[int, str] = {}
    for candidate in run.candidates:
        if candidate.verdict is Decision.SHIP:
            shipped[candidate.round] = ", ".join(filter(None, (shipped.get(candidate.round), candidate.id)))
    keys = [
        ("evolve", True),
        ("validation", any(point.validation for point in run.curves.rounds)),
        ("sealed", bool(sealed.baseline or sealed.final)),
        ("ship", bool(shipped)),
    ]
    legend = (join(tag("span", class_=f"key {key}"), wording.KEYS[key]) for key, there in keys if there)
    picture = tag("div", charts.learning_curve(run.curves.rounds, sealed, shipped), class_="scroll", tabindex=0)
    caption = tag("figcaption", *legend, tag("br"), wording.CURVE)
    return _section("Learning curve", tag("figure", picture, caption))


def _edits(run: RunFolder) -> Html | None:
    if not run.candidates:
        return None
    reach = charts.difference_reach(candidate.difference for candidate in run.candidates)
    shipped = [c for c in run.candidates if c.verdict is Decision.SHIP]
    rest = [c for c in run.candidates if c.verdict is not Decision.SHIP]
    return join(
        _section("Edits that shipped", _candidates(shipped, reach), *_predictions(run)),
        _section("Edits that did not ship", _candidates(rest, reach), tag("p", wording.CANDIDATES, class_="note")),
    )


def _predictions(run: RunFolder) -> list[Html]:
    said = wording.predictions(run.summary) if run.summary is not None else ""
    return [tag("p", said, class_="note")] if said else []


def _candidates(candidates: Sequence[CandidateRecord], reach: float) -> Html:
    if not candidates:
        return tag("p", "None.", class_="note")
    head = [
        ("Candidate", ""),
        ("Edit", "title"),
        ("Decided by", "reason"),
        ("E-value", "num"),
        ("Pairs", "num"),
        ("Candidate − incumbent", ""),
        ("Model calls", "num"),
    ]
    scored = any(candidate.hit_rate is not None for candidate in candidates)
    if scored:
        head.append(("Hit rate", "num"))
    return _table(head, [_candidate_row(candidate, reach, scored) for candidate in candidates])


def _candidate_row(candidate: CandidateRecord, reach: float, scored: bool) -> Html:
    calls, verdict = candidate.calls, candidate.verdict
    made = calls.incumbent.made + calls.candidate.made
    replayed = calls.incumbent.replayed + calls.candidate.replayed
    needed = (
        None if not candidate.alpha or candidate.e_value is None else f"of {notation.significant(1 / candidate.alpha)}"
    )
    difference = join(notation.UNSCORED)
    if candidate.difference is not None:
        said = f"{notation.points(candidate.difference)} ({notation.point_bounds(candidate.difference)})"
        difference = join(charts.difference_strip(candidate.difference, reach, verdict), tag("small", said))
    rate, error = candidate.hit_rate, candidate.brier
    hit = tag(
        "td",
        notation.UNSCORED if rate is None else f"{100 * rate:.0f} %",
        tag("small", "" if candidate.chance is None else f"{100 * candidate.chance:.0f} % by chance"),
        tag("small", "" if error is None else f"Brier {error:.2f}"),
        class_="num",
    )
    return tag(
        "tr",
        tag("td", tag("code", candidate.id), tag("br"), _badge(verdict), _flag(candidate)),
        tag("td", candidate.title, tag("small", ", ".join(candidate.bucket)), class_="title"),
        tag("td", tag("b", candidate.check), candidate.reason, class_="reason"),
        tag("td", notation.significant(candidate.e_value), tag("small", needed or ""), class_="num"),
        _counted(candidate.pairs, f"{notation.count(candidate.diverged)} differ"),
        tag("td", difference),
        _counted(made + replayed, f"{notation.count(made)} made"),
        hit if scored else None,
    )


def _counted(number: int, of_which: str) -> Html:
    if number == 0:
        return tag("td", notation.UNSCORED, class_="num")
    return tag("td", notation.count(number), tag("small", of_which), class_="num")


def _badge(verdict: Decision) -> Html:
    return tag("span", wording.VERDICTS[verdict], class_=f"badge {verdict}")


def _drift(run: RunFolder) -> Html | None:
    if not run.drift:
        return None
    rows = [
        tag(
            "tr",
            tag("td", f"R{d.round}"),
            tag("td", tag("code", d.current[:8]), tag("small", "against ", tag("code", d.best[:8]))),
            tag("td", tag("b", wording.DRIFT_ACTIONS[d.action]), d.reason, class_="reason"),
            tag("td", notation.significant(d.e_value), tag("small", "of 20"), class_="num"),
            _counted(d.pairs + d.check_pairs, f"{notation.count(d.check_pairs)} to check"),
            tag("td", notation.points(d.difference), tag("small", notation.point_bounds(d.difference)), class_="num"),
        )
        for d in run.drift
    ]
    head = [("Round", ""), ("Harness", ""), ("What came of it", "reason"), ("E-value", "num"), ("Pairs", "num"),
            ("Current − best", "num")]  # fmt: skip
    return _section("Drift", _table(head, rows), tag("p", wording.DRIFT, class_="note"))


def _flag(candidate: CandidateRecord) -> Html | None:
    return tag("small", wording.FLAGGED, class_="flagged") if candidate.flagged else None


def _lineage(run: RunFolder) -> Html | None:
    if not run.generations:
        return None
    notes: dict[str, str] = {}
    if run.summary is not None:
        for name in ("peak", "final"):
            digest = getattr(run.summary.digests, name)
            if digest:
                notes[digest] = f"{name} · {notes[digest]}" if digest in notes else name
    picture = tag("div", charts.lineage(run.generations, notes), class_="scroll", tabindex=0)
    return _section("Lineage", tag("figure", picture, tag("figcaption", wording.LINEAGE)))


def _grid(run: RunFolder) -> Html | None:
    rounds = run.scoreboard.rounds
    if not rounds:
        return None
    clusters: dict[str, list[str]] = {}
    for task in sorted({task for record in rounds for task in record.rates}):
        clusters.setdefault(run.scoreboard.clusters.get(task, "") or "all tasks", []).append(task)

    def mean(task: str) -> float:
        rates = [record.rates[task] for record in rounds if task in record.rates]
        return sum(rates) / len(rates)

    blocks = []
    for cluster, tasks in sorted(clusters.items()):
        ordered = sorted(tasks, key=lambda task: (mean(task), task))
        heading = tag("h3", cluster, tag("small", f"  {len(tasks)} tasks"))
        blocks.append(tag("div", heading, charts.task_grid(run.scoreboard, cluster, ordered), tabindex=0))
    return _section("Task by task", tag("p", wording.GRID, class_="note"), tag("div", *blocks, class_="clusters"))


def _cost(run: RunFolder) -> Html | None:
    summary = run.summary
    if summary is None:
        return None
    calls = summary.model_calls
    whole = sum(summary.seconds.values())
    saved = notation.share(calls.replayed, calls.made + calls.replayed)
    facts = (
        ("Rollouts", notation.count(summary.rollouts)),
        ("Calls made", notation.count(calls.made)),
        ("Calls replayed", f"{notation.count(calls.replayed)} ({saved})"),
        ("Tokens", notation.count(summary.tokens)),
        ("Cost", notation.dollars(summary.dollars)),
        ("Wall time", notation.duration(whole)),
    )
    longest = max(summary.seconds.values(), default=0.0) or 1.0
    bars = [
        join(
            tag("span", stage),
            tag("i", style=f"width:{100 * seconds / longest:.1f}%"),
            tag(
                "span",
                f"{notation.duration(seconds)} · {100 * seconds / (whole or 1):.0f} %",
                class_="num small",
            ),
        )
        for stage, seconds in summary.seconds.items()
    ]
    return _section(
        "Cost and time",
        tag(
            "dl",
            *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts),
            class_="facts six",
        ),
        tag("div", *bars, class_="bars") if bars else None,
    )


def _rounds(run: RunFolder) -> Html | None:
    if not run.rounds:
        return None
    rows = [
        tag(
            "tr",
            tag("td", f"R{r.round}"),
            tag("td", tag("code", r.incumbent[:8])),
            tag("td", notation.percent(r.evolve), tag("small", notation.bounds(r.evolve)), class_="num"),
            tag("td", str(len(r.candidates)), class_="num"),
            tag("td", ", ".join(r.shipped) or notation.UNSCORED),
            tag("td", " ".join(filter(None, (r.stop, r.strategy_concern))), class_="reason"),
        )
        for r in run.rounds
    ]
    head = [
        ("Round", ""),
        ("Incumbent", ""),
        ("Evolve", "num"),
        ("Candidates", "num"),
        ("Shipped", ""),
        ("Remarks", ""),
    ]
    return _section("Rounds", _table(head, rows))


def _limits(run: RunFolder) -> Html:
    paragraphs = (tag("p", text) for text in wording.limits(run))
    return _section("What this shows, and what it does not", tag("div", *paragraphs, class_="statement"))


def _provenance(run: RunFolder) -> Html:
    folds: list[tuple[str, Callable[[RunFolder], str]]] = [
        ("Journal", lambda run: run.journal),
        ("Versions", wording.versions),
        ("Digests", wording.digests),
        ("Configuration", wording.configuration),
    ]
    written = [(title, text(run)) for title, text in folds]
    return _section(
        "To repeat it",
        *(tag("details", tag("summary", title), tag("pre", text)) for title, text in written if text),
    )
