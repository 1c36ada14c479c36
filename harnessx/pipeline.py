"""The processors of one hook, run in order, with the hook's contract enforced after each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import islice
from types import GeneratorType
from typing import Any, Generic, TypeVar

from harnessx.contracts import Scope, check_contract
from harnessx.errors import ContractViolation, Failure, HarnessxError, Source
from harnessx.hooks import CONTRACTS, Hook
from harnessx.processor import Processor

MAX_PARTS = 16
"""A split may not have more parts than this at any hook."""

E = TypeVar("E")


class Pipeline(Generic[E]):
    """One hook of one rollout."""

    __slots__ = ("_contract", "_processors", "_scope")

    def __init__(self, hook: Hook, processors: Sequence[Processor], scope: Scope) -> None:
        self._contract, self._processors, self._scope = CONTRACTS[hook], tuple(processors), scope

    async def run(self, event: E) -> list[E]:
        """The events that come out: none (intercepted), one, or the parts of a split.

        Raises:
            ContractViolation: a processor broke the hook's contract.
            Interrupt: a processor halts the loop.
            Failure: a processor crashed, or a model call that it made failed.
        """
        contract, events = self._contract, [event]
        most, least = MAX_PARTS if contract.may_split else 1, 0 if contract.may_intercept else 1
        for processor in self._processors:
            produced: list[E] = []
            for current in events:
                try:
                    stream = processor.process(current)
                    if type(stream) is GeneratorType:
                        outs = [*islice(stream, most + 1)]
                    else:
                        outs = await _first(stream, most + 1)  # type: ignore[arg-type]
                    for out in outs:
                        if out is not current:
                            check_contract(contract, processor, current, out, self._scope)
                except HarnessxError:
                    raise
                except Exception as error:
                    where = f"{type(processor).__name__} at {contract.hook}"
                    raise Failure(Source.PROCESSOR, f"{where}: {type(error).__name__}: {error}") from error
                if len(outs) < least:
                    raise self._violation(processor, "intercept", "no event")
                produced = produced + outs if produced else outs
                if len(produced) > most:
                    raise self._violation(processor, "split", f"more than {most} events")
            events = produced
            if not events:
                break
        return events

    def _violation(self, processor: Processor, field: str, detail: str) -> ContractViolation:
        return ContractViolation(type(processor).__name__, self._contract.hook, field, detail)


async def _first(stream: AsyncIterator[Any], count: int) -> list[Any]:
    """What ``stream`` yields, its first ``count`` at most."""
    outs: list[Any] = []
    async for out in stream:
        outs.append(out)
        if len(outs) == count:
            break
    return outs
