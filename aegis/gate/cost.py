"""Check 6: an edit does not buy its gain with a wider budget.

Budgets are the limits of a rollout, and what attempts use: tokens, model calls (retries and samples that
processors ask for included) and tool calls. An edit is cost-matched if it raises no limit and uses at most
``max_token_ratio`` times the tokens and ``max_call_ratio`` times the calls of its incumbent, on the
screened attempts and again on the pairs that confirm it: what keeps quiet on evolve tasks and spends on
others is found there. Where it is not, the budgets are named and accuracy and cost of both arms stay in
its record, as points for an accuracy-cost frontier. ``allow_budget`` ships it all the same.

Ship after ship within these ratios would still multiply: seven at 1.5 cost 17 times as much. So on the screened
attempts a candidate is also held against H_0 on the same attempts, and uses at most ``max_total_ratio`` times as
much of each budget.

What gets through: a gain bought within the ratios; and what compounds on validation tasks alone, which H_0 does not
play beside later candidates: the final evaluation shows it, as the cost of an attempt against H_0's. Tools of the
harness's own that ask nobody (no model, no environment) cost time only, which ``limits.wall_s`` bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from aegis.record import ArmCosts, CostPoint
from harnessx.harness import HarnessConfig, Limits
from harnessx.runner.jobs import RolloutResult


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much more than its incumbent a cost-matched candidate may use."""

    tokens: float
    calls: float

    def exceeded(self, costs: ArmCosts, whose: str = "") -> list[str]:
        """The budgets that are wider, each with its ratio to ``whose`` ('': the incumbent's)."""
        before, after = costs.incumbent, costs.candidate
        used = (
            ("tokens", before.tokens, after.tokens, self.tokens),
            ("model calls", before.model_calls, after.model_calls, self.calls),
            ("tool calls", before.tool_calls, after.tool_calls, self.calls),
        )
        wider = [
            f"{now / max(then, 1.0):.2f} times the {name}{whose} (at most {most:g})"
            for name, then, now, most in used
            if now > most * max(then, 1.0)
        ]
        if wider and after.side_calls > before.side_calls:
            wider.append(f"{after.side_calls:.1f} model calls a task by processors, {before.side_calls:.1f} before")
        return wider


class CostMatched:
    """No wider limit, and no more use of any budget than is tolerated, of the incumbent's and of H_0's.

    Args:
        costs: what each candidate was seen to use, by its id.
    """

    name = "budget"

    def __init__(self, costs: Mapping[str, Used], matched: Matched, *, allow_budget: bool) -> None:
        self._costs, self._matched, self._allow = costs, matched, allow_budget

    async def __call__(self, candidate: Candidate) -> Finding | None:
        used = self._costs[candidate.id]
        wider = self._matched.widened(candidate, used)
        return None if self._allow or not wider else bought(wider, used.costs, "screened attempts")


class Used(Protocol):
    """What a candidate used on its screened attempts: beside its incumbent, and beside H_0 where that is another."""

    @property
    def costs(self) -> ArmCosts | None:
        """Of incumbent and candidate; None where nothing could be run."""
        ...

    @property
    def total(self) -> ArmCosts | None:
        """Of H_0 and candidate; None too where H_0 is the incumbent, or not known."""
        ...


@dataclass(frozen=True, slots=True)
class Matched:
    """What may be used, compared with the incumbent and with H_0."""

    incumbent: Tolerance
    total: float

    def widened(self, candidate: Candidate, used: Used | None) -> list[str]:
        """Every budget that the candidate widens; by its limits alone where it was not ``used``."""
        if used is None:
            return wider_limits(candidate.parent, candidate.harness)
        whole = Tolerance(self.total, self.total).exceeded(used.total, " of H_0") if used.total is not None else []
        return [*widened(candidate, used.costs, self.incumbent), *whole]


def widened(candidate: Candidate, costs: ArmCosts | None, tolerance: Tolerance) -> list[str]:
    """Every budget that the candidate widens: by its limits, and by what it used."""
    return [*wider_limits(candidate.parent, candidate.harness), *(tolerance.exceeded(costs) if costs else ())]


def bought(wider: Sequence[str], costs: ArmCosts | None, where: str) -> Finding:
    """The finding, with the budget named and what it bought."""
    gain = ""
    if costs is not None:
        before, after = (round(arm.accuracy * arm.attempts) for arm in (costs.incumbent, costs.candidate))
        gain = f"; {after} instead of {before} of {costs.candidate.attempts} {where} pass"
    return Finding(CostMatched.name, f"buys its gain with a wider budget: {', '.join(wider)}{gain}")


def cost_point(results: Sequence[RolloutResult]) -> CostPoint:
    """Means over finished attempts."""
    count = max(1, len(results))
    prices = [r.cost_usd for r in results]
    known = [price for price in prices if price is not None]
    return CostPoint(
        attempts=len(results),
        accuracy=sum(r.passed for r in results) / count,
        tokens=sum(r.tokens for r in results) / count,
        model_calls=sum(r.model_calls for r in results) / count,
        side_calls=sum(r.side_calls for r in results) / count,
        tool_calls=sum(r.tool_calls for r in results) / count,
        steps=sum(r.steps for r in results) / count,
        dollars=sum(known) / count if len(known) == len(prices) else None,
    )


def arm_costs(pairs: Sequence[tuple[RolloutResult, RolloutResult]]) -> ArmCosts | None:
    """Both arms of the pairs of which both could be run; None without any."""
    both = [(a, b) for a, b in pairs if not a.missing and not b.missing]
    return ArmCosts(cost_point([a for a, _ in both]), cost_point([b for _, b in both])) if both else None


def wider_limits(parent: HarnessConfig, harness: HarnessConfig) -> list[str]:
    """The limits that ``harness`` raises over ``parent``."""
    wider = []
    for name in Limits.__dataclass_fields__:
        before, after = getattr(parent.slots.limits, name), getattr(harness.slots.limits, name)
        if before is not None and (after is None or after > before):
            wider.append(f"{name} {before} -> {'unlimited' if after is None else after}")
    return wider
