"""Check 7: the paired confirmation on fresh validation attempts, all candidates in lockstep.

STATISTICS rules 1 to 4: each pair's (task, fresh attempt) is drawn uniformly, with replacement, before any
arm runs; the incumbent runs first, the candidates replay its tape; every drawn pair is scored in draw order.
One incumbent batch serves all candidates, on validation tasks alone. The attempts are never used again
(rule 14). Rule 8: a candidate that is proved to harm a cluster of tasks is rejected, whatever it gains on the
others; with ``prove_ni`` nothing ships before it is proved to spare each of them. Rule 15: a pair that broke before
the arms differed is redrawn; one that broke later is missing. Rule 16: who runs out of wall time, which is the
machine's and not the edit's, is missing too.
"""

from __future__ import annotations

import copy
import functools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aegis.candidate import Candidate
from aegis.evaluator import VALIDATION, Evaluator
from aegis.gate.pairs import outcome, redrawn, run_pairs, worst_case
from aegis.record import ArmCalls, Calls, Decision
from aegis.routing import RoutedPool, System
from aegis.statistics import ClusterHarm, ClusterProof, Ledger, PairedTest, Verdict
from harnessx.errors import BudgetSpent
from harnessx.runner.jobs import RolloutResult
from harnessx.tasks import Task

MAX_REDRAWN, MIN_REDRAWN = 0.2, 20
"""A confirmation ends undecided once over this share of its draws (and over this number) had to be redrawn."""
FIRST_FRESH_ATTEMPT = 1000
"""Confirming attempts start here; the attempts of evaluations lie below."""


class Draws:
    """A stream of (task, fresh attempt), fixed by the seed; no attempt is given out twice.

    Args:
        name: of the stream; each has draws of its own.
        first: its first attempt. Streams must not overlap.
    """

    def __init__(
        self, tasks: Sequence[Task], seed: int, *, name: str = "draws", first: int = FIRST_FRESH_ATTEMPT
    ) -> None:
        self.tasks, self._rng, self._first = tasks, random.Random(f"{name}/{seed}"), first
        self.taken = 0

    def take(self, count: int, population: Sequence[Task] | None = None) -> list[tuple[Task, int]]:
        """The next ``count`` draws, with replacement over ``population`` (None: all tasks)."""
        tasks = self.tasks if population is None else population
        drawn = []
        for _ in range(count):
            drawn.append((self._rng.choice(tasks), self._first + self.taken))
            self.taken += 1
        return drawn


@dataclass(slots=True)
class Trial:
    """One challenger's confirmation: its test and what it cost.

    ``harm`` watches its clusters, ``proof`` gathers that they are spared (None: nobody does, nobody asks);
    ``redrawn`` counts the draws that broke before the arms differed, which are no pairs.
    """

    challenger: Candidate | System
    test: PairedTest
    harm: ClusterHarm | None = None
    proof: ClusterProof | None = None
    redrawn: int = 0
    differences: dict[str, list[float]] = field(default_factory=dict)
    diverged: int = 0
    calls: ArmCalls = field(default_factory=ArmCalls)
    results: list[tuple[RolloutResult, RolloutResult]] = field(default_factory=list)

    @property
    def candidate(self) -> Candidate:
        """The challenger, which is a candidate edit."""
        assert isinstance(self.challenger, Candidate)
        return self.challenger

    @property
    def system(self) -> System:
        """What plays the challenger's arm."""
        return self.challenger.harness if isinstance(self.challenger, Candidate) else self.challenger

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
        self.results.append((incumbent, candidate))
        self.calls = ArmCalls(_plus(self.calls.incumbent, incumbent), _plus(self.calls.candidate, candidate))
        if redrawn(incumbent, candidate):
            self._redraw(incumbent if incumbent.missing else candidate)
            return
        self.diverged += incumbent.requests != candidate.requests
        before, after = outcome(incumbent), outcome(candidate)
        if self.proof is not None and cluster:
            self.proof.update(cluster, worst_case(before, after))
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


def _unproved(proof: ClusterProof) -> str:
    """What keeps a ship back; '' where nothing does."""
    points = f"{100 * proof.margin:g} points"
    return f"not shown to lose less than {points}: {', '.join(proof.unproved)}" if proof.unproved else ""


def _plus(calls: Calls, result: RolloutResult) -> Calls:
    made = result.model_calls - result.replayed_calls
    return Calls(calls.made + made, calls.replayed + result.replayed_calls)


@dataclass(slots=True)
class _Spent:
    """Pairs drawn in the run, by all its confirmations."""

    pairs: int = 0


