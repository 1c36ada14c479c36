"""D8, observability: what is counted, and what must not be seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.hooks import (
    Event,
    Hook,
    ModelResponseEvent,
    StepEndEvent,
    TaskEndEvent,
    ToolCallEvent,
    ToolResultEvent,
)
from harnessx.messages import ToolCall, Usage
from harnessx.processor import Dimension, Order, Processor
from harnessx.processors.calls import any_of
from harnessx.redaction import REDACTED, Redactor

_SHAPES = Redactor()


@dataclass
class Metrics(Processor):
    """Counts events, tokens, money, tool calls and tool errors; the claim ``metrics`` of the rollout."""

    hooks = (
        Hook.TASK_START,
        Hook.STEP_START,
        Hook.BEFORE_MODEL,
        Hook.AFTER_MODEL,
        Hook.BEFORE_TOOL,
        Hook.AFTER_TOOL,
        Hook.STEP_END,
        Hook.TASK_END,
    )
    group = "metrics"
    order = Order.POST
    dimension = Dimension.OBSERVABILITY

    _events: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _tools: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _errors: int = field(default=0, init=False, repr=False)
    _usage: Usage = field(default=Usage(), init=False, repr=False)

    def process(self, event: Event) -> Iterator[Event]:
        self._events[type(event).__name__] += 1
        match event:
            case ToolCallEvent():
                self._tools[event.name] += 1
            case ToolResultEvent():
                self._errors += event.is_error
            case StepEndEvent():
                self._usage += event.usage
            case TaskEndEvent():
                self.ctx.claims["metrics"] = self.summary()
        yield event

    def summary(self) -> dict[str, Any]:
        """The counts so far, as a JSON object."""
        usage = self._usage
        return {
            "events": dict(self._events),
            "tool_calls": dict(self._tools),
            "tool_errors": self._errors,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost_usd": usage.cost_usd,
        }


@dataclass
class SecretRedaction(Processor):
    """Replaces further secrets in tool results, answers and call arguments; the host has taken out known keys."""

    hooks = (Hook.AFTER_MODEL, Hook.AFTER_TOOL)
    group = "redaction"
    order = Order.PRE
    dimension = Dimension.OBSERVABILITY

    patterns: Sequence[str] = ()
    """Regular expressions of what only this task calls a secret."""

    _further: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._further = any_of(self.patterns)

    def process(self, event: ModelResponseEvent | ToolResultEvent) -> Iterator[Event]:
        content = self._without_secrets(event.content)
        if content != event.content:
            event = replace(event, content=content)
        if isinstance(event, ModelResponseEvent) and event.tool_calls:
            calls = tuple(self._clean_call(call) for call in event.tool_calls)
            if any(new is not old for new, old in zip(calls, event.tool_calls, strict=True)):
                event = replace(event, tool_calls=calls)
        yield event

    def _without_secrets(self, text: str) -> str:
        text = _SHAPES(text)
        return self._further.sub(REDACTED, text) if self.patterns else text

    def _clean_call(self, call: ToolCall) -> ToolCall:
        arguments = self._clean(call.arguments)
        raw = self._clean(call.raw)
        if arguments is call.arguments and raw is call.raw:
            return call
        return replace(call, arguments=arguments, raw=raw)

    def _clean(self, value: Any) -> Any:
        """``value`` without secrets; the same object where there are none."""
        match value:
            case str():
                text = self._without_secrets(value)
                return value if text == value else text
            case Mapping():
                cleaned: Any = {key: self._clean(item) for key, item in value.items()}
                same = all(cleaned[key] is item for key, item in value.items())
            case list():
                cleaned = [self._clean(item) for item in value]
                same = all(new is old for new, old in zip(cleaned, value, strict=True))
            case _:
                return value
        return value if same else cleaned
