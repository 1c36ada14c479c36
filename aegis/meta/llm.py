"""Who thinks: language models, one harness of this project for each of the four roles (paper §3).

What a role must do by code is done by code: the stages compute outcomes, regressions, hit rates and audits, the
tools keep to what may be read, and the checks of a candidate are the gate's. Here is who is asked what, and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aegis.candidate import Candidate, Proposal
from aegis.history import History
from aegis.meta import answers, questions
from aegis.meta.answers import Criticism, Finding, Question
from aegis.meta.base import Brief, Case, Judgement, NoAnswer, Plan, Review, Survey
from aegis.meta.desk import Bench, Reader, Trials
from aegis.meta.roles import Role, RoleSettings, check_model, role_harness, role_model, role_settings
from aegis.meta.session import Answered, Asked, ask
from aegis.meta.view import RunView, view
from aegis.meta.workbench import Workbench
from aegis.record_session import Duty
from aegis.settings import whole
from aegis.stages.digester import Digest
from aegis.stages.planner import Landscape
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig, ModelRef
from harnessx.trajectory import Trajectory

T = TypeVar("T")

MOST_QUESTIONS = 4
"""Of a Critic, in a round."""
REVISING = 2
"""Rollouts that a revision may be checked and tried with."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the Evolver hands over, best first; or why it hands over nothing."""

    value: Sequence[Proposal]
    no_op: str


