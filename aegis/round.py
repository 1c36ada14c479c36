"""One round of AEGIS: Algorithm 1 of the paper (§3), line by line.

trajectories <- run H_t on the evolve batch
digests      <- Digester                       actionability too low -> no-op
landscape    <- Planner                        empty -> no-op
candidates   <- Evolver                        none well typed -> no-op
ranking      <- Critic                         mandatory; may ask for one revision
H_{t+1}      <- Gate                           mandatory; deterministic
H_{t+1}      <- best confirmed harness         if drift below it is confirmed (STATISTICS rule 9)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.canary import Canary, CanaryReport
from aegis.gate.drift import DriftReport, DriftWatch, confirmed
from aegis.gate.gate import Gate
from aegis.gate.routes import RouteRuling
from aegis.gate.ruling import GateReport
from aegis.history import History
from aegis.meta.base import Brief, MetaAgent, NoAnswer
from aegis.routing import System
from aegis.stages import critic, digester, evolver, planner
from harnessx.errors import BudgetSpent
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Engine:
    """What a round works with. The stages' only inputs are trajectories, history and the incumbent."""

    evaluator: Evaluator
    meta: MetaAgent
    gate: Gate
    history: History
    attempts: int
    candidates: int
    actionability: float
    seed: int
    on_stage: Callable[[int, str], None] = field(default=lambda number, name: None)
    propose: Propose = field(default=lambda engine, incumbent, number: propose(engine, incumbent, number))
    """Where candidates come from: the four stages, or a testbed whose edits are known to be good or bad."""
    drift: DriftWatch | None = None
    """Holds the harness at work against the best confirmed one. One watch serves one line of incumbents."""
    canary: Canary | None = None
    """Watches the provider from the beginning of a round to its end."""


@dataclass(slots=True)
class Round:
    """One round's record, filled in as the round goes. ``stop`` is the reason of a clean no-op.

    ``began`` and ``left`` are what was deployed before and after, where that is more than ``incumbent`` and its
    ``successor``: a pool of variants; ``routes`` are the rulings on its routes. ``baseline`` is of ``began``.
    """

    number: int
    incumbent: HarnessConfig
    baseline: Evaluation
    digest: digester.Digest | None = None
    landscape: planner.Landscape | None = None
    candidates: Sequence[Candidate] = ()
    rejected: Sequence[evolver.Rejected] = ()
    critique: critic.Critique | None = None
    report: GateReport | None = None
    drift: DriftReport | None = None
    canary: CanaryReport | None = None
    trajectories: Sequence[Trajectory] = ()
    stop: str = ""
    began: System | None = None
    left: System | None = None
    routes: Sequence[RouteRuling] = ()

    @property
    def deployed(self) -> System:
        """What was deployed when the round began."""
        return self.began or self.incumbent

    @property
    def deploys(self) -> System:
        """What is deployed after the round."""
        return self.left or self.successor

    @property
    def ranking(self) -> Sequence[Candidate]:
        """What goes to the gate, the Critic's choice first."""
        return self.critique.ranking if self.critique is not None else self.candidates

    @property
    def successor(self) -> HarnessConfig:
        """H_{t+1}: what the gate let through, else H_t; the best confirmed harness after a rollback."""
        if self.drift is not None and isinstance(self.drift.harness, HarnessConfig):
            return self.drift.harness
        return self.report.incumbent if self.report is not None else self.incumbent


Propose: TypeAlias = Callable[[Engine, HarnessConfig, int], Awaitable[Round]]


