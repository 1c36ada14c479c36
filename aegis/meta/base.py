"""The meta-agent: who is asked where judgement is needed. Everything else the stages compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aegis.candidate import Candidate, Proposal

if TYPE_CHECKING:
    from aegis.history import History
    from aegis.stages.digester import Digest
    from aegis.stages.planner import Landscape
    from aegis.stages.symptoms import Observation
    from harnessx.harness import HarnessConfig
    from harnessx.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a failure is put down to."""

    category: str
    components: tuple[str, ...]


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
    """Four roles. A role that cannot answer gives nothing, which its stage turns into a clean no-op."""

    @property
    def name(self) -> str: ...

    async def judge(self, record: Trajectory, observations: Sequence[Observation]) -> Judgement | None:
        """Digester: the cause of one failure, among what was observed. None keeps the first symptom."""
        ...

    async def prioritize(self, landscape: Landscape) -> tuple[str, ...]:
        """Planner: categories in the order they should be worked on; empty is a no-op."""
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
