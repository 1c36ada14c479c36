"""The seam between the run loop and the trusted side: what the loop is told, what it may ask, what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from harnessx.delegation import Allowance, Lease
from harnessx.errors import StopReason
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, ToolSchema
from harnessx.tasks import ToolResult
from harnessx.web import Fetch, Fetched


class Port(Protocol):
    """The trusted side, as the loop sees it. Limits, cache, record and environment are behind it."""

    async def complete(self, request: ModelRequest, path: str) -> ModelResponse:
        """Ask the model of ``request.role``; ``path`` names the caller."""
        ...

    async def call(self, call: ToolCall, path: str = "main") -> ToolResult:
        """Run one of the environment's tools."""
        ...

    async def fetch(self, request: Fetch) -> Fetched:
        """Ask a host on the network."""
        ...

    async def spawn(self, asked: Sequence[Allowance]) -> list[Lease]:
        """Carve budgets for so many sub-agents from what is left, all or none.

        Raises:
            ToolError: nothing is left to carve from, or there were too many sub-agents.
        """
        ...

    async def join(self, path: str, stop: StopReason) -> None:
        """The sub-agent of ``path`` has ended; what it did not spend goes back."""
        ...


@dataclass(frozen=True, slots=True)
class Episode:
    """What the loop is told of a rollout. ``draws`` seeds its randomness, '' for what follows from the rest."""

    task_id: str
    prompt: str
    attempt: int = 0
    seed: int = 0
    tools: tuple[ToolSchema, ...] = ()
    roles: tuple[str, ...] = ("main",)
    draws: str = ""

    def masked(self) -> Episode:
        """The same, for code that is not trusted: neither split nor position nor attempt can be told from it.

        All that names the rollout follows from the prompt, which the code sees anyway; the randomness is the
        same as beside the host.
        """
        ident = f"task-{hashlib.blake2b(self.prompt.encode(errors='replace'), digest_size=6).hexdigest()}"
        return replace(self, task_id=ident, attempt=0, seed=0, draws=self.randomness)

    @property
    def randomness(self) -> str:
        """The seed of all that the harness draws: the same for every harness, another for each attempt."""
        text = f"{self.seed}/{self.attempt}/{self.prompt}"
        return self.draws or hashlib.blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the loop stopped and what the agent answered."""

    stop_reason: StopReason
    answer: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)
