"""Measuring harnesses: the one place rollouts are asked for and counted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aegis.allowance import Allowance, Budget
from aegis.outage import check_some_ran
from aegis.record import Calls
from aegis.routing import System, serving
from aegis.statistics import Interval, bootstrap_mean, clopper_pearson
from aegis.statistics.paired import MISSING_LIMIT
from harnessx.errors import Outage
from harnessx.harness import HarnessConfig
from harnessx.models.spend import Spend, added
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.runner.purse import Purse
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

EVOLVE, VALIDATION, SEALED = "evolve", "validation", "sealed"
SPLITS = (EVOLVE, VALIDATION, SEALED)
CANARY = "canary"
"""Tasks that only cheating passes: never scored for an agent, so no split among `SPLITS`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One harness on one split: every attempt's result, in scheduled order."""

    harness: str
    split: str
    results: tuple[RolloutResult, ...]

    @property
    def outcomes(self) -> dict[str, list[float]]:
        """1.0 or 0.0 per attempt, by task; missing attempts are left out."""
        by_task: dict[str, list[float]] = {}
        for result in self.results:
            if not result.missing:
                by_task.setdefault(result.task_id, []).append(float(result.passed))
        return by_task

    @property
    def incomplete(self) -> str:
        """Why it is no score: more attempts are missing than chance misses, and which are may be no chance; or ''."""
        missing = sum(result.missing for result in self.results)
        if missing <= max(1.0, MISSING_LIMIT * len(self.results)):
            return ""
        return f"{missing} of {len(self.results)} attempts could not be run, over {100 * MISSING_LIMIT:g} %"

    @property
    def rates(self) -> dict[str, float]:
        """The fraction of attempts passed, by task."""
        return {task: sum(values) / len(values) for task, values in self.outcomes.items()}

    @property
    def mean(self) -> float:
        """Mean over tasks of the pass rate; 0 where nothing was measured."""
        rates = self.rates
        return sum(rates.values()) / len(rates) if rates else 0.0

    def interval(self, seed: int) -> Interval | None:
        """Mean with its 95 % interval, None where nothing was measured.

        Bootstrap over tasks. Where all attempts end alike that would have no width, as if all were known: then the
        exact interval of as many tasks, whose bound on tasks that end so also bounds the mean.
        """
        outcomes = self.outcomes
        if (alike := set(self.rates.values())) in ({0.0}, {1.0}):
            return clopper_pearson(len(outcomes) if alike == {1.0} else 0, len(outcomes))
        return bootstrap_mean(outcomes, seed) if outcomes else None


class Meter:
    """Totals of a run, each rollout counted once, whether it ran now or before a restart."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self.rollouts = self.passed = self.tokens = self.missing = 0
        self.calls = Calls()
        self.paid: dict[str, Spend] = {}
        """By account; what was replayed costs nothing here, and counts in ``tokens`` and ``dollars``."""
        self.dollars: float | None = 0.0
        """None once a rollout has no known price."""

    def pay(self, account: str, spend: Spend) -> None:
        """Add what was paid for something else than a rollout, where the run makes use of it."""
        self.paid = added(self.paid, {account: spend})

    def count(self, results: Iterable[RolloutResult]) -> None:
        """Add finished rollouts."""
        for result in results:
            if result.key in self._seen:
                continue
            self._seen.add(result.key)
            self.rollouts += 1
            self.passed += result.passed
            self.missing += result.missing
            self.tokens += result.tokens
            self.paid = added(self.paid, result.paid)
            replayed = result.replayed_calls
            made = result.model_calls - replayed
            self.calls = Calls(self.calls.made + made, self.calls.replayed + replayed)
            if result.model_calls:
                known = result.cost_usd is not None and self.dollars is not None
                self.dollars = (self.dollars or 0.0) + (result.cost_usd or 0.0) if known else None


class Watcher(Protocol):
    """Whoever follows the work as it goes."""

    def planned(self, count: int) -> None:
        """``count`` more rollouts were asked for."""
        ...

    def finished(self, result: RolloutResult) -> None:
        """One of them is there, in whatever order."""
        ...


class Runner(Protocol):
    """Runs jobs: a `harnessx.runner.pool.Pool`, or a testbed whose rates are known."""

    isolation: str

    async def run(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[RolloutResult]]:
        """One list of results (an arm each) per job, in the order given."""
        ...

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        """Like `run`, each result with its trajectory (JSONL) where the job asks for it."""
        ...

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drop what is stored of ``jobs``: they will be run anew."""
        ...


