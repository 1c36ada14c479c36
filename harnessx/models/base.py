"""The Model protocol: what answers a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harnessx.messages import ModelRequest, ModelResponse


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


class Model(Protocol):
    """Answers requests. One instance serves many concurrent rollouts.

    A class with ``deterministic = True`` promises equal answers to equal requests in equal contexts.
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
