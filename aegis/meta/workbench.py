"""What a meta-agent works with: the run's recordings, its budget, its checks, and a few rollouts.

One bench serves a run. What is asked at it is paid from the account ``meta``; rollouts are the run's own. Sessions
are counted in the order in which they were asked for, whatever order they ended in, so that a run taken up again
spends what it had spent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE, Evaluator
from aegis.gate.gate import Gate
from aegis.manifest import Evidence
from aegis.meta.base import Brief
from aegis.record_session import SessionRecord
from aegis.store import RunStore
from harnessx.errors import CallRefused, HarnessInvalid, Outcome, UserError
from harnessx.model_config import ModelConfig, Models
from harnessx.models.patience import Patience
from harnessx.models.spend import Spend
from harnessx.runner.cassette import Cassette
from harnessx.runner.jobs import Job
from harnessx.runner.purse import Purse
from harnessx.runner.tellers import OwnTeller
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

ACCOUNT = "meta"
RUN = ("level_1", "level_2")
"""Kinds of evidence that only running produces; a proposer's own word on them is dropped."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the instant checks say of a candidate, and the evidence that running it produced."""

    findings: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()

    @property
    def text(self) -> str:
        """For whoever wrote the candidate."""
        lines = [f"refused by {finding}" for finding in self.findings] or ["passes every check that can be made here"]
        return "\n".join([*lines, *(f"{e.type}: {e.claim} {', '.join(e.observed)}".rstrip() for e in self.evidence)])


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate beside its incumbent on evolve attempts."""

    rows: tuple[tuple[str, str, str], ...]
    """Task, what the incumbent came to, what the candidate comes to."""

    @property
    def text(self) -> str:
        """For whoever wrote the candidate."""
        gained = sum(before != "passed" and after == "passed" for _, before, after in self.rows)
        lost = sum(before == "passed" and after != "passed" for _, before, after in self.rows)
        lines = [f"{task}: {before} -> {after}" for task, before, after in self.rows]
        return "\n".join([f"gained {gained}, lost {lost} of {len(lines)} attempts", *lines])


class Refusing(OwnTeller):
    """A teller whose refusal ends the session, and is remembered as what it was."""

    def __init__(self, purse: Purse) -> None:
        super().__init__(purse, ACCOUNT)
        self.refused: UserError | None = None

    async def reserve(self, account: str) -> int:
        """Ask the purse.

        Raises:
            CallRefused: it is empty, or cannot be kept.
        """
        try:
            return await super().reserve(account)
        except UserError as error:
            self.refused = error
            raise CallRefused(str(error)) from error


@dataclass
class Workbench:
    """The run, as far as a meta-agent has to do with it.

    Args:
        ceiling: calls of one model that may run at once.
    """

    evaluator: Evaluator
    gate: Gate
    store: RunStore
    purse: Purse
    patience: Patience
    ceiling: int = 8
    seed: int = 0
    sessions: list[SessionRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.teller = Refusing(self.purse)

    def models(self, config: ModelConfig) -> Models:
        """The live models of a role, paid from the account ``meta``."""
        return Models(config, self.patience, self.ceiling, self.teller if self.purse.limited else None)

    def cassette(self, scope: str) -> Cassette:
        """What was recorded of a session, and where what is new is recorded."""
        store = self.store
        cassette = Cassette(scope, lambda name, entry: store.put_recordings({name: [entry]}))
        cassette.load(store.recordings(scope))
        return cassette

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around a session or several: refuses to begin once the budget is spent, and remembers why.

        Raises:
            BudgetSpent: it is.
        """
        allowance = self.evaluator.allowance
        allowance.check()
        with allowance.asking():
            yield

    def settle(self, done: Sequence[tuple[SessionRecord, Spend]]) -> None:
        """Count sessions that are over, in the order in which they were asked for.

        Raises:
            BudgetSpent: a cap is reached with them, so they must not be used.
        """
        for record, spend in done:
            self.sessions.append(record)
            self.evaluator.meter.pay(ACCOUNT, spend)
        with self.evaluator.allowance.asking():
            self.evaluator.allowance.settle()

    async def check(self, proposal: Proposal, brief: Brief, run: Task | None) -> Checked:
        """The gate's own checks, as far as a proposer may make them; then, on an attempt at ``run``, contracts and
        effect. Evidence of level 1 is that the smoke tests pass, of level 2 that a request of that attempt changes.
        """
        try:
            candidate = Candidate.of(proposal, brief.incumbent, brief.round)
        except HarnessInvalid as error:
            return Checked((f"canonical: {error}",))
        anchors = frozenset(t.anchor(step.index) for t in brief.trajectories for step in t.steps)
        for check in self.gate.instant(anchors):
            finding = await check(candidate)
            if finding is not None:
                return Checked((f"{finding.check}: {finding.reason}",))
        found: list[Evidence] = []
        if candidate.new_code:
            paths = ", ".join(sorted(candidate.new_code))
            found.append(Evidence("level_1", f"the smoke tests of {paths} pass behind the wall"))
        before = _attempt(brief, run)
        if run is None or before is None:
            return Checked((), tuple(found))
        return await self._play(candidate, run, before, found)

    async def _play(self, candidate: Candidate, task: Task, before: Trajectory, found: list[Evidence]) -> Checked:
        self.evaluator.allowance.check()
        job = Job(EVOLVE, task, before.attempt, (candidate.harness,), keep_tape=True, trajectories=True)
        (after,) = await self.evaluator.trajectories([job])
        if after.outcome is Outcome.HARNESS_ERROR:
            return Checked((f"contracts: it crashes at {task.id}: {after.error}",), tuple(found))
        if after.outcome is Outcome.INFRA_ERROR:
            return Checked((), tuple(found))
        step = diverges(before, after)
        if step is None:
            return Checked((f"effect: no request changes at {task.id}",), tuple(found))
        claim = f"its effect is in the model's request at this step of {task.id}"
        return Checked((), (*found, Evidence("level_2", claim, (before.anchor(step),))))

    async def try_out(self, proposal: Proposal, brief: Brief, tasks: Sequence[Task]) -> Tried:
        """The candidate on the first evolve attempts of ``tasks``, beside what the incumbent did there.

        Raises:
            HarnessInvalid: it does not apply.
            BudgetSpent: nothing more may be run.
        """
        candidate = Candidate.of(proposal, brief.incumbent, brief.round)
        known = {t.task_id: t.outcome.value for t in brief.trajectories if t.attempt == 0}
        jobs = [Job(EVOLVE, task, 0, (candidate.harness,), keep_tape=True) for task in tasks]
        arms = await self.evaluator.run(jobs)
        rows = [(r.task_id, known.get(r.task_id, "not played"), r.outcome.value) for (r,) in arms]
        return Tried(tuple(rows))

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The evolve tasks by id."""
        return {task.id: task for task in self.evaluator.tasks[EVOLVE]}


def diverges(before: Trajectory, after: Trajectory) -> int | None:
    """The step of ``before`` at which ``after`` asks something else; None where it never does."""
    asked = [(e.key, step.index) for step in before.steps for e in step.exchanges]
    again = [e.key for step in after.steps for e in step.exchanges]
    for (key, index), other in zip(asked, again, strict=False):
        if key != other:
            return index
    return None if len(asked) == len(again) or not asked else asked[min(len(again), len(asked)) - 1][1]


def _attempt(brief: Brief, task: Task | None) -> Trajectory | None:
    """The incumbent's first attempt at ``task`` that could be run."""
    ran = (t for t in brief.trajectories if task is not None and t.task_id == task.id)
    return next((t for t in ran if t.outcome is not Outcome.INFRA_ERROR), None)
