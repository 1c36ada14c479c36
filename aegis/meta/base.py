"""The meta-agent: who is asked where judgement is needed. Everything else the stages compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from aegis.candidate import Candidate, Proposal
from harnessx.errors import HarnessxError

if TYPE_CHECKING:
    from aegis.history import History
    from aegis.meta.workbench import Workbench
    from aegis.stages.digester import Digest
    from aegis.stages.planner import Landscape
    from aegis.stages.symptoms import Observation
    from harnessx.harness import HarnessConfig
    from harnessx.model_config import ModelConfig
    from harnessx.trajectory import Trajectory


class NoAnswer(HarnessxError):
    """A role could not be had, or answered nothing that can be read: its stage ends the round with the reason."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the Digester works from: one task that failed, beside everything that was played in the round.

    ``record`` is the first attempt that failed, ``observations`` what code saw in it, ``components`` the names of
    the incumbent's processors.
    """

    round: int
    incumbent: HarnessConfig
    record: Trajectory
    observations: Sequence[Observation]
    history: tuple[float, ...]
    trajectories: Sequence[Trajectory]

    @property
    def components(self) -> tuple[str, ...]:
        """What a failure may implicate."""
        return tuple(traits.name for traits in self.incumbent.traits)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a failure is put down to. ``anchors`` are the steps that show it, ``cause`` says why, in a sentence."""

    category: str
    components: tuple[str, ...]
    cause: str = ""
    anchors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """What the Planner works from: the computed landscape, and the digests and the history behind it."""

    landscape: Landscape
    digest: Digest
    incumbent: HarnessConfig
    history: History
    trajectories: Sequence[Trajectory]


@dataclass(frozen=True, slots=True)
class Plan:
    """The Planner's answer: categories in the order they should be worked on, none for a no-op with its ``reason``.

    ``advice`` says of a category what to try.
    """

    order: tuple[str, ...]
    advice: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Brief:
    """What the Evolver works from."""

    round: int
    incumbent: HarnessConfig
    digest: Digest
    landscape: Landscape
    history: History
    trajectories: Sequence[Trajectory]
    count: int
    seed: int

    def candidate_id(self, number: int) -> str:
        """C-R<round>-<nn>, from 1."""
        return f"C-R{self.round}-{number:02d}"


@dataclass(frozen=True, slots=True)
class Review:
    """The Critic's answer: an order of shipping, revision requests by candidate, or a no-op."""

    ranking: tuple[str, ...]
    requests: Mapping[str, str] = field(default_factory=dict)
    no_op: str = ""
    strategy_concern: str = ""


class MetaAgent(Protocol):
    """Four roles. A role that gives nothing, or raises `NoAnswer` with why, makes its stage a clean no-op."""

    @property
    def name(self) -> str: ...

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement | None]:
        """Digester: the cause of each failure, in the order given. None keeps the first symptom observed."""
        ...

    async def prioritize(self, survey: Survey) -> Plan:
        """Planner: what should be worked on, and in which order."""
        ...

    async def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Evolver: up to ``brief.count`` proposals."""
        ...

    async def revise(self, proposal: Proposal, request: str, brief: Brief) -> Proposal | None:
        """Evolver: one revision asked for by the Critic; None withdraws the proposal."""
        ...

    async def review(self, candidates: Sequence[Candidate], brief: Brief) -> Review:
        """Critic: compare claims with evidence, rank, or decline."""
        ...


@runtime_checkable
class NeedsWorkbench(Protocol):
    """A meta-agent that asks models or programs: it works at a bench of the run, given before the first round."""

    def prepare(self, task_model: ModelConfig) -> None:
        """Settle what it asks, before anything is written or run; ``task_model`` serves where it names no other.

        Raises:
            UserError: what is missing, and how to set it.
        """
        ...

    def attach(self, bench: Workbench) -> None:
        """Take the bench."""
        ...
