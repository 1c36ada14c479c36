"""D4, tools: an answer that wanted to call a tool and did not is asked for again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harnessx.hooks import BeforeModelEvent, Event, Hook, ModelResponseEvent, StepStartEvent
from harnessx.processor import Context, Dimension, Processor
from harnessx.processors.calls import any_of, one_line


@dataclass
class ParseRetry(Processor):
    """Withholds an answer without a tool call that is no final answer either, and says what was wrong.

    With ``final_markers``, an answer is final if it contains one of them. Without, it is final unless
    it is empty, writes a call to an offered tool in its text, or matches one of ``intents``. At the
    last step nothing is withheld.
    """

    hooks = (Hook.STEP_START, Hook.BEFORE_MODEL, Hook.AFTER_MODEL)
    group = "parse_retry"
    after = ("tool_repair", "argument_coercion")
    dimension = Dimension.TOOLS

    max_retries: int = 2
    """Retries in a row; the next such answer goes through."""
    final_markers: Sequence[str] = ()
    """Texts (case does not matter) that a final answer contains."""
    intents: Sequence[str] = ()
    """Regular expressions (case does not matter) of texts that announce an action."""
    _tools: tuple[str, ...] = field(default=(), init=False, repr=False)
    _wanted: re.Pattern[str] = field(init=False, repr=False)
    _last_step: int = field(default=0, init=False, repr=False)
    _retries: int = field(default=0, init=False, repr=False)
    _pending: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self._wanted = self._pattern()

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._last_step = ctx.slots["limits"].steps

    def process(self, event: StepStartEvent | BeforeModelEvent | ModelResponseEvent) -> Iterator[Event]:
        match event:
            case StepStartEvent():
                if event.tools != self._tools:
                    self._tools = event.tools
                    self._wanted = self._pattern()
            case BeforeModelEvent():
                if self._pending:
                    event, self._pending = event.remind(self._pending), ""
            case ModelResponseEvent():
                if event.tool_calls or self._is_final(event.content):
                    self._retries = 0
                elif self._retries < self.max_retries and event.step < self._last_step:
                    self._retries += 1
                    self._pending = self._complaint(event.content)
                    return
        yield event

    def _pattern(self) -> re.Pattern[str]:
        names = "|".join(map(re.escape, self._tools)) or r"(?!)"
        written = [rf"\b(?:{names})\s*[({{]", rf"[\"'`](?:{names})[\"'`]"]
        return any_of([*self.intents, *written], re.IGNORECASE)

    def _is_final(self, text: str) -> bool:
        if self.final_markers:
            lowered = text.lower()
            return any(marker.lower() in lowered for marker in self.final_markers)
        return bool(text.strip()) and not self._wanted.search(text)

    def _complaint(self, text: str) -> str:
        said = f'"{one_line(text, 300)}"' if text.strip() else "empty"
        lines = [f"Your last answer was {said}. It called no tool, so nothing was done."]
        if self._tools:
            lines.append(f"To act, call one of the tools: {', '.join(self._tools)}.")
        if self.final_markers:
            lines.append(f"If the task is complete, say so with: {' or '.join(self.final_markers)}.")
        return " ".join(lines)
