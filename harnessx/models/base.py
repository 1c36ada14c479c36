"""The Model protocol: what answers a request."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from harnessx.messages import ModelRequest, ModelResponse


class Stopwatch(Protocol):
    """The wall time of a rollout."""

    def stopped(self) -> AbstractContextManager[object]:
        """No time passes inside."""
        ...

    def charge(self, seconds: float) -> None:
        """So much of the time that did not pass counts all the same."""
        ...


class NoStopwatch:
    """Nobody counts."""

    def stopped(self) -> AbstractContextManager[object]:
        """Nothing to stop."""
        return nullcontext()

    def charge(self, seconds: float) -> None:
        """Nobody to charge."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """Where a call comes from. With the request, it fixes the randomness of an offline model.

    ``path`` is the caller (``main``, a role, ``sub[i]``); ``n`` counts identical requests of that
    path within the rollout, so that asking the same thing twice draws twice.
    """

    seed: int = 0
    task_id: str = ""
    attempt: int = 0
    path: str = "main"
    n: int = 0
    watch: Stopwatch = field(default=NoStopwatch(), compare=False, repr=False)
    """A provider's bad days are not the harness's time."""


class Model(Protocol):
    """Answers requests. One instance serves many concurrent rollouts.

    A class with ``deterministic = True`` promises equal answers to equal requests in equal contexts. One with
    ``price`` says what a prompt and a completion token cost, in dollars, or None; one with
    ``remote = True`` asks somebody over a network: a `harnessx.models.provider.Provider` then paces and retries it.
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """Identity for rollout keys: name, sampling, version; weights where they are local."""
        ...

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Answer one request.

        Raises:
            ModelFailure: the provider failed; ``transient`` says whether a retry makes sense.
        """
        ...


@runtime_checkable
class Adapting(Protocol):
    """A model whose provider is told something else than the request, and answers in words of its own.

    Its answers are kept as they came and read afterwards, so that a better reader needs no second answer.
    """

    def key(self, request: ModelRequest) -> str:
        """Hash of what the provider is told of ``request``: equal keys, equal questions."""
        ...

    async def ask(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Ask once; the answer as it came, in ``raw``, with usage, served model and fingerprint.

        Raises:
            ModelFailure: as `Model.complete`.
        """
        ...

    def read(self, request: ModelRequest, answer: ModelResponse) -> ModelResponse:
        """What an answer that came from `ask`, now or long ago, says. Never asks anybody."""
        ...


class Tape(Protocol):
    """The response cache of one (split, benchmark, task, attempt)."""

    def get(self, key: str) -> tuple[ModelResponse, str] | None:
        """The cached response and the rollout that first asked, or None."""
        ...

    def put(self, key: str, origin: str, response: ModelResponse) -> None:
        """Keep a response; the first one of a key stays."""
        ...
