"""Rollouts that are drawn: the `Runner` of a simulated population.

A harness is the real value with one text asset per edit; which edits act on an attempt, and whether it
passes, are functions of (seed, task, attempt, what acts). So two harnesses whose acting edits agree on an
attempt make the same requests and share its outcome, as under prefix replay; where they differ the
outcome is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

from aegis.evaluator import SPLITS
from aegis.routing import RoutedPool, System
from aegis.testbed.population import Effect, Population
from harnessx.algebra import Edit, SetAsset
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

STEPS = 10
TOKENS = 1000
_WHOLE = float(1 << 64)


def edit_of(effect: Effect) -> Edit:
    """The edit that stands for ``effect``: one text file of its name."""
    return Edit((SetAsset(f"assets/{effect.name}.txt", effect.kind.value),))


class SimulatedRunner:
    """Answers jobs from a population. Every split holds the same tasks, under names of its own.

    Args:
        effects: what the edits do, by name; a proposer may add to it at any time.
    """

    isolation = "none"

    def __init__(self, population: Population, effects: Mapping[str, Effect], seed: int) -> None:
        self.population, self._effects, self._seed = population, effects, seed
        self._present: dict[str, tuple[Effect, ...]] = {}
        self.rollouts = 0

    def tasks(self) -> dict[str, list[Task]]:
        """The tasks of every split."""
        clusters = self.population.clusters
        return {split: [Task("", f"{split}-{i}", c) for i, c in enumerate(clusters)] for split in SPLITS}

    def effects(self, harness: HarnessConfig) -> tuple[Effect, ...]:
        """The edits in ``harness``."""
        found = self._present.get(harness.digest)
        if found is None:
            names = [path.removeprefix("assets/").removesuffix(".txt") for path in sorted(harness.assets)]
            found = self._present[harness.digest] = tuple(self._effects[name] for name in names)
        return found

    def truth(self, system: System) -> float:
        """The exact mean success rate of a harness or a pool."""
        if isinstance(system, RoutedPool):
            clusters = self.population.clusters
            served = {c: self.effects(system.serving(Task("", c, c))) for c in sorted(set(clusters))}
            return sum(clusters.count(c) * self.population.truth(e, c) for c, e in served.items()) / len(clusters)
        return self.population.truth(self.effects(system))

    async def run(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[RolloutResult]]:
        """Draw every arm of every job."""
        return [self._job(job) for job in jobs]

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        """Like `run`; a trajectory says how the rollout ended, and holds no step."""
        return [[(result, _record(result)) for result in arms] for arms in await self.run(jobs, on_result)]

    def forget(self, jobs: Sequence[Job]) -> None:
        """Nothing is stored."""

    def _job(self, job: Job) -> list[RolloutResult]:
        task, where = int(job.task.id.rpartition("-")[2]), f"{self._seed}/{job.task.id}/{job.attempt}"
        asked: set[str] = set()
        results = []
        for harness in job.arms:
            acting = [e for e in self.effects(harness) if self._acts(e, task, where)]
            requests = f"{where}/{'+'.join(e.name for e in acting)}"
            passed = _uniform(requests) < self.population.rate(task, acting)
            results.append(self._result(job, harness, acting, requests, passed, requests in asked))
            asked.add(requests)
        self.rollouts += len(results)
        return results

    @staticmethod
    def _acts(effect: Effect, task: int, where: str) -> bool:
        chance = effect.acts[task]
        return chance == 1.0 or (chance > 0.0 and _uniform(f"{where}/acts/{effect.name}") < chance)

    @staticmethod
    def _result(
        job: Job, harness: HarnessConfig, acting: Sequence[Effect], requests: str, passed: bool, replayed: bool
    ) -> RolloutResult:
        tokens = TOKENS
        for effect in acting:
            tokens = round(tokens * effect.tokens)
        return RolloutResult(
            f"{job.split}/{requests}/{harness.digest}", job.task.id, job.attempt, harness.digest,
            Outcome.PASSED if passed else Outcome.FAILED, StopReason.FINISHED, float(passed),
            STEPS, tokens, 0.0, STEPS, STEPS if replayed else 0, requests, "", 0.0,
        )  # fmt: skip


def _record(result: RolloutResult) -> str:
    return Trajectory(result.task_id, result.attempt, result.harness, outcome=result.outcome).to_jsonl()


def _uniform(key: str) -> float:
    """A draw from [0, 1) that depends on ``key`` alone."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / _WHOLE
