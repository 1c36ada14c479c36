"""Check 5: the edit has an effect on replay, and the screen is no veto.

It and check 6 (`aegis.gate.cost`) read one screening: the candidate on cached attempts of the evolve
tasks, sharing the incumbent's response tapes, so that it costs model calls only from its first different
request. Screening ranks and vetoes; it never ships (STATISTICS rule 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.base import Finding
from aegis.gate.cost import arm_costs
from aegis.record import ArmCosts
from harnessx.errors import Outcome
from harnessx.runner.jobs import Job, RolloutResult

Pair: TypeAlias = tuple[RolloutResult, RolloutResult]
"""The incumbent's and the candidate's rollout of one attempt."""


@dataclass(frozen=True, slots=True)
class Screening:
    """A candidate beside its incumbent on the same cached attempts.

    ``attempts`` are those that both could run; ``net`` is attempts gained minus lost; ``scope`` the tasks
    whose requests diverged; ``error`` the first crash, else what kept an attempt from being run;
    ``costs`` are accuracy and cost of both arms.
    """

    candidate: str
    attempts: int
    diverged: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    scope: tuple[str, ...]
    crashed: int
    error: str = ""
    costs: ArmCosts | None = None

    @property
    def net(self) -> int:
        """Attempts gained minus attempts lost."""
        return len(self.gained) - len(self.lost)


async def screen(
    evaluator: Evaluator,
    baseline: Evaluation,
    candidates: Sequence[Candidate],
    attempts: int,
    finalists: int | None = None,
) -> dict[str, Screening]:
    """Replay candidates on the incumbent's first ``attempts`` attempts at the evolve tasks; by id, best first.

    After the first attempt only the best ``finalists`` go on, and stay ahead of the others; what changed nothing
    comes last.
    """
    known = {(r.task_id, r.attempt): r for r in baseline.results}
    tasks = evaluator.tasks[EVOLVE]
    seen: dict[str, list[Pair]] = {c.id: [] for c in candidates}

    async def play(running: Sequence[Candidate], at: Sequence[int]) -> list[Candidate]:
        harnesses = tuple(c.harness for c in running)
        jobs = [Job(EVOLVE, task, attempt, harnesses, keep_tape=True) for attempt in at for task in tasks if running]
        for job, results in zip(jobs, await evaluator.run(jobs), strict=True):
            for candidate, result in zip(running, results, strict=True):
                seen[candidate.id].append((known[job.task.id, job.attempt], result))
        screened = {c.id: _summary(c.id, seen[c.id]) for c in running}
        return sorted(running, key=lambda c: (not screened[c.id].diverged, -screened[c.id].net))

    ranked = await play(candidates, range(min(attempts, 1)))
    finalists = len(ranked) if finalists is None else finalists
    ranked[:finalists] = await play(ranked[:finalists], range(1, attempts))
    return {c.id: _summary(c.id, seen[c.id]) for c in ranked}


def _summary(candidate: str, pairs: Sequence[Pair]) -> Screening:
    both = [(a, b) for a, b in pairs if not a.missing and not b.missing]
    diverged = [(a, b) for a, b in both if a.requests != b.requests]
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
        error=broken[0].error if broken else "",
        costs=arm_costs(both),
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
