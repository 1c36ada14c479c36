"""Checks 5 and 6: the edit has an effect on replay, and does not buy its gain with a wider budget.

Both read one screening: the candidate on cached attempts of the evolve tasks, sharing the incumbent's
response tapes, so that it costs model calls only from its first different request. Screening ranks and
vetoes; it never ships (STATISTICS rule 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.base import Finding
from harnessx.errors import Outcome
from harnessx.harness import HarnessConfig, Limits
from harnessx.runner.jobs import Job, RolloutResult


@dataclass(frozen=True, slots=True)
class Screening:
    """A candidate beside its incumbent on the same cached attempts.

    ``attempts`` are those that both could run; ``net`` is attempts gained minus lost; ``scope`` the tasks
    whose requests diverged; ``error`` the first crash, else what kept an attempt from being run;
    ``token_ratio`` the candidate's tokens over the incumbent's, over all attempts.
    """

    candidate: str
    attempts: int
    diverged: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    scope: tuple[str, ...]
    crashed: int
    token_ratio: float
    error: str = ""

    @property
    def net(self) -> int:
        """Attempts gained minus attempts lost."""
        return len(self.gained) - len(self.lost)


async def screen(
    evaluator: Evaluator, baseline: Evaluation, candidates: Sequence[Candidate], attempts: int
) -> dict[str, Screening]:
    """Replay each candidate on the incumbent's first ``attempts`` evolve attempts, by candidate id."""
    harnesses = tuple(c.harness for c in candidates)
    grid = [(task, a) for a in range(attempts) for task in evaluator.tasks[EVOLVE]]
    known = {(r.task_id, r.attempt): r for r in baseline.results}
    jobs = [Job(EVOLVE, task, a, harnesses, keep_tape=True) for task, a in grid] if harnesses else []
    arms = await evaluator.run(jobs)
    screenings = {}
    for index, candidate in enumerate(candidates):
        pairs = [(known[task.id, a], results[index]) for (task, a), results in zip(grid, arms, strict=True)]
        screenings[candidate.id] = _summary(candidate.id, pairs)
    return screenings


def _summary(candidate: str, pairs: Sequence[tuple[RolloutResult, RolloutResult]]) -> Screening:
    both = [(a, b) for a, b in pairs if not a.missing and not b.missing]
    diverged = [(a, b) for a, b in both if a.requests != b.requests]
    tokens = sum(a.tokens for a, _ in both), sum(b.tokens for _, b in both)
    crashes = [b for _, b in both if b.outcome is Outcome.HARNESS_ERROR]
    broken = [*crashes, *(r for pair in pairs for r in pair if r.missing)]
    return Screening(
        candidate=candidate,
        attempts=len(both),
        diverged=len(diverged),
        gained=tuple(b.task_id for a, b in diverged if b.passed and not a.passed),
        lost=tuple(b.task_id for a, b in diverged if a.passed and not b.passed),
        scope=tuple(dict.fromkeys(b.task_id for _, b in diverged)),
        crashed=len(crashes),
        token_ratio=tokens[1] / tokens[0] if tokens[0] else 1.0,
        error=broken[0].error if broken else "",
    )


class Effect:
    """At least one request changes on replay, the harness does not crash, and the screen is no veto."""

    name = "effect"

    def __init__(self, screenings: dict[str, Screening], *, veto: int) -> None:
        self._screenings, self._veto = screenings, veto

    async def __call__(self, candidate: Candidate) -> Finding | None:
        seen = self._screenings[candidate.id]
        if not seen.diverged:
            return Finding(self.name, f"no request changes in {seen.attempts} cached attempts")
        if seen.crashed:
            return Finding(self.name, f"crashes in {seen.crashed} of {seen.attempts} attempts: {seen.error}")
        if seen.net <= -self._veto:
            change = f"gains {len(seen.gained)} and loses {len(seen.lost)} of {seen.attempts} cached attempts"
            return Finding("screen", f"vetoed: {change}")
        return None


class CostMatched:
    """No wider limit and no more tokens than ``max_token_ratio`` times the incumbent's.

    A gain bought by budget belongs on the accuracy–cost frontier; ``allow_budget`` ships it anyway.
    """

    name = "budget"

    def __init__(self, screenings: dict[str, Screening], *, max_token_ratio: float, allow_budget: bool) -> None:
        self._screenings, self._ratio, self._allow = screenings, max_token_ratio, allow_budget

    async def __call__(self, candidate: Candidate) -> Finding | None:
        if self._allow:
            return None
        wider = wider_limits(candidate.parent, candidate.harness)
        if wider:
            return Finding(self.name, f"buys its gain with a wider budget: {', '.join(wider)}")
        ratio = self._screenings[candidate.id].token_ratio
        if ratio > self._ratio:
            return Finding(self.name, f"uses {ratio:.2f} times the tokens (at most {self._ratio:g})")
        return None


def wider_limits(parent: HarnessConfig, harness: HarnessConfig) -> list[str]:
    """The limits that ``harness`` raises over ``parent``."""
    wider = []
    for name in Limits.__dataclass_fields__:
        before, after = getattr(parent.slots.limits, name), getattr(harness.slots.limits, name)
        if before is not None and (after is None or after > before):
            wider.append(f"{name} {before} -> {'unlimited' if after is None else after}")
    return wider
