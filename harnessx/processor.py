"""A processor: the unit of which harnesses are made (paper §2).

A processor is a dataclass whose init fields are its parameters (JSON values) and whose other fields
are private state. It is listed once in a harness and serves every hook in ``hooks``; the run loop
builds one instance per rollout and calls ``bind`` before the first event.

    @dataclass
    class StepCounter(Processor):
        hooks = (Hook.BEFORE_MODEL,)
        dimension = Dimension.CONTROL
        limit: int = 20

        def process(self, event: BeforeModelEvent) -> Iterator[Event]:
            yield event.remind(f"Step {event.step} of {self.limit}.")

``process`` is a generator; one that waits for something, a model's answer say, is an async generator.
The class attributes ``hooks, group, order, after, dimension, effects`` are written as literals, so that a
host can read them from evolved source without importing it.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harnessx.delegation import Spawner, no_spawning
from harnessx.hooks import Event, Hook
from harnessx.messages import ModelRequest, ModelResponse
from harnessx.permissions import Effect
from harnessx.tools.base import Tool
from harnessx.web import Fetcher, no_network


class Order(IntEnum):
    """Coarse position within a hook."""

    PRE = 0
    NORMAL = 1
    POST = 2


class Dimension(StrEnum):
    """The nine dimensions of a harness (paper §2)."""

    MODEL_SELECTION = "D1"
    CONTEXT = "D2"
    MEMORY = "D3"
    TOOLS = "D4"
    EXECUTION = "D5"
    EVALUATION = "D6"
    CONTROL = "D7"
    OBSERVABILITY = "D8"
    TRAINING = "D9"


class Completer(Protocol):
    """How a processor asks a model: through the host, under the rollout's budgets."""

    async def __call__(self, role: str, request: ModelRequest) -> ModelResponse: ...


@dataclass
class Context:
    """What the loop gives a processor for one rollout.

    ``rng`` is seeded by ``seed``, which is the rollout's. ``step`` is the logical clock: the number of the current
    step, 0 before the first. ``scratch`` is a private folder that dies with the rollout. ``asset``
    reads a text asset of the harness by its path. ``claims`` (JSON values) end in the trajectory, as what
    the harness says about itself. ``fetch`` asks a host that the user allowed, for a processor that declares
    `Effect.NETWORK`; it raises `harnessx.errors.FetchRefused` for whatever is not allowed. ``assets`` are the paths
    of the harness's assets, ``roles`` those that ``complete`` may be asked for. ``spawn`` runs sub-agents.
    """

    task_id: str
    prompt: str
    attempt: int
    seed: str
    complete: Completer
    scratch: Callable[[], Path]
    asset: Callable[[str], str]
    step: int = 0
    slots: Mapping[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    fetch: Fetcher = no_network
    assets: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("main",)
    spawn: Spawner = no_spawning

    @cached_property
    def rng(self) -> random.Random:
        """The one source of randomness that a processor may use. Made when first asked for."""
        return random.Random(self.seed)


class Processor(ABC):
    """Base of all processors. Subclasses are dataclasses and override ``process``."""

    hooks: ClassVar[tuple[Hook, ...]] = ()
    group: ClassVar[str | None] = None
    """Singleton group: at most one processor of a group in a harness."""
    order: ClassVar[Order] = Order.NORMAL
    after: ClassVar[tuple[str, ...]] = ()
    """Groups this one comes after, where they are present."""
    dimension: ClassVar[Dimension] = Dimension.CONTROL
    effects: ClassVar[frozenset[Effect]] = frozenset()
    """What it does beyond its events: ``frozenset({Effect.NETWORK})`` where it fetches."""

    ctx: Context

    def bind(self, ctx: Context) -> None:
        """Take the rollout's context. Called once, before any event."""
        self.ctx = ctx

    def brings(self) -> Sequence[Tool]:
        """Tools that come with it, and share its state. Asked for once, before ``bind``; of no further effects."""
        return ()

    @abstractmethod
    def process(self, event: Any) -> Iterator[Event] | AsyncIterator[Event]:
        """Consume one event; yield the events that go on. A generator, async if it waits for anything.

        Raises:
            Interrupt: to halt the loop on purpose. Any other exception is a harness error.
        """