class Evaluator:
    """Runs harnesses on the run's splits, through the pool, and meters what it costs.

    Args:
        tasks: the tasks of each split.
        watcher: told of every rollout.
        purse: the pool's, where the budget is one of tokens or money.
        budget: what all of it may cost; every method below raises `BudgetSpent` instead of going beyond.
    """

    def __init__(
        self,
        pool: Runner,
        tasks: Mapping[str, Sequence[Task]],
        watcher: Watcher | None = None,
        budget: Budget | None = None,
        purse: Purse | None = None,
    ) -> None:
        self.pool, self.tasks, self.meter = pool, tasks, Meter()
        self.allowance = Allowance(budget or Budget(), self.meter, purse)
        self._watcher = watcher

    def within(self, keep: Callable[[Task], bool]) -> Evaluator:
        """The same evaluator on the evolve and validation tasks that ``keep`` holds for; one meter counts both."""
        scoped = copy.copy(self)
        scoped.tasks = {
            split: tuple(task for task in tasks if keep(task)) if split in (EVOLVE, VALIDATION) else tasks
            for split, tasks in self.tasks.items()
        }
        return scoped

    async def evaluate(self, system: System, split: str, attempts: int) -> Evaluation:
        """All tasks of ``split``, ``attempts`` times each, each played by the harness that serves it."""
        grid = self._grid(split, attempts)
        jobs = [Job(split, t, a, (serving(system, t),), keep_tape=split == EVOLVE) for t, a in grid]
        arms = await self.run(jobs)
        results = tuple(results[0] for results in arms)
        self.check_some_ran(jobs, results)
        return Evaluation(system.digest, split, results)

    async def record(self, harness: HarnessConfig, attempts: int) -> tuple[Evaluation, list[Trajectory]]:
        """The evolve split with its trajectories: what the stages read."""
        jobs = [
            Job(EVOLVE, t, a, (harness,), keep_tape=True, trajectories=True) for t, a in self._grid(EVOLVE, attempts)
        ]
        records: list[tuple[RolloutResult, str | None]] = []
        on_result = self._watched(len(jobs))
        for batch in self.allowance.slices(jobs, 1):
            with self.allowance.asking():
                done = [arms[0] for arms in await self.pool.run_recorded(batch, on_result)]
                self._count([result for result, _ in done])
                self.allowance.settle()
            records += done
        results = tuple(result for result, _ in records)
        self.check_some_ran(jobs, results)
        trajectories = [Trajectory.from_jsonl(text or "") for _, text in records]
        return Evaluation(harness.digest, EVOLVE, results), trajectories

    async def trajectories(self, jobs: Sequence[Job]) -> list[Trajectory]:
        """The trajectories of single-arm jobs, as far as the runner records them."""
        with self.allowance.asking():
            records = await self.pool.run_recorded(jobs, self._watched(len(jobs)))
        self.meter.count(arms[0][0] for arms in records)
        return [Trajectory.from_jsonl(text) for arms in records for _, text in arms if text]

    async def run(self, jobs: Sequence[Job]) -> list[list[RolloutResult]]:
        """Run jobs as given; results in the same order, metered in that order."""
        arms: list[list[RolloutResult]] = []
        on_result = self._watched(sum(len(job.arms) for job in jobs))
        for batch in self.allowance.slices(jobs, max((len(job.arms) for job in jobs), default=1)):
            with self.allowance.asking():
                done = await self.pool.run(batch, on_result)
                for results in done:
                    self._count(results)
                self.allowance.settle()
            arms += done
        return arms

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drop what is stored of ``jobs``, which could not be run: a resumed run asks again."""
        self.pool.forget(jobs)

    def check_some_ran(self, jobs: Sequence[Job], results: Sequence[RolloutResult]) -> None:
        """Refuse to go on where none of ``jobs`` could be run, with a memory of none of them.

        Raises:
            Outage: `aegis.outage.check_some_ran`.
        """
        try:
            check_some_ran(results, jobs[0].split if jobs else "")
        except Outage:  # a resumed run asks again
            self.forget(jobs)
            raise

    def _count(self, results: Sequence[RolloutResult]) -> None:
        self.meter.count(results)
        self.allowance.priced(results)

    def _grid(self, split: str, attempts: int) -> list[tuple[Task, int]]:
        return [(task, attempt) for attempt in range(attempts) for task in self.tasks[split]]

    def _watched(self, count: int) -> Callable[[RolloutResult], None] | None:
        if self._watcher is None:
            return None
        self._watcher.planned(count)
        return self._watcher.finished
