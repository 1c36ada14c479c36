"""One simulated run: the real strategy, gate, confirmation and ledger, on drawn rollouts."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE, VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.gate import Gate
from aegis.gate.ruling import Ruling
from aegis.history import History
from aegis.journal import Journal
from aegis.manifest import Evidence, FileChange, Manifest, Signature
from aegis.meta.base import MetaAgent
from aegis.record import Bucket, Decision, Prediction
from aegis.round import Engine, Round
from aegis.routing import RoutedPool, System
from aegis.statistics import Elond, Ledger, Spending
from aegis.strategies.base import Schedule, Strategy
from aegis.strategies.global_ import Global
from aegis.testbed.population import Effect, Kind, Population
from aegis.testbed.runner import SimulatedRunner, edit_of
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Step, Trajectory

EPSILON = 1e-9
"""Gains up to this are rounding."""
NOBODY = cast(MetaAgent, None)
"""Edits are drawn: no meta-agent is asked."""

Offer = Callable[[Population, random.Random, int], Sequence[Effect]]
"""What a proposer brings to round ``number``, given the population and the run's draws."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run to simulate; ``offer`` brings its candidates."""

    offer: Offer
    rounds: int = 15
    candidates: int = 4
    attempts: int = 1
    gate: GateConfig = field(default_factory=GateConfig)
    ledger: type[Spending] | type[Elond] = Spending
    strategy: Callable[[], Strategy] = Global
    population: Callable[[random.Random], Population] = Population.drawn
    confirmation: Callable[..., Confirmation] = Confirmation


@dataclass(frozen=True, slots=True)
class Ship:
    """A shipped edit and the true change of the mean rate that came with it."""

    round: int
    kind: Kind
    gain: float


@dataclass(frozen=True, slots=True)
class Fate:
    """What the gate said of one candidate; ``harmful``: that it makes some tasks worse."""

    kind: Kind
    decision: Decision
    pairs: int
    diverged: int
    harmful: bool


@dataclass(slots=True)
class Simulated(Journal):
    """What became of one run; a `Journal` that keeps the truth and writes nothing.

    ``truth[t]`` is the exact success rate of the incumbent after round t (0: of the bare harness).
    """

    runner: SimulatedRunner
    ships: list[Ship] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)

    def close_round(self, this: Round) -> None:
        """Compare what the gate did with the truth."""
        for ruling in this.report.rulings if this.report is not None else ():
            kind = _kind(ruling.candidate)
            harmful = ruling.decision is Decision.REJECT and "harm" in ruling.reason
            self.fates.append(Fate(kind, ruling.decision, ruling.pairs, ruling.diverged, harmful))
            if ruling.decision is Decision.SHIP:
                self.ships.append(Ship(this.number, kind, self._gain(this, ruling)))
        self.truth.append(self.runner.truth(this.deploys))

    def _gain(self, this: Round, ruling: Ruling) -> float:
        """Of the mean over all tasks: by an edit of the incumbent, of a pool's variant, or by routes to a fork."""
        harness, parent = ruling.candidate.harness, ruling.candidate.parent
        if ruling.check == "fork":
            routes = [r for r in this.routes if r.ships and harness in r.after.variants]
            return sum(self.runner.truth(r.after) - self.runner.truth(r.before) for r in routes)
        if isinstance(this.began, RoutedPool):
            place = this.began.variants.index(this.incumbent)
            before, after = (this.began.swapped(place, variant) for variant in (parent, harness))
            return self.runner.truth(after) - self.runner.truth(before)
        return self.runner.truth(harness) - self.runner.truth(parent)

    def save_best(self, system: System) -> None:
        """Nothing is written."""

    def write(self) -> None:
        """Nothing is written."""

    @property
    def false_ships(self) -> int:
        """Ships without a true gain."""
        return sum(ship.gain <= EPSILON for ship in self.ships)

    @property
    def rollouts(self) -> int:
        """Rollouts that were asked for."""
        return self.runner.rollouts


def simulate(plan: Plan, seed: int) -> Simulated:
    """Run ``plan`` once."""
    rng = random.Random(f"testbed/{seed}")
    population = plan.population(rng)
    effects: dict[str, Effect] = {}
    runner = SimulatedRunner(population, effects, seed)
    evaluator = Evaluator(runner, runner.tasks())
    ledger: Ledger = plan.ledger(plan.gate.alpha, plan.rounds * (plan.candidates + plan.gate.bundle))
    gate = plan.gate
    confirmation = plan.confirmation(
        evaluator, ledger, Draws(evaluator.tasks[VALIDATION], seed),
        cap=gate.cap, batch=gate.batch, run_cap=gate.run_cap, mei=gate.mei, slack=gate.slack,
        cluster_alpha=gate.cluster_alpha,
    )  # fmt: skip

    async def propose(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
        baseline = await engine.evaluator.evaluate(incumbent, EVOLVE, plan.attempts)
        trace = Trajectory(engine.evaluator.tasks[EVOLVE][0].id, steps=[Step(1)])
        this = Round(number, incumbent, baseline, trajectories=[trace])
        engine.history.outcomes.append(baseline.rates)
        engine.history.incumbents.append(incumbent.digest)
        offered = plan.offer(population, rng, number)
        effects.update((effect.name, effect) for effect in offered)
        this.candidates = [candidate(e, incumbent, number, i, trace) for i, e in enumerate(offered, start=1)]
        return this

    engine = Engine(
        evaluator, NOBODY, Gate(gate, evaluator, confirmation), History(),
        plan.attempts, plan.candidates, 0.0, seed, propose=propose,
    )  # fmt: skip
    outcome = Simulated(runner, truth=[population.truth(())])
    schedule = Schedule(plan.rounds, patience=plan.rounds + 1, spent=lambda: "")
    asyncio.run(plan.strategy().run(engine, outcome, HarnessConfig(), schedule))
    return outcome


def candidate(effect: Effect, parent: HarnessConfig, round: int, number: int, trace: Trajectory) -> Candidate:
    """The candidate that stands for ``effect``; its evidence is the first step of ``trace``."""
    anchor = trace.anchor(1)
    manifest = Manifest(
        candidate_id=f"C-R{round}-{number:02d}",
        title=effect.name,
        bucket=(Bucket.PROMPT,),
        capability_evidence=(Evidence("trace", "simulated", (anchor,)),),
        file_changes=(FileChange(f"assets/{effect.name}.txt", "add", "simulated"),),
        predicted_impact=Prediction(unlock=(trace.task_id,)),
        attribution_signature=Signature("prompt_feature", effect.name),
        failure_evidence="simulated",
        root_cause="simulated",
        targeted_fix="simulated",
        risk_argument="simulated",
        lever=effect.kind.value,
    )
    return Candidate.of(Proposal(edit_of(effect), manifest), parent, round)


def _kind(made: Candidate) -> Kind:
    return Kind(made.manifest.lever) if made.manifest.lever in set(Kind) else Kind.BUNDLE


def unlimited(**changes: float | str) -> GateConfig:
    """The gate that every study starts from: all candidates are tested, alone, and none is given up for its course."""
    base: dict[str, float | str] = {"max_trials": 1000, "run_cap": 1 << 40, "veto": 1 << 40, "slack": math.inf}
    base |= {"promise": -(1 << 40), "bundle": False}
    return GateConfig(**{**base, **changes})  # type: ignore[arg-type]
