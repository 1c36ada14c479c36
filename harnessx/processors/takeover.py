"""D7, control: what an agent cannot get out of by itself is put to a person, or ended; and what led there is undone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from harnessx.errors import Interrupt, StopReason
from harnessx.hooks import BeforeModelEvent, Event, Hook, StepStartEvent, ToolResultEvent
from harnessx.messages import Conversation, Message, ModelRequest
from harnessx.processor import Dimension, Order, Processor
from harnessx.processors.calls import Signature, one_line, signature, spoken


@dataclass
class Takeover(Processor):
    """Asks a person once the agent is in a dead loop: the same call with the same result, again and again.

    The person is the model of the role ``desk`` (`harnessx.runner.desk.FileDesk`): what is asked and said passes the
    host like any request, is recorded, and is replayed. The answer is put before the model. Where the run has no
    desk, or nobody answers, the rollout ends as ``stuck``; nothing waits for ever.
    """

    hooks = (Hook.AFTER_TOOL, Hook.BEFORE_MODEL)
    group = "takeover"
    after = ("loop",)
    dimension = Dimension.CONTROL

    repeats: int = 5
    """How often one call with one result makes a dead loop."""
    window: int = 20
    """How many calls back repetitions count."""
    most: int = 2
    """How often a person is asked in one task; the next dead loop ends it."""
    shown: int = 6
    """Calls that the person is shown."""
    _recent: deque[tuple[Signature, str]] = field(default_factory=deque, init=False, repr=False)
    _told: deque[str] = field(default_factory=deque, init=False, repr=False)
    _asked: int = field(default=0, init=False, repr=False)
    _dead: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 2 <= self.repeats <= self.window or self.most < 0 or self.shown < 1:
            raise ValueError("2 <= repeats <= window, most >= 0 and shown >= 1 must hold")
        self._recent, self._told = deque(maxlen=self.window), deque(maxlen=self.shown)

    async def process(self, event: ToolResultEvent | BeforeModelEvent) -> AsyncIterator[Event]:
        if isinstance(event, ToolResultEvent):
            self._note(event)
        elif self._dead:
            said = await self._ask()
            if not said:
                raise Interrupt("the same call, again and again, and nobody took over", StopReason.STUCK)
            self._dead = False
            self._recent.clear()
            event = event.remind(f"A person who watches says: {said}")
        yield event

    def _note(self, event: ToolResultEvent) -> None:
        call = event.call
        self._recent.append((signature(call.name, call.arguments), event.content))
        self._told.append(f"{spoken(call.name, call.arguments)} -> {one_line(event.content, 200)}")
        (_, count), *_ = Counter(self._recent).most_common(1)
        self._dead = self._dead or count >= self.repeats

    async def _ask(self) -> str:
        """What a person says; '' where there is none."""
        if "desk" not in self.ctx.roles or self._asked == self.most:
            return ""
        self._asked += 1
        lines = (f"The task: {one_line(self.ctx.prompt, 2000)}", "The last calls:", *self._told)
        text = "\n".join((*lines, "The agent goes in circles. What should it do? An empty answer ends the task."))
        request = ModelRequest("A person is asked to take over.", Conversation([Message("user", text)]), ())
        return (await self.ctx.complete("desk", request)).content.strip()


@dataclass
class ConversationRollback(Processor):
    """Takes the conversation back with the workspace: after ``rollback`` it is what it was at that ``checkpoint``.

    Of what is dropped the model keeps the reason that it gave for going back. The tools are those of a workspace
    (``slots.workspace``); calls that failed change nothing.
    """

    hooks = (Hook.AFTER_TOOL, Hook.STEP_START)
    group = "rollback"
    order = Order.PRE
    dimension = Dimension.CONTEXT

    most: int = 16
    """Checkpoints remembered; the oldest goes first."""
    _kept: dict[str, Conversation] = field(default_factory=dict, init=False, repr=False)
    _pending: list[str] = field(default_factory=list, init=False, repr=False)
    _back: tuple[str, str] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError("'most' must be at least 1")

    def process(self, event: ToolResultEvent | StepStartEvent) -> Iterator[Event]:
        if isinstance(event, StepStartEvent):
            yield self._begun(event)
            return
        label = event.call.arguments.get("label")
        if isinstance(label, str) and not event.is_error:
            if event.call.name == "checkpoint":
                self._pending.append(label)
            elif event.call.name == "rollback":
                self._back = (label, str(event.call.arguments.get("reason", "")))
        yield event

    def _begun(self, event: StepStartEvent) -> StepStartEvent:
        for label in self._pending:
            self._kept.pop(label, None)
            self._kept[label] = event.messages
        self._pending.clear()
        while len(self._kept) > self.most:
            del self._kept[next(iter(self._kept))]
        if self._back is None:
            return event
        (label, reason), self._back = self._back, None
        before = self._kept.get(label)
        if before is None:
            return event
        learnt = f" What was learnt since: {reason}" if reason else ""
        note = Message("user", f"Everything after checkpoint {label} was undone.{learnt}")
        return replace(event, messages=before.append(note))
