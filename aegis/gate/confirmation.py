"""Check 7: the paired confirmation on fresh validation attempts, all candidates in lockstep.

STATISTICS rules 1-4: each pair's (task, fresh attempt) is drawn uniformly before any arm runs; the
incumbent runs first, the candidates replay its tape; every drawn pair is scored in draw order. One
incumbent batch serves all candidates. The attempts are never used again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aegis.allowance import BudgetSpent
from aegis.candidate import Candidate
from aegis.evaluator import VALIDATION, Evaluator
from aegis.outage import BY_CHANCE, check_some_ran
from aegis.record import ArmCalls, Calls, Decision
from aegis.statistics import Ledger, PairedTest, Verdict
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task

FIRST_FRESH_ATTEMPT = 1000
"""Confirming attempts start here; the attempts of evaluations lie below."""


class Draws:
    """The run's stream of (task, fresh attempt), fixed by the seed; no attempt is given out twice."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        self._tasks, self._rng = tasks, random.Random(f"draws/{seed}")
        self.taken = 0

    def take(self, count: int) -> list[tuple[Task, int]]:
        """The next ``count`` draws, with replacement over tasks."""
        drawn = []
        for _ in range(count):
            drawn.append((self._rng.choice(self._tasks), FIRST_FRESH_ATTEMPT + self.taken))
            self.taken += 1
        return drawn


@dataclass(slots=True)
class Trial:
    """One candidate's confirmation: its test and what it cost."""

    candidate: Candidate
    test: PairedTest
    differences: dict[str, list[float]] = field(default_factory=dict)
    diverged: int = 0
    calls: ArmCalls = field(default_factory=ArmCalls)

    @property
    def pairs(self) -> int:
        """Pairs drawn for it."""
        return self.test.trace[-1].pairs if self.test.trace else 0

    @property
    def decision(self) -> Decision:
        """The verdict so far."""
        return Decision(self.test.verdict.value) if self.test.verdict else Decision.UNDECIDED

    def score(self, incumbent: RolloutResult, candidate: RolloutResult) -> None:
        """One pair, in draw order."""
        self.diverged += incumbent.requests != candidate.requests
        self.calls = ArmCalls(_plus(self.calls.incumbent, incumbent), _plus(self.calls.candidate, candidate))
        passed = [None if r.missing else r.passed for r in (incumbent, candidate)]
        if None not in passed:
            difference = float(candidate.passed) - float(incumbent.passed)
            self.differences.setdefault(incumbent.task_id, []).append(difference)
        self.test.update(*passed)


def _plus(calls: Calls, result: RolloutResult) -> Calls:
    made = result.model_calls - result.replayed_calls
    return Calls(calls.made + made, calls.replayed + result.replayed_calls)


class Confirmation:
    """Runs trials until one ships or all are decided.

    Args:
        cap: pairs per candidate; batch: pairs between barriers; run_cap: pairs drawn in the whole run.
        mei, slack: when a `PairedTest` gives up.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        ledger: Ledger,
        draws: Draws,
        *,
        cap: int,
        batch: int,
        run_cap: int,
        mei: float,
        slack: float = math.inf,
    ) -> None:
        self._evaluator, self._ledger, self._draws = evaluator, ledger, draws
        self._cap, self._batch, self._run_cap = cap, batch, run_cap
        self._mei, self._slack = mei, slack
        self._refused = ""

    @property
    def exhausted(self) -> str:
        """Why no further trial can begin; '' while one can."""
        if self._refused:
            return self._refused
        if self._ledger.remaining < 1:
            return "every planned decision is spent"
        if self._draws.taken >= self._run_cap:
            return f"the run's cap of {self._run_cap} pairs is reached"
        return ""

    def open(self, candidate: Candidate) -> Trial:
        """A trial at the ledger's next level."""
        return Trial(candidate, PairedTest(self._ledger.open(), cap=self._cap, mei=self._mei, slack=self._slack))

    async def run(self, incumbent: HarnessConfig, trials: Sequence[Trial]) -> Trial | None:
        """Draw and score until a trial ships (returned), none is open, or the run's budget is spent.

        Trials are in ranking order. A ship ends the pair: those ranked behind have not seen it, stay open, and
        may begin anew against the new incumbent, even if it would have shipped them too.
        """
        while open_trials := [t for t in trials if t.test.verdict is None]:
            size = min(self._batch, self._run_cap - self._draws.taken, self._cap - min(t.pairs for t in open_trials))
            if size < 1:
                return None
            drawn = self._draws.take(size)
            arms = (incumbent, *(t.candidate.harness for t in open_trials))
            jobs = [Job(VALIDATION, task, attempt, arms) for task, attempt in drawn]
            try:
                played = await self._evaluator.run(jobs)
            except BudgetSpent as spent:
                self._refused = str(spent)
                return None
            if size >= BY_CHANCE:
                check_some_ran([results[0] for results in played], VALIDATION)
            for results in played:
                shipped = self._score(open_trials, results)
                if shipped is not None:
                    self._ledger.ship()
                    return shipped
        return None

    @staticmethod
    def _score(trials: Sequence[Trial], results: Sequence[RolloutResult]) -> Trial | None:
        for trial, result in _open(trials, results[1:]):
            trial.score(results[0], result)
            if trial.test.verdict is Verdict.SHIP:
                return trial
        return None


def _open(trials: Sequence[Trial], results: Sequence[RolloutResult]) -> Iterator[tuple[Trial, RolloutResult]]:
    for trial, result in zip(trials, results, strict=True):
        if trial.test.verdict is None:
            yield trial, result
