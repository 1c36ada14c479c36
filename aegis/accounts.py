"""What a run's final evaluation says beyond pass rates: prices, gaps, and the accuracy-cost frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegis.evaluator import EVOLVE, SEALED, Evaluation
from aegis.gate.cost import CostMatched
from aegis.gate.ruling import Ruling
from aegis.record import FrontierPoint, HarnessCost, Milestone
from aegis.round import Round
from aegis.statistics import ByTask, Interval, unpaired_difference
from harnessx.runner.jobs import RolloutResult

Measured = Mapping[str, Mapping[str, Evaluation]]
"""By split, then baseline, final and peak."""


def costs(measured: Measured) -> dict[str, dict[str, HarnessCost]]:
    """What each harness's attempts on each split cost."""
    return {split: {name: cost(e.results) for name, e in by_name.items()} for split, by_name in measured.items()}


def cost(results: Sequence[RolloutResult]) -> HarnessCost:
    """What the attempts that could be run cost."""
    ran = [result for result in results if not result.missing]
    solved = sum(result.passed for result in ran)
    tokens = sum(result.tokens for result in ran)
    prices = [result.cost_usd for result in ran if result.model_calls]
    known = [price for price in prices if price is not None]
    dollars = sum(known) if len(known) == len(prices) else None
    return HarnessCost(
        attempts=len(ran),
        solved=solved,
        tokens=tokens,
        dollars=dollars,
        tokens_per_solved=tokens / solved if solved else None,
        dollars_per_solved=dollars / solved if solved and dollars is not None else None,
    )


def gaps(measured: Measured, seed: int) -> dict[str, Interval]:
    """Evolve − sealed: of each harness's pass rate, and of the gain. What was not measured is left out.

    The tasks of the two splits differ, so a harness's own gap may be one of difficulty. That of the gain
    is not: each task is its own control there.
    """
    found: dict[str, Interval] = {}
    if not {SEALED, EVOLVE} <= measured.keys():
        return found
    sealed, evolve = measured[SEALED], measured[EVOLVE]
    for name in evolve:
        if sealed[name].outcomes and evolve[name].outcomes:
            found[name] = unpaired_difference(sealed[name].outcomes, evolve[name].outcomes, seed)
    beyond, read = (_gains(split["baseline"], split["final"]) for split in (sealed, evolve))
    if beyond and read:
        found["gain"] = unpaired_difference(beyond, read, seed)
    return found


def _gains(baseline: Evaluation, final: Evaluation) -> ByTask:
    before, after = baseline.rates, final.rates
    return {task: [after[task] - before[task]] for task in before.keys() & after.keys()}


def generation_point(name: str, number: int, evaluation: Evaluation) -> FrontierPoint | None:
    """A harness that was measured on evolve as the incumbent of round ``number``; None if nothing could be run."""
    spent = cost(evaluation.results)
    if not spent.attempts:
        return None
    tokens = spent.tokens / spent.attempts
    return FrontierPoint(
        Milestone.GENERATION, name, evaluation.harness, "", number, evaluation.mean, tokens, spent.attempts
    )


def budget_points(this: Round, incumbent: FrontierPoint) -> list[FrontierPoint]:
    """The round's candidates that the gate turned away for a wider budget, placed from their incumbent's point."""
    rulings = this.report.rulings if this.report is not None else ()
    return [_budget_point(ruling, incumbent, this.number) for ruling in rulings if ruling.check == CostMatched.name]


def _budget_point(ruling: Ruling, incumbent: FrontierPoint, number: int) -> FrontierPoint:
    seen = ruling.screening
    assert seen is not None, "the budget is checked on what was screened"
    used = seen.costs
    ratio = used.candidate.tokens / used.incumbent.tokens if used is not None and used.incumbent.tokens else 1.0
    rate = min(1.0, max(0.0, incumbent.rate + seen.net / seen.attempts))
    return FrontierPoint(
        Milestone.BUDGET,
        ruling.candidate.id,
        ruling.candidate.harness.digest,
        incumbent.harness,
        number,
        rate,
        incumbent.tokens * ratio,
        seen.attempts,
    )