class Confirmation:
    """Runs trials until one ships or all are decided.

    Args:
        cap: pairs per candidate; batch: pairs between barriers; run_cap: pairs drawn in the whole run.
        mei, slack: when a `PairedTest` gives up.
        order: the seed of the arms' random order, None for the incumbent first (see `run_pairs`).
        cluster_alpha: chance that a candidate harmless to every cluster is turned away as harmful to one of
            them (0: clusters are not watched).
        prove_ni: nothing ships before each cluster is proved to lose less than this (None: that is not asked for).
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
        prove_ni: float | None = None,
        order: int | None = None,
    ) -> None:
        self._evaluator, self._ledger, self._draws = evaluator, ledger, draws
        self._cap, self._batch, self._run_cap = cap, batch, run_cap
        self._mei, self._slack, self._cluster_alpha, self._prove_ni = mei, slack, cluster_alpha, prove_ni
        self._order, self._refused = order, ""
        self._spent = _Spent()
        self._suspended: dict[tuple[str, ...], Trial] = {}

    @property
    def exhausted(self) -> str:
        """Why no new trial can begin; '' while one can."""
        return self._drained or ("" if self._ledger.remaining else "every planned decision is spent")

    def refuses(self, candidate: Candidate) -> str:
        """Why `open` has no trial for ``candidate``; '' while it has.

        One that was suspended goes on also when every decision is spent: its level was spent when it began, so that
        the run's bound covers all its pairs whenever they are drawn (STATISTICS rules 5 and 6).
        """
        return self._drained if self._identity(candidate) in self._suspended else self.exhausted

    @property
    def _drained(self) -> str:
        """Why no pair can be drawn."""
        capped = self._spent.pairs >= self._run_cap
        return self._refused or (f"the run's cap of {self._run_cap} pairs is reached" if capped else "")

    def within(self, evaluator: Evaluator) -> Confirmation:
        """A confirmation that draws uniformly from the validation tasks of ``evaluator`` instead.

        Ledger, draws and caps are the run's: whatever its population, a decision has a level of its own from the
        same budget, so the bound on any false ship of the run holds by the union over all of them. What a ship
        then claims is a gain in the mean over *these* tasks.
        """
        scoped = copy.copy(self)
        scoped._evaluator = evaluator
        return scoped

    def open(self, challenger: Candidate | RoutedPool) -> Trial:
        """A trial at the ledger's next level; or the undecided one of the same harness against the same incumbent.

        Evidence is carried over under an unchanged incumbent, candidate, model and population alone, of which no run
        changes the model; whatever else is proposed starts at E = 1 with an index of its own (STATISTICS rule 6).
        """
        known = self._identity(challenger) if isinstance(challenger, Candidate) else None
        trial = self._suspended.pop(known, None) if known is not None else None
        if trial is None:
            proof = self._proof()
            hold = str if proof is None else functools.partial(_unproved, proof)
            test = PairedTest(self._ledger.open(), cap=self._cap, mei=self._mei, slack=self._slack, hold=hold)
            return Trial(challenger, test, self._watch(), proof)
        trial.challenger = challenger
        trial.test.resume(self._cap)
        return trial

    def _watch(self) -> ClusterHarm | None:
        clusters = self._clusters()
        return ClusterHarm(clusters, self._cluster_alpha) if self._cluster_alpha and clusters else None

    def _proof(self) -> ClusterProof | None:
        return ClusterProof(self._clusters(), self._prove_ni) if self._prove_ni is not None else None

    def _clusters(self) -> set[str]:
        return {task.cluster for task in self._evaluator.tasks[VALIDATION]} - {""}

    def suspend(self, trial: Trial) -> None:
        """Keep a trial that ended for want of pairs, for the case that the same candidate comes again."""
        if trial.test.resumable:
            self._suspended[self._identity(trial.candidate)] = trial

    def forget(self) -> None:
        """Drop what suspended trials have gathered: the world they speak of has changed (STATISTICS rule 14)."""
        self._suspended.clear()

    def ship(self) -> None:
        """A trial's ship was let through: the ledger may count it."""
        self._ledger.ship()

    def _identity(self, candidate: Candidate) -> tuple[str, ...]:
        population = sorted(task.id for task in self._evaluator.tasks[VALIDATION])
        return candidate.parent.digest, candidate.harness.digest, *population

    async def run(self, incumbent: System, trials: Sequence[Trial]) -> Trial | None:
        """Draw and score until a trial ships (returned), none is open, or the run's budget is spent.

        Trials are in ranking order. A ship ends the pair: those ranked behind have not seen it, stay open, and
        may begin anew against the new incumbent, even if it would have shipped them too.
        """
        while open_trials := [t for t in trials if t.test.verdict is None]:
            left = max(t.test.cap - t.pairs for t in open_trials)
            size = min(self._batch, self._run_cap - self._spent.pairs, left)
            if size < 1:
                return None
            drawn = self._draws.take(size, self._evaluator.tasks[VALIDATION])
            self._spent.pairs += size
            arms = (incumbent, *(t.system for t in open_trials))
            try:
                measured = await run_pairs(self._evaluator, drawn, arms, self._order)
            except BudgetSpent as spent:
                self._refused = str(spent)
                return None
            for (task, _), results in zip(drawn, measured, strict=True):
                shipped = self._score(open_trials, results, task.cluster)
                if shipped is not None:
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
