"""D7, control: loops and repeated failures are seen, and said or stopped."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from harnessx.hooks import BeforeModelEvent, Event, Hook, ToolCallEvent, ToolResultEvent
from harnessx.processor import Dimension, Processor
from harnessx.processors.calls import FAILURES, Signature, contains, signature, spoken

Seen: TypeAlias = tuple[Signature, str]


@dataclass
class LoopDetection(Processor):
    """Tells the model, in plain words, which calls it repeats without any new result.

    Two kinds of loop are seen: the same call with the same result ``repeats`` times among the last
    ``window`` calls, and a cycle of 2 to ``max_cycle`` calls gone round ``rounds`` times. After a
    warning the count starts anew. Each call costs O(max_cycle).
    """

    hooks = (Hook.AFTER_TOOL, Hook.BEFORE_MODEL)
    group = "loop"
    dimension = Dimension.CONTROL

    repeats: int = 3
    """How often one call with one result makes a loop."""
    rounds: int = 2
    """How often a cycle must go round."""
    max_cycle: int = 4
    """Longest cycle, in calls; below 2 no cycles are looked for."""
    window: int = 20
    """How many calls back repetitions count."""
    _recent: deque[Seen] = field(default_factory=deque, init=False, repr=False)
    _counts: dict[Seen, int] = field(default_factory=dict, init=False, repr=False)
    _runs: list[int] = field(default_factory=list, init=False, repr=False)
    _pending: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.repeats < 2 or self.rounds < 2:
            raise ValueError("'repeats' and 'rounds' must be at least 2")
        if self.window < max(self.repeats, self.max_cycle):
            raise ValueError("'window' must be at least as large as 'repeats' and 'max_cycle'")
        self._forget()

    def process(self, event: ToolResultEvent | BeforeModelEvent) -> Iterator[Event]:
        if isinstance(event, ToolResultEvent):
            call = event.call
            loop = self._loop((signature(call.name, call.arguments), event.content))
            if loop:
                self._pending = loop
                self._forget()
        elif self._pending:
            event, self._pending = event.remind(self._pending), ""
        yield event

    def _forget(self) -> None:
        self._recent.clear()
        self._counts.clear()
        self._runs = [0] * (self.max_cycle + 1)

    def _loop(self, seen: Seen) -> str:
        """The warning that ``seen`` calls for, if it closes a loop; else ''."""
        recent, counts, runs = self._recent, self._counts, self._runs
        cycle: list[Seen] = []
        for period in range(2, self.max_cycle + 1):  # runs[p]: how long each call equals the one p before
            runs[period] = runs[period] + 1 if len(recent) >= period and recent[-period] == seen else 0
            if not cycle and runs[period] >= period * (self.rounds - 1):
                cycle = [*list(recent)[len(recent) - period + 1 :], seen]
        if len(recent) == self.window:
            oldest = recent.popleft()
            counts[oldest] -= 1
            if not counts[oldest]:
                del counts[oldest]
        recent.append(seen)
        counts[seen] = counts.get(seen, 0) + 1
        if counts[seen] >= self.repeats:
            call = _spoken(seen)
            return f"Do not {call} again: it has given the same result {self.repeats} times. Do something else."
        if len(set(cycle)) > 1:
            calls = _quoted(cycle)
            return f"You are going round in a circle, with the same results: {calls}. Do not repeat it."
        return ""


def _spoken(seen: Seen) -> str:
    (name, arguments), _ = seen
    return spoken(name, json.loads(arguments))


def _quoted(cycle: Iterable[Seen]) -> str:
    return ", then ".join(f'"{_spoken(seen)}"' for seen in cycle)


@dataclass
class RepeatedFailureGuard(Processor):
    """Refuses a call that has failed before in exactly this form, and tells the model so.

    A success of any call clears the counts, since the world may have changed.
    """

    hooks = (Hook.BEFORE_TOOL, Hook.AFTER_TOOL)
    group = "repeated_failure"
    dimension = Dimension.CONTROL

    max_failures: int = 2
    """Failures of a call after which it is refused."""
    failures: Sequence[str] = FAILURES
    """Texts (lower case) in a result that count as failures, besides error results."""
    _failures: dict[Signature, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_failures < 1:
            raise ValueError("'max_failures' must be at least 1")

    def process(self, event: ToolCallEvent | ToolResultEvent) -> Iterator[Event]:
        if isinstance(event, ToolResultEvent):
            self._count(event)
        elif self._failures:
            failed = self._failures.get(signature(event.name, event.arguments), 0)
            if failed >= self.max_failures:
                reason = f"this exact call has failed {failed} times; do something else"
                event = replace(event, approved=False, reason=reason)
        yield event

    def _count(self, event: ToolResultEvent) -> None:
        if event.is_error or contains(event.content, self.failures):
            key = signature(event.call.name, event.call.arguments)
            self._failures[key] = self._failures.get(key, 0) + 1
        else:
            self._failures.clear()
