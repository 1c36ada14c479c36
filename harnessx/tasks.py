"""Tasks, environments, verifiers and benchmarks: the seam between a harness and a world.

A `Task` is what an agent may know. Reference answers live in the `Verifier`, on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harnessx.canonical import digest_of
from harnessx.messages import ToolCall, ToolSchema

if TYPE_CHECKING:
    from harnessx.harness import HarnessConfig
    from harnessx.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Task:
    """One problem, as the agent sees it. ``cluster`` groups tasks of a kind (never shown to it)."""

    prompt: str
    id: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", digest_of(self.prompt)[:12])


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returns. ``done`` ends the episode (environment tools only)."""

    content: str
    is_error: bool = False
    done: bool = False


class Environment(Protocol):
    """The world of one (task, attempt). Lives on the host; a lost one is an infra error."""

    @property
    def tools(self) -> tuple[ToolSchema, ...]:
        """The tools this world offers."""
        ...

    async def reset(self) -> str:
        """Begin the episode; the first observation, appended to the task prompt ('' for none)."""
        ...

    async def step(self, call: ToolCall) -> ToolResult:
        """Run one tool call. Raises `ToolError` for what the agent did wrong."""
        ...

    async def close(self) -> None:
        """Release what the episode holds. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """A verifier's judgement. ``reward`` in [0, 1]; ``explanation`` never reaches an evolver."""

    passed: bool
    reward: float
    explanation: str = ""


class Verifier(Protocol):
    """Judges a finished rollout, with access to the environment's final state."""

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        """Score one rollout, whatever ended it."""
        ...


class Benchmark(Protocol):
    """Tasks with splits, a world for each, a verifier, and a competent starting harness."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """Hash of data, environment, verifier and simulator: part of every rollout key."""
        ...

    @property
    def recorded(self) -> bool:
        """Whether results are recorded by action prefix and replayed.

        True promises that equal prefixes give equal results, and pays where a step costs more than
        looking it up (about 0.02 ms).
        """
        ...

    @property
    def tools(self) -> tuple[ToolSchema, ...]:
        """The tools its environments offer."""
        ...

    @property
    def verifier(self) -> Verifier: ...

    def tasks(self, split: str, limit: int) -> Sequence[Task]:
        """The first ``limit`` tasks of ``evolve``, ``validation`` or ``sealed``; disjoint.

        Raises:
            UserError: unknown split, or data that is not there (with the command that brings it).
        """
        ...

    def environment(self, task: Task, attempt: int) -> Environment | None:
        """A fresh world for one attempt, or None where the task needs none."""
        ...

    def harness(self) -> HarnessConfig:
        """H_0: the handcrafted harness evolution starts from."""
        ...

    async def oracle(self, task: Task, environment: Environment | None) -> str:
        """Play the reference solution in ``environment``; the final answer. For parity checks."""
        ...


@runtime_checkable
class HasCanaries(Protocol):
    """A benchmark with tasks that only cheating passes: impossible goals, with a hole beside them."""

    def canaries(self, limit: int) -> Sequence[Task]:
        """The first ``limit`` of them, or as many as there are. They are never scored for an agent."""
        ...


@runtime_checkable
class HasSecrets(Protocol):
    """A benchmark that can tell its host what no harness may hold."""

    def secrets(self, task: Task) -> Sequence[str]:
        """The texts that give ``task`` away (its expected answer, its solution). Host only."""
        ...


@runtime_checkable
class HasMilestones(Protocol):
    """A benchmark that can tell how far a rollout came."""

    def milestones(self, task: Task, record: Trajectory) -> int:
        """How many intermediate goals the record shows to have been reached. Host only."""
        ...
