"""Check 7: the paired confirmation on fresh validation attempts, all candidates in lockstep.

STATISTICS rules 1-4: each pair's (task, fresh attempt) is drawn uniformly before any arm runs; the
incumbent runs first, the candidates replay its tape; every drawn pair is scored in draw order. One
incumbent batch serves all candidates. The attempts are never used again. Rule 8: a candidate that is
proved to harm a cluster of tasks is rejected, whatever it gains on the others. Rule 15: a pair that broke
before the arms differed is redrawn; one that broke later is missing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aegis.candidate import Candidate
from aegis.evaluator import VALIDATION, Evaluator
from aegis.gate.pairs import outcome, redrawn, run_pairs
from aegis.record import ArmCalls, Calls, Decision
from aegis.statistics import ClusterHarm, Ledger, PairedTest, Verdict
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import RolloutResult
from harnessx.tasks import Task

MAX_REDRAWN, MIN_REDRAWN = 0.2, 20
"""A confirmation ends undecided once over this share of its draws (and over this number) had to be redrawn."""
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
    """One candidate's confirmation: its test and what it cost.

    ``harm`` watches its clusters (None: nobody does); ``redrawn`` counts the draws that broke before the
    arms differed, which are no pairs.
    """

    candidate: Candidate
    test: PairedTest
    harm: ClusterHarm | None = None
    redrawn: int = 0
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

    def score(self, incumbent: RolloutResult, candidate: RolloutResult, cluster: str = "") -> None:
        """One draw, in draw order: a pair of ``cluster``, or none where it has to be redrawn."""
        self.calls = ArmCalls(_plus(self.calls.incumbent, incumbent), _plus(self.calls.candidate, candidate))
        if redrawn(incumbent, candidate):
            self._redraw(incumbent if incumbent.missing else candidate)
            return
        self.diverged += incumbent.requests != candidate.requests
        before, after = outcome(incumbent), outcome(candidate)
        self.test.update(before, after)
        if before is not None and after is not None:
            self.differences.setdefault(incumbent.task_id, []).append(float(after) - float(before))
            self._watch(cluster, after - before)

    def _redraw(self, broken: RolloutResult) -> None:
        self.redrawn += 1
        drawn = self.redrawn + self.pairs
        if self.redrawn > max(MIN_REDRAWN, MAX_REDRAWN * drawn):
            reason = f"{self.redrawn} of {drawn} draws broke before the arms differed, the last by {broken.error}"
            self.test.overrule(Verdict.UNDECIDED, reason)

    def _watch(self, cluster: str, difference: int) -> None:
        """A missing pair is in none of the clusters' processes: it is no evidence of harm."""
        if self.harm is None or not cluster:
            return
        self.harm.update(cluster, difference)
        if self.harm.harmed and self.test.verdict in (None, Verdict.SHIP):
            named = ", ".join(self.harm.harmed)
            self.test.overrule(Verdict.REJECT, f"harms the cluster {named}, shown after {self.pairs} pairs")


def _plus(calls: Calls, result: RolloutResult) -> Calls:
    made = result.model_calls - result.replayed_calls
    return Calls(calls.made + made, calls.replayed + result.replayed_calls)


class Confirmation:
    """Runs trials until one ships or all are decided.

    Args:
        cap: pairs per candidate; batch: pairs between barriers; run_cap: pairs drawn in the whole run.
        mei, slack: when a `PairedTest` gives up.
        order: the seed of the arms' random order, None for the incumbent first (see `run_pairs`).
        cluster_alpha: chance that a candidate harmless to every cluster is turned away as harmful to one of
            them (0: clusters are not watched).
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
        cluster_alpha: float = 0.0,
        order: int | None = None,
    ) -> None:
        self._evaluator, self._ledger, self._draws = evaluator, ledger, draws
        self._cap, self._batch, self._run_cap = cap, batch, run_cap
        self._mei, self._slack, self._cluster_alpha = mei, slack, cluster_alpha
        self._clusters = sorted({task.cluster for task in evaluator.tasks[VALIDATION]} - {""})
        self._drawn, self._order = 0, order

    @property
    def exhausted(self) -> str:
        """Why no further trial can begin; '' while one can."""
        if self._ledger.remaining < 1:
            return "every planned decision is spent"
        if self._drawn >= self._run_cap:
            return f"the run's cap of {self._run_cap} pairs is reached"
        return ""

    def open(self, candidate: Candidate) -> Trial:
        """A trial at the ledger's next level."""
        test = PairedTest(self._ledger.open(), cap=self._cap, mei=self._mei, slack=self._slack)
        watched = bool(self._cluster_alpha and self._clusters)
        return Trial(candidate, test, ClusterHarm(self._clusters, self._cluster_alpha) if watched else None)

    async def run(self, incumbent: HarnessConfig, trials: Sequence[Trial]) -> Trial | None:
        """Draw and score until a trial ships (returned) or none is open.

        Trials are in ranking order. A ship ends the pair: those ranked behind have not seen it, stay open, and
        may begin anew against the new incumbent, even if it would have shipped them too.
        """
        while open_trials := [t for t in trials if t.test.verdict is None]:
            size = min(self._batch, self._run_cap - self._drawn, self._cap - min(t.pairs for t in open_trials))
            if size < 1:
                return None
            drawn = self._draws.take(size)
            self._drawn += size
            arms = (incumbent, *(t.candidate.harness for t in open_trials))
            measured = await run_pairs(self._evaluator, drawn, arms, self._order)
            for (task, _), results in zip(drawn, measured, strict=True):
                shipped = self._score(open_trials, results, task.cluster)
                if shipped is not None:
                    self._ledger.ship()
                    return shipped
        return None

    @staticmethod
    def _score(trials: Sequence[Trial], results: Sequence[RolloutResult], cluster: str) -> Trial | None:
        for trial, result in _open(trials, results[1:]):
            trial.score(results[0], result, cluster)
            if trial.test.verdict is Verdict.SHIP:
                return trial
        return None


def _open(trials: Sequence[Trial], results: Sequence[RolloutResult]) -> Iterator[tuple[Trial, RolloutResult]]:
    for trial, result in zip(trials, results, strict=True):
        if trial.test.verdict is None:
            yield trial, result
