"""D2, context assembly while the agent works: what of the history a model sees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harnessx.hooks import BeforeModelEvent, Event, Hook, StepStartEvent, ToolResultEvent
from harnessx.messages import Conversation
from harnessx.processor import Context, Dimension, Order, Processor
from harnessx.processors.calls import one_line

GOAL = r"(?i)\b(?:task|goal|objective|question)\b[^:.\n]{0,20}:"
"""How a line that states a goal usually begins."""

_NOTICE = "\n[{} characters left out]\n"


def goal_of(prompt: str, pattern: str = GOAL) -> str:
    """The last line of a task prompt in which ``pattern`` is found; without one, the last paragraph."""
    for line in reversed(prompt.splitlines()):
        if re.search(pattern, line):
            return line.strip()
    return prompt.strip().rsplit("\n\n", 1)[-1].strip()


@dataclass
class CurrentState(Processor):
    """Restates the goal and the last observation right before the model answers."""

    hooks = (Hook.BEFORE_MODEL,)
    group = "reminder"
    after = ("memory",)
    dimension = Dimension.CONTEXT

    every: int = 1
    """Remind at steps divisible by this."""
    max_chars: int = 400
    """Longest goal, and longest observation, in characters."""
    goal_pattern: str = GOAL
    """Regular expression of the line with the goal; where none matches, the prompt's last paragraph is it."""
    observation: bool = True
    """Whether the last observation is restated too."""
    _goal: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1 or self.max_chars < 1:
            raise ValueError("'every' and 'max_chars' must be at least 1")

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._goal = one_line(goal_of(ctx.prompt, self.goal_pattern), self.max_chars)

    def process(self, event: BeforeModelEvent) -> Iterator[Event]:
        if event.step % self.every:
            yield event
            return
        text = self._goal
        if self.observation and len(event.messages):
            last = event.messages[-1]
            if last.role == "tool":
                text = f"{text}\nThe last result was: {one_line(last.text, self.max_chars)}"
        yield event.remind(text)


@dataclass
class SlidingWindow(Processor):
    """Keeps the first and the latest messages of the history; forgets the middle, for good.

    A tool call and its results stay or go together; the latest turn always stays whole. When the
    history outgrows ``max_messages``, ``block`` messages go at once, so that rebuilding the history
    costs O(1) a step on average, and a provider's prompt cache holds in between.
    """

    hooks = (Hook.STEP_START,)
    group = "window"
    dimension = Dimension.CONTEXT

    max_messages: int = 40
    """Longest history, in messages (longer only if the first and latest turns alone are)."""
    keep_first: int = 1
    """Messages at the start that always stay: the task."""
    block: int = 0
    """Least number of messages dropped at once; 0: half the window."""

    def __post_init__(self) -> None:
        if not 0 <= self.keep_first < self.max_messages:
            raise ValueError("'keep_first' must be at least 0 and less than 'max_messages'")
        if not 0 <= self.block < self.max_messages:
            raise ValueError("'block' must be at least 0 and less than 'max_messages'")

    def process(self, event: StepStartEvent) -> Iterator[Event]:
        if len(event.messages) > self.max_messages:
            kept = self._kept(event.messages)
            if len(kept) < len(event.messages):
                event = replace(event, messages=kept)
        yield event

    def _kept(self, messages: Conversation) -> Conversation:
        size = len(messages)
        head = self.keep_first
        while head < size and messages[head].role == "tool":  # results of a call among the first
            head += 1
        room = self.max_messages - (self.block or self.max_messages // 2)
        start = max(head, size - max(room - head, 0))
        while start < size and messages[start].role == "tool":  # results whose call is dropped
            start += 1
        if start == size:
            start -= 1
            while start > head and messages[start].role == "tool":
                start -= 1
        return Conversation((*messages[:head], *messages[start:]))


@dataclass
class ToolResultTruncation(Processor):
    """Cuts the middle out of long tool results; start and end stay."""

    hooks = (Hook.AFTER_TOOL,)
    group = "truncation"
    order = Order.POST
    after = ("compression",)
    dimension = Dimension.CONTEXT

    max_chars: int = 4000
    """Longest result, in characters, the notice of the cut included."""

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise ValueError("'max_chars' must be at least 1")

    def process(self, event: ToolResultEvent) -> Iterator[Event]:
        if len(event.content) > self.max_chars:
            event = replace(event, content=self._cut(event.content))
        yield event

    def _cut(self, text: str) -> str:
        room = self.max_chars - len(_NOTICE.format(len(text)))
        if room < 2:
            return text[: self.max_chars]
        notice = _NOTICE.format(len(text) - room)
        return text[: room - room // 2] + notice + text[len(text) - room // 2 :]


@dataclass
class ToolResultCompression(Processor):
    """Drops what a result says twice: blank runs, repeated lines, and long results seen shortly before."""

    hooks = (Hook.AFTER_TOOL,)
    group = "compression"
    order = Order.POST
    dimension = Dimension.CONTEXT

    fold_within: int = 10
    """A result equal to one at most this many steps old becomes a reference to that step; 0: never."""
    fold_chars: int = 80
    """Shorter results are never folded, in characters."""
    _seen: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def process(self, event: ToolResultEvent) -> Iterator[Event]:
        content = _without_repeats(event.content)
        if len(content) >= self.fold_chars:
            first = self._seen.setdefault(content, event.step)
            if first < event.step:
                if event.step - first <= self.fold_within:
                    content = f"(same as the result of step {first})"
                else:
                    self._seen[content] = event.step
        yield event if content == event.content else replace(event, content=content)


def _without_repeats(text: str) -> str:
    """``text`` without trailing spaces and without lines equal to the line before."""
    kept: list[str] = []
    for line in text.splitlines():
        line = line.rstrip()
        if not kept or line != kept[-1]:
            kept.append(line)
    return "\n".join(kept).strip("\n")
