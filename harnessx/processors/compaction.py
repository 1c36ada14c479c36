"""D2, context assembly: what is old is summarised before the history outgrows its budget; nothing of it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.errors import ToolError
from harnessx.hooks import Event, Hook, StepStartEvent
from harnessx.messages import Conversation, Message, ModelRequest
from harnessx.processor import Dimension, Processor
from harnessx.processors.calls import one_line, signature, spoken
from harnessx.processors.paging import pages_of
from harnessx.tools.base import Tool, ToolContext

_HEAD = "What happened before, in short"
_ORDER = (
    "You keep the memory of an agent at work. The part of its history below will be replaced by what you write. Keep "
    "what it needs to go on: what was asked, what was found and where, what was done and what came of it, what failed, "
    "what is left to do. Names, numbers and paths as they stand there. Nothing that does not stand there. At most "
    "{} words."
)
_LEFT_OUT = "earlier lines left out)"
_LINE = 200
"""Longest result, and longest call, in a summary made by rule, in characters."""


@dataclass
class Compaction(Processor):
    """Replaces the middle of a long history by a summary, so that at most ``target_tokens`` are left of it.

    The first messages and the latest turns stay; a call and its results go together. Tokens are estimated by length.
    The summary is written by the model of ``role``; where none serves it, or its answer is empty or too long, by
    rule: a line for each distinct call, the newest that fit. What was replaced is a checkpoint, which the tool
    ``recall`` shows page by page. The claim ``compaction`` lists what was done.
    """

    hooks = (Hook.STEP_START,)
    group = "compaction"
    after = ("window",)
    dimension = Dimension.CONTEXT

    max_tokens: int = 24_000
    """The history is compacted when it is longer."""
    target_tokens: int = 8_000
    """Longest history afterwards, unless the first messages, the summary and the latest turn alone are longer."""
    summary_tokens: int = 1_000
    """Longest summary."""
    keep_first: int = 1
    """Messages at the start that always stay: the task."""
    role: str = "summarizer"
    """Who writes the summary."""
    chars_per_token: float = 4.0
    """Characters that count as a token."""
    max_kept: int = 400_000
    """Characters of all checkpoints; the oldest go first."""
    page_chars: int = 4_000
    """Longest page of a checkpoint."""
    _seen: Conversation = field(default_factory=Conversation, init=False, repr=False)
    _chars: int = field(default=0, init=False, repr=False)
    _summary: str = field(default="", init=False, repr=False)
    _kept: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.summary_tokens < self.target_tokens <= self.max_tokens:
            raise ValueError("there must be 0 < 'summary_tokens' < 'target_tokens' <= 'max_tokens'")
        if self.keep_first < 0 or self.chars_per_token <= 0 or self.page_chars < 2:
            raise ValueError("'keep_first' must not be negative, 'chars_per_token' positive, 'page_chars' at least 2")

    def brings(self) -> Sequence[Tool]:
        return (Recall(self),)

    async def process(self, event: StepStartEvent) -> AsyncIterator[Event]:
        if self._measure(event.messages) > self.max_tokens * self.chars_per_token:
            kept = await self._compacted(event.messages, event.step)
            event = replace(event, messages=kept)
            self._measure(kept)
        yield event

    def recall(self, number: int, page: int) -> str:
        """A page of a checkpoint.

        Raises:
            ToolError: no such checkpoint or page; says what there is.
        """
        if number not in self._kept:
            known = ", ".join(map(str, self._kept)) or "none"
            raise ToolError(f"there is no checkpoint {number}; checkpoints: {known}")
        pages = pages_of(self._kept[number], self.page_chars)
        if not 1 <= page <= len(pages):
            raise ToolError(f"checkpoint {number} has pages 1 to {len(pages)}")
        return f"[page {page} of {len(pages)} of checkpoint {number}]\n{pages[page - 1]}"

    def _measure(self, messages: Conversation) -> int:
        """Characters of the history. O(new messages) while it only grows."""
        shared = messages.shared_prefix(self._seen)
        if shared < len(self._seen):
            shared, self._chars = 0, 0
        self._chars += sum(map(_size, messages.after(shared)))
        self._seen = messages
        return self._chars

    async def _compacted(self, messages: Conversation, step: int) -> Conversation:
        head, start = self._cut(messages)
        middle = messages[head:start]
        if not middle or (len(middle) == 1 and middle[0].text.startswith(_HEAD)):
            return messages
        before, told = self._chars, "\n".join(map(_told, middle))
        written = await self._asked(told)
        self._summary = written or self._by_rule(middle)
        self._checkpoint(told)
        named = f"{_HEAD} ({len(middle)} messages; recall(checkpoint={self._count}) shows them):\n{self._summary}"
        kept = Conversation((*messages[:head], Message("user", named), *messages[start:]))
        self.ctx.claims.setdefault("compaction", []).append(
            {
                "step": step,
                "messages": len(middle),
                "tokens_before": round(before / self.chars_per_token),
                "tokens_after": round(sum(map(_size, kept)) / self.chars_per_token),
                "by": self.role if written else "rule",
            }
        )
        return kept

    def _cut(self, messages: Conversation) -> tuple[int, int]:
        """Where the middle begins and ends: as many of the latest turns stay as the target has room for."""
        size, head = len(messages), min(self.keep_first, len(messages))
        while head < size and messages[head].role == "tool":
            head += 1
        room = self.chars_per_token * (self.target_tokens - self.summary_tokens) - len(_HEAD) - 60
        room -= sum(map(_size, messages[:head]))
        start = turn = size
        while turn > head:
            turn = _turn_before(messages, turn)
            room -= sum(map(_size, messages[turn:start]))
            if room < 0 and start < size:
                break
            start = turn
        return head, max(start, head)

    async def _asked(self, told: str) -> str:
        """The summary by the model of ``role``; '' where there is none that can be used."""
        if self.role not in self.ctx.roles:
            return ""
        order = _ORDER.format(self.summary_tokens * 3 // 4)
        request = ModelRequest(order, Conversation([Message("user", told)]), (), self.role)
        text = (await self.ctx.complete(self.role, request)).content.strip()
        return text if len(text) <= self.summary_tokens * self.chars_per_token else ""

    def _by_rule(self, middle: Sequence[Message]) -> str:
        """The newest lines that fit, of the summary so far and of each distinct call since, oldest first."""
        room, kept = int(self.summary_tokens * self.chars_per_token) - 40, list[str]()
        latest: dict[str, str] = {}
        for line in (*self._summary.splitlines(), *_lines(middle, max(min(_LINE, room // 4), 8))):
            if not line.endswith(_LEFT_OUT):
                key = line if " said: " in line else line.partition(": ")[0]
                latest.pop(key, None)
                latest[key] = line
        for line in reversed(latest.values()):
            room -= len(line) + 1
            if room < 0:
                kept.append(f"({len(latest) - len(kept)} {_LEFT_OUT}")
                break
            kept.append(line)
        return "\n".join(reversed(kept))

    def _checkpoint(self, told: str) -> None:
        self._count += 1
        self._kept[self._count] = told[: self.max_kept]
        while sum(map(len, self._kept.values())) > self.max_kept:
            del self._kept[min(self._kept)]


def _turn_before(messages: Sequence[Message], end: int) -> int:
    """The beginning of the turn that ends before ``end``: an answer with its results, or a message alone."""
    start = end - 1
    while start > 0 and messages[start].role == "tool":
        start -= 1
    return start


def _size(message: Message) -> int:
    """Characters of a message and of the calls that it makes."""
    calls = sum(len(c.name) + len(c.raw or "") + len(str(dict(c.arguments))) for c in message.tool_calls)
    return len(message.text) + calls


def _told(message: Message) -> str:
    """A message as it is told to who summarises, and kept in a checkpoint."""
    calls = "".join(f"\n[calls {spoken(call.name, call.arguments, 2000)}]" for call in message.tool_calls)
    return f"{message.role}: {message.text}{calls}"


def _lines(messages: Iterable[Message], limit: int) -> list[str]:
    """A line for each distinct call with its last result, and for each thing said, in order of their last time.

    Of call, result and saying, each has at most ``limit`` characters.
    """
    called = {call.id: call for message in messages for call in message.tool_calls}
    found: dict[object, str] = {}
    for message in messages:
        call = called.get(message.tool_call_id or "")
        if message.role == "tool" and call is not None:
            key: object = signature(call.name, call.arguments)
            line = f"- {spoken(call.name, call.arguments, limit)}: {one_line(message.text, limit)}"
        elif message.text.strip() and not message.text.startswith(_HEAD):
            line = f"- {message.role} said: {one_line(message.text, limit)}"
            key = line
        else:
            continue
        found.pop(key, None)
        found[key] = line
    return list(found.values())


@dataclass
class Recall(Tool):
    """``recall``, for the model."""

    name = "recall"
    description = "Show what a summary of earlier work stands for, page by page, by the number of its checkpoint."
    parameters = {
        "type": "object",
        "properties": {"checkpoint": {"type": "integer"}, "page": {"type": "integer"}},
        "required": ["checkpoint"],
    }

    owner: Compaction

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        number, page = arguments.get("checkpoint"), arguments.get("page", 1)
        if type(number) is not int or type(page) is not int:
            raise ToolError("'checkpoint' and 'page' must be whole numbers")
        return self.owner.recall(number, page)