@dataclass
class LanguageModels:
    """The meta-agent of ``meta=llm`` and ``meta=mixed``.

    Args:
        model: of every role that names none; None: the task model's.
        roles: a section for each role (`aegis.meta.roles.RoleSettings`).
        digesters: sessions of the Digester that run at once.
        trials: rollouts of a round that candidates may be checked and tried with.

    Raises:
        UserError: a setting is unknown, missing or out of range.
    """

    model: ModelRef | None
    roles: Mapping[str, Any]
    digesters: int = 4
    trials: int = 12
    name: str = "llm"
    _settings: dict[Role, RoleSettings] = field(init=False, repr=False)
    _harnesses: dict[Role, HarnessConfig] = field(init=False, repr=False)
    _models: dict[Role, ModelConfig] = field(default_factory=dict, init=False, repr=False)
    _bench: Workbench | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        whole("meta.digesters", self.digesters)
        whole("meta.trials", self.trials, 0)
        check_model("meta.model", self.model)
        self._settings = role_settings(self.roles)
        self._harnesses = {role: role_harness(role, settings) for role, settings in self._settings.items()}

    def prepare(self, task_model: ModelConfig) -> None:
        """Settle which model serves which role.

        Raises:
            UserError: a role has none.
        """
        self._models = {
            role: role_model(role, settings, self.model, task_model) for role, settings in self._settings.items()
        }

    def attach(self, bench: Workbench) -> None:
        """Work at ``bench`` from now on."""
        self._bench = bench

    @property
    def bench(self) -> Workbench:
        """The bench of the run.

        Raises:
            UserError: there is none.
        """
        if self._bench is None:
            raise UserError(f"meta={self.name} has no run to work for")
        return self._bench

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement | None]:
        """Digester: up to `digesters` failures at once. One without an answer keeps its first symptom."""
        turn = asyncio.Semaphore(self.digesters)

        async def one(case: Case) -> Answered[Judgement]:
            task, anchors = case.record.task_id, anchors_of(case.trajectories)
            asked = Asked(case.round, case.incumbent.digest, Duty.JUDGE, task)
            async with turn:
                return await self._ask(
                    Role.DIGESTER,
                    asked,
                    questions.judge(case),
                    Reader(self._view(case.round, case.incumbent, case.trajectories)),
                    lambda text: answers.judgement(text, task, case.components, anchors),
                )

        return [done.value for done in await self._together([one(case) for case in cases])]

    async def prioritize(self, survey: Survey) -> Plan:
        """Planner: an order of the regions with advice, or a no-op."""
        landscape = survey.landscape
        seen = self._view(
            landscape.round, survey.incumbent, survey.trajectories, survey.history, survey.digest, landscape
        )
        asked = Asked(landscape.round, survey.incumbent.digest, Duty.PLAN, "plan")
        known = [region.category for region in landscape.regions]
        if not known:
            return Plan((), reason="nothing fails")
        session = self._ask(
            Role.PLANNER, asked, questions.plan(survey), Reader(seen), lambda text: answers.plan(text, known)
        )
        return (await self._together([session]))[0].given()

    async def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Evolver: the candidates that it has written, checked and chosen."""
        trials = Trials(self.trials)
        asked = Asked(brief.round, brief.incumbent.digest, Duty.PROPOSE, "candidates")
        found = await self._written(asked, brief, questions.propose(brief, trials.left), trials, brief.count)
        if not found.value:
            raise NoAnswer(f"the evolver proposes nothing: {found.no_op}")
        return found.value

    async def revise(self, proposal: Proposal, request: str, brief: Brief) -> Proposal:
        """Evolver: the candidate as the Critic wants it."""
        asked = Asked(brief.round, brief.incumbent.digest, Duty.REVISE, proposal.manifest.candidate_id, said=request)
        question = questions.revise(proposal, request, brief)
        found = await self._written(asked, brief, question, Trials(min(REVISING, self.trials)), 1)
        if not found.value:
            raise NoAnswer(f"the evolver declines: {found.no_op}")
        return found.value[0]

    async def review(self, candidates: Sequence[Candidate], brief: Brief) -> Review:
        """Critic: a ranking with requests, or a no-op. It may ask the Digester for more evidence first, once."""
        first = await self._criticize(candidates, brief, ())
        if not first.questions:
            return first.review
        wanted = first.questions[:MOST_QUESTIONS]
        found = await self._evidence(wanted, brief)
        return (await self._criticize(candidates, brief, list(zip(wanted, found, strict=True)))).review

    async def _criticize(
        self, candidates: Sequence[Candidate], brief: Brief, known: Sequence[tuple[Question, Sequence[Finding]]]
    ) -> Criticism:
        asked = Asked(brief.round, brief.incumbent.digest, Duty.REVIEW, "again" if known else "candidates")
        ids, tasks = [c.id for c in candidates], [t.task for t in brief.digest.tasks]
        session = self._ask(
            Role.CRITIC,
            asked,
            questions.review(candidates, brief, known),
            Reader(self._seen(brief)),
            lambda text: answers.criticism(text, ids, tasks, may_ask=not known),
        )
        return (await self._together([session]))[0].given()

    async def _evidence(self, wanted: Sequence[Question], brief: Brief) -> list[Sequence[Finding]]:
        """What the Digester finds, question by question."""
        anchors, turn = anchors_of(brief.trajectories), asyncio.Semaphore(self.digesters)

        async def one(place: int, question: Question) -> Answered[tuple[Finding, ...]]:
            name = f"{question.task}-{place}"
            asked = Asked(brief.round, brief.incumbent.digest, Duty.EVIDENCE, name, said=question.text)
            desk = Reader(self._seen(brief))
            async with turn:
                return await self._ask(
                    Role.DIGESTER,
                    asked,
                    questions.more_evidence(question),
                    desk,
                    lambda text: answers.findings(text, anchors),
                )

        sessions = [one(place, question) for place, question in enumerate(wanted, 1)]
        return [done.value or () for done in await self._together(sessions)]

    async def _written(self, asked: Asked, brief: Brief, question: str, trials: Trials, most: int) -> Written:
        desk = Bench(self._seen(brief), self.bench, brief, trials)
        session = self._ask(
            Role.EVOLVER, asked, question, desk, lambda text: answers.choice(text, list(desk.written), most)
        )
        chosen = (await self._together([session]))[0].given()
        return Written([desk.supported(name) for name in chosen.names], chosen.no_op)

    async def _ask(
        self, role: Role, asked: Asked, question: str, desk: Reader, read: Callable[[str], T]
    ) -> Answered[T]:
        return await ask(self.bench, asked, self._harnesses[role], self._models[role], question, desk, read)

    async def _together(self, sessions: Sequence[Coroutine[Any, Any, Answered[T]]]) -> list[Answered[T]]:
        """Run sessions at once, and count them in the order given. The first that is cut off cancels the others."""
        with self.bench.asking():
            tasks = [asyncio.ensure_future(session) for session in sessions]
            try:
                done = await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        self.bench.settle([(session.record, session.spend) for session in done])
        return done

    def _seen(self, brief: Brief) -> RunView:
        return self._view(
            brief.round, brief.incumbent, brief.trajectories, brief.history, brief.digest, brief.landscape
        )

    def _view(
        self,
        number: int,
        incumbent: HarnessConfig,
        trajectories: Sequence[Trajectory],
        history: History | None = None,
        digest: Digest | None = None,
        landscape: Landscape | None = None,
    ) -> RunView:
        return view(self.bench.store.path, number, incumbent, trajectories, history, digest, landscape)


def anchors_of(trajectories: Sequence[Trajectory]) -> frozenset[str]:
    """Every step there is to cite."""
    return frozenset(t.anchor(step.index) for t in trajectories for step in t.steps)