async def run_round(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
    """Run round ``number`` (from 1) on ``incumbent``: four stages that propose, one gate that decides.

    Where the run's budget is spent on the way, the round ends there, with what the gate had let through.
    """
    this = Round(number, incumbent, Evaluation(incumbent.digest, EVOLVE, ()))
    try:
        await begin_watch(engine, incumbent, number)
        this = await engine.propose(engine, incumbent, number)
        if not this.stop:
            engine.on_stage(number, "gate")
            read = anchors(this.trajectories)
            this.report = await engine.gate.check(this.ranking, this.baseline, incumbent, read, this.trajectories)
        await end_watch(engine, this)
    except BudgetSpent as spent:
        this.stop = str(spent)
    return this


async def begin_watch(engine: Engine, incumbent: HarnessConfig, number: int) -> None:
    """Note how the provider answers before the round's first rollout (STATISTICS rule 14)."""
    if engine.canary is not None:
        engine.on_stage(number, "canary")
        await engine.canary.begin(incumbent, number)


async def end_watch(engine: Engine, this: Round) -> None:
    """Is the provider still the same, and the harness at work no worse than the best confirmed one?

    An alarm of the canary discards what is undecided. A ship of that round stands: both arms of a pair meet the same
    provider, in random order within the window, so the pairs that decided it compare like with like at any time.
    """
    if engine.canary is not None:
        this.canary = await engine.canary.end(this.number)
        if this.canary.alarmed:
            this.report = this.report and this.report.discarding(this.canary.reason)
            engine.gate.forget()
            if engine.drift is not None:
                engine.drift.restart()
    if engine.drift is not None:
        for ruling in this.report.shipped if this.report is not None else ():
            if confirmed(ruling.decision, ruling.e_value, ruling.alpha):
                engine.drift.confirm(ruling.candidate.parent, ruling.candidate.harness)
        this.drift = await engine.drift.check(this.successor)


async def propose(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
    """The four stages: measure ``incumbent``, read its traces, and rank candidates for the gate."""
    evaluator, history = engine.evaluator, engine.history

    engine.on_stage(number, "rollouts")
    baseline, trajectories = await evaluator.record(incumbent, engine.attempts)
    this = Round(number, incumbent, baseline, trajectories=trajectories)
    history.outcomes.append(baseline.rates)
    history.incumbents.append(incumbent.digest)
    history.score_predictions()
    try:
        await think(engine, this)
    except NoAnswer as silent:
        this.stop = str(silent)
    return this


async def think(engine: Engine, this: Round) -> None:
    """Digester, Planner, Evolver, Critic; the first that has nothing to pass on stops the round, with the reason.

    Raises:
        NoAnswer: a role could not be had, which stops the round as well.
    """
    meta, history, incumbent, trajectories = engine.meta, engine.history, this.incumbent, this.trajectories

    engine.on_stage(this.number, "digest")
    clusters = {task.id: task.cluster for task in engine.evaluator.tasks[EVOLVE]}
    this.digest = await digester.digest(trajectories, clusters, incumbent, history, meta)
    if this.digest.actionability < engine.actionability:
        this.stop = f"actionability {this.digest.actionability:.2f} is below {engine.actionability:g}"
        return

    engine.on_stage(this.number, "plan")
    this.landscape = await planner.plan(this.digest, history, meta, incumbent, trajectories)
    if this.landscape.empty:
        this.stop = "the landscape is empty" + (f": {this.landscape.reason}" if this.landscape.reason else "")
        return

    engine.on_stage(this.number, "evolve")
    brief = Brief(
        this.number,
        incumbent,
        this.digest,
        this.landscape,
        history.told(),
        trajectories,
        engine.candidates,
        engine.seed,
    )
    this.candidates, this.rejected = await evolver.evolve(brief, meta)
    if not this.candidates:
        this.stop = "no candidate is well typed"
        return

    engine.on_stage(this.number, "criticize")
    this.critique = await critic.criticize(this.candidates, brief, meta)
    history.strategy_concern = this.critique.strategy_concern
    if not this.critique.ranking:
        this.stop = f"the critic ranks nothing: {this.critique.no_op or 'every candidate was dropped'}"


def anchors(trajectories: Sequence[Trajectory]) -> frozenset[str]:
    """Every step there is to cite."""
    return frozenset(t.anchor(step.index) for t in trajectories for step in t.steps)
