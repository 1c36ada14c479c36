"""A model behind a network, with manners: paced, asked again where that makes sense, given up where it does not.

A call that failed for good leaves open who is to blame, the request or the provider. If the provider answered
anybody since that call began, it is the request, and one rollout is missing. Else the provider is asked for one
word, once for all calls that wonder (the circuit is half open): where even that fails, it is down.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from harnessx.canonical import json_line
from harnessx.errors import LimitReached, ModelFailure, ProviderDown
from harnessx.messages import Conversation, Message, ModelRequest, ModelResponse, Usage
from harnessx.models.base import Adapting, CallContext, Model
from harnessx.models.limiter import Limiter
from harnessx.models.patience import MAX_BYTES, Patience

TOO_MANY = 429
_ABOUT_THE_REQUEST = (400, 413, 422)
"""Statuses of somebody who is there, and minds what was asked."""
PROBES = 3
_PROBE = ModelRequest("", Conversation([Message("user", "Say yes.")]))
_PROBING = CallContext(path="probe")


class Provider:
    """A `Model` around a remote one. What belongs to a call of the harness's own doing is never retried.

    Args:
        ceiling: calls that may run at once.

    Raises (from ``ask`` and ``complete``):
        ModelFailure: the call failed for good, though the provider is there.
        ProviderDown: the provider is not.
    """

    def __init__(self, model: Model, patience: Patience | None = None, ceiling: int = 64) -> None:
        self.name, self.digest = model.name, model.digest
        self.limiter = Limiter(ceiling)
        self._adapting = model if isinstance(model, Adapting) else None
        self._answer = model.ask if isinstance(model, Adapting) else model.complete
        self._patience = patience or Patience()
        self._heard = -1.0
        """When it last answered anybody, in seconds of the monotonic clock."""
        self._down: ProviderDown | None = None
        self._probe_at = 0.0
        self._probing = asyncio.Lock()
        self._probed = Usage()
        """What probes cost that nobody has been told of."""

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """`ask`, and what the answer says."""
        answer = await self.ask(request, context)
        return answer if self._adapting is None else self._adapting.read(request, answer)

    async def ask(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Answer by the model, at the provider's pace; only the try that succeeds counts against the wall time.

        What failed tries cost all the same is added to the usage of the answer, or of the failure. The answer of an
        `Adapting` model is still to be read.
        """
        began = time.monotonic()
        if self._down is not None:
            await self._check(self._down, began)
        tries, lost = 0, Usage()
        with context.watch.stopped():
            while True:
                asked = time.monotonic()
                try:
                    answer = await self._try(request, context)
                except ModelFailure as failure:
                    tries, lost = tries + 1, lost + (failure.usage or Usage())
                    wait = self._patience.wait(failure, tries, context)
                    late = time.monotonic() + wait - began > self._patience.patience_s
                    if late or not failure.transient:
                        await self._gone(failure, lost, began)
                        failure.usage = self._billed(lost)
                        raise
                    await asyncio.sleep(wait)
                else:
                    context.watch.charge(time.monotonic() - asked)
                    more = self._billed(lost)
                    return answer if more is None else replace(answer, usage=answer.usage + more)

    async def _gone(self, failure: ModelFailure, lost: Usage, began: float) -> None:
        """`_check`; who is told that the provider is down is told as well what that cost.

        Raises:
            ProviderDown: it is.
        """
        try:
            await self._check(failure, began)
        except ProviderDown as down:
            told = ProviderDown(down.reason)
            told.usage = self._billed(lost)
            raise told from failure

    def _billed(self, lost: Usage) -> Usage | None:
        """What tries that failed cost, and probes since somebody was last told; None: nothing."""
        more, self._probed = lost + self._probed, Usage()
        return more if more.total_tokens else None

    async def _try(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """One try."""
        async with self.limiter.permit():
            try:
                async with asyncio.timeout(self._patience.timeout_s):
                    answer = await self._answer(request, context)
            except TimeoutError as error:
                raise ModelFailure(f"{self.name}: no answer within {self._patience.timeout_s:g} s") from error
            except ModelFailure as failure:
                if failure.status == TOO_MANY:
                    self.limiter.refused()
                elif failure.status in _ABOUT_THE_REQUEST:
                    self._heard = time.monotonic()
                raise
            self._heard = time.monotonic()
            self.limiter.answered()
        size = len(answer.content) + sum(len(call.raw or "") for call in answer.tool_calls)
        size += len(json_line(answer.raw)) if answer.raw is not None else 0
        if size > MAX_BYTES:
            raise ModelFailure(f"{self.name}: an answer of {size:,} characters is refused", usage=answer.usage)
        return answer

    async def _check(self, failure: ModelFailure, began: float) -> None:
        """Return if the provider is there.

        Raises:
            ProviderDown: it is not, as far as was seen since ``began``; the last word on that.
        """
        async with self._probing:
            if self._heard >= began:
                self._down = None
                return
            if self._down is None or time.monotonic() >= self._probe_at:
                self._down = await self._probe(self._down or failure)
            if self._down is not None:
                raise self._down

    async def _probe(self, failure: ModelFailure) -> ProviderDown | None:
        """What it says to one word, asked `PROBES` times where it fails in passing. None: it is there."""
        tries = 0
        while True:
            try:
                self._probed += (await self._try(_PROBE, _PROBING)).usage
            except LimitReached:
                return None
            except ModelFailure as again:
                if again.status in _ABOUT_THE_REQUEST:
                    return None
                tries += 1
                if again.transient and tries < PROBES:
                    await asyncio.sleep(min(self._patience.longest_s, self._patience.wait(again, tries, _PROBING)))
                    continue
                self._probe_at = time.monotonic() + self._patience.longest_s
                return self._verdict(failure)
            return None

    def _verdict(self, failure: ModelFailure) -> ProviderDown:
        said = str(failure).removeprefix("model: ").rstrip(".")
        lasting = f", for {self._patience.patience_s:g} s" if failure.transient else ""
        return ProviderDown(f"{said}{lasting}; see to task_model, its API key and its endpoint")
