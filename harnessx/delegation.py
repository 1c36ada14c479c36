"""What a harness asks for when part of a task goes to a sub-agent, and what it gets back.

A sub-agent is the same harness over an empty history, with a budget of its own that the host carves from
what is left of the rollout's. Its requests cross the seam under its own path, so that the host counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harnessx.errors import StopReason, ToolError


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a sub-agent may spend: requests, tokens, dollars; None takes an equal part of what is left."""

    steps: int
    tokens: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """An allowance that the host granted, under the path by which it knows the sub-agent."""

    path: str
    granted: Allowance


@dataclass(frozen=True, slots=True)
class Assignment:
    """One sub-agent's work.

    ``system`` replaces the system prompt ('' keeps it); ``tools`` names the world's tools that it is offered
    (empty: all); ``role`` is the model that serves it; ``without`` names processors, by class or group, that it
    does not have. Everything else of the harness it has too, its guards above all.
    """

    task: str
    allowance: Allowance
    system: str = ""
    tools: tuple[str, ...] = ()
    role: str = "main"
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an assignment."""

    path: str
    answer: str
    stop_reason: StopReason
    steps: int
    tokens: int


class Spawner(Protocol):
    """Runs sub-agents at once, and returns their reports in the order of the assignments."""

    async def __call__(self, assignments: Sequence[Assignment]) -> list[Report]:
        """Raises `ToolError` where no budget is left to carve from; a sub-agent that breaks breaks the rollout."""
        ...


async def no_spawning(assignments: Sequence[Assignment]) -> list[Report]:
    """The `Spawner` of a context in which there is no rollout, and of sub-agents: they have none of their own."""
    raise ToolError("there are no sub-agents here")
