"""A world with known rates behind the real evaluator, gate, ledger, journal and strategies."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aegis.allowance import Budget
from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE, SEALED, VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.gate import Gate
from aegis.history import History
from aegis.journal import Journal
from aegis.manifest import Evidence, FileChange, Manifest, Signature
from aegis.meta.catalog import Catalog
from aegis.record import Bucket, Prediction
from aegis.round import Engine, Round
from aegis.statistics import Spending
from aegis.store import RunStore
from aegis.strategies.base import Result, Schedule, Strategy
from harnessx.algebra import Edit, Insert
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.spec import Spec
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

H0 = HarnessConfig()


def lever(text: str) -> Insert:
    """An edit's operation, known to the world by its text."""
    return Insert(Spec("harnessx.processors.Instructions", {"text": text}))


def holding(*texts: str) -> HarnessConfig:
    """H_0 with levers."""
    return Edit(tuple(map(lever, texts))).apply(H0)


def levers(harness: HarnessConfig) -> tuple[str, ...]:
    """The levers a harness holds."""
    return tuple(str(spec.params["text"]) for spec in harness.inserted)


class World:
    """Rollouts that pass with known rates: ``base`` plus what each lever (``x+y``: both) adds on the task's cluster.

    Arms that hold the same levers draw the same outcome; others draw their own, or with ``coupled`` share the
    uniform number that their rates are compared with.
    """

    isolation = "process"

    def __init__(self, effects: Mapping[str, Mapping[str, float]], *, base: float = 0.5, coupled: bool = True) -> None:
        self.effects, self.base, self.coupled = effects, base, coupled
        self.jobs: list[Job] = []

    def rate(self, harness: HarnessConfig, cluster: str) -> float:
        """The true rate."""
        held = set(levers(harness))
        added = sum(effect.get(cluster, 0.0) for name, effect in self.effects.items() if held >= set(name.split("+")))
        return min(1.0, max(0.0, self.base + added))

    async def run(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[RolloutResult]]:
        self.jobs += jobs
        return [[self._play(job, harness) for harness in job.arms] for job in jobs]

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        return [[(result, _trace(result)) for result in arms] for arms in await self.run(jobs, on_result)]

    def forget(self, jobs: Sequence[Job]) -> None:
        """Nothing is stored."""

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        who = "" if self.coupled else harness.digest
        drawn = random.Random(f"{job.scope}/{who}").random()
        outcome = Outcome.PASSED if drawn < self.rate(harness, job.task.cluster) else Outcome.FAILED
        key = f"{job.scope}/{harness.digest}"
        return RolloutResult(
            key, job.task.id, job.attempt, harness.digest, outcome, StopReason.FINISHED, float(outcome == "passed"),
            1, 1, None, 1, 0, harness.digest, "", 0.0,
        )  # fmt: skip


def tasks(clusters: str, evolve: int, validation: int) -> dict[str, tuple[Task, ...]]:
    """So many tasks of each cluster, which is a letter."""
    sizes = {EVOLVE: evolve, VALIDATION: validation, SEALED: 2}
    return {s: tuple(Task(f"play {s}{c}{i}", f"{s}-{c}{i}", c) for c in clusters for i in range(n))
            for s, n in sizes.items()}  # fmt: skip


def proposing(*script: Sequence[str | Edit]) -> Callable[[Engine, HarnessConfig, int], object]:
    """Proposals of round n: the levers of the n-th entry that the incumbent lacks (of the last from then on)."""

    async def propose(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
        baseline = await engine.evaluator.evaluate(incumbent, EVOLVE, engine.attempts)
        engine.history.outcomes.append(baseline.rates)
        engine.history.incumbents.append(incumbent.digest)
        edits = [
            (str(e), e if isinstance(e, Edit) else Edit((lever(e),))) for e in script[min(number, len(script)) - 1]
        ]
        named = [(text, edit) for text, edit in edits if text not in levers(incumbent)]
        first = engine.evaluator.tasks[EVOLVE][0].id
        candidates = [
            Candidate.of(Proposal(edit, manifest(f"C-R{number}-{i:02d}", text, first)), incumbent, number)
            for i, (text, edit) in enumerate(named, 1)
        ]
        stop = "" if candidates else "nothing is left to propose"
        return Round(number, incumbent, baseline, candidates=candidates, stop=stop)

    return propose


def manifest(ident: str, title: str, task: str) -> Manifest:
    return Manifest(
        ident, title, (Bucket.PROMPT,), (Evidence("trace", "c"),), (FileChange("harness.yaml", "modify", "s"),),
        Prediction(unlock=(task,)), Signature("prompt_feature", title), "f", "r", "t", "a", lever=title,
    )  # fmt: skip


class Bench:
    """An engine on a world, with the run's ledger in reach."""

    def __init__(
        self, world: World, split: Mapping[str, Sequence[Task]], propose: object, *, seed: int = 0,
        decisions: int = 24, alpha: float = 0.05, attempts: int = 2, candidates: int = 4, budget: int | None = None,
        **gate: object,
    ) -> None:  # fmt: skip
        self.world, self.ledger = world, Spending(alpha, decisions)
        evaluator = Evaluator(world, split, budget=Budget(budget))
        self.draws = Draws(split[VALIDATION], seed)
        unhurried = {"cap": 480, "slack": 99.0, "run_cap": 20_000, "promise": -9}
        config = GateConfig(**{"alpha": alpha, **unhurried, **gate})  # type: ignore[arg-type]
        confirmation = Confirmation(
            evaluator, self.ledger, self.draws,
            cap=config.cap, batch=config.batch, run_cap=config.run_cap, mei=config.mei, slack=config.slack,
        )  # fmt: skip
        self.engine = Engine(
            evaluator, Catalog(), Gate(config, evaluator, confirmation), History(), attempts, candidates, 0.1, seed,
        )  # fmt: skip
        self.engine = replace(self.engine, propose=propose)  # type: ignore[arg-type]

    async def run(self, strategy: Strategy, folder: Path, rounds: int, patience: int = 99) -> Result:
        """A run into ``folder``."""
        with RunStore.open(folder, {}, resume=True) as store:
            self.journal = journal = Journal(store, self.engine.evaluator, self.engine.history, self.engine.seed)
            journal.begin(H0)
            schedule = Schedule(rounds, patience, lambda: "")
            return await strategy.run(self.engine, journal, H0, schedule)


def _trace(result: RolloutResult) -> str:
    return Trajectory(result.task_id, result.attempt, result.harness, outcome=result.outcome).to_jsonl()
