"""D6, evaluation: another model checks the final answer against what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from harnessx.errors import Interrupt
from harnessx.hooks import BeforeModelEvent, Event, Hook, ModelResponseEvent
from harnessx.messages import Conversation, Message
from harnessx.processor import Context, Dimension, Order, Processor
from harnessx.processors.calls import one_line, spoken
from harnessx.processors.judging import ask, check_role

_QUESTION = (
    "You audit the work of an agent. You are shown its task, what it did, what came of it, and its final answer. "
    "Accept only if what it did and heard shows that everything the task asks for is done, and supports the answer. "
    "If not, say what is missing or wrong."
)


@dataclass
class Auditor(Processor):
    """Shows ``role`` the task, the trajectory and the final answer; one that it does not accept is withheld once.

    The agent is told why, and answers again; that answer is audited too, and goes through. Or, with ``strict``, an
    answer that is not accepted then ends the rollout without it. A verdict that cannot be read is none that accepts.
    Whatever happened is in the claim ``audit``: also an answer at the last step, which cannot be asked for again.

    Raises:
        ValueError: no model serves ``role``, when the rollout begins.
        Interrupt: with ``strict``, for an answer that was not accepted.
    """

    hooks = (Hook.BEFORE_MODEL, Hook.AFTER_MODEL)
    group = "audit"
    order = Order.POST
    after = ("parse_retry", "verification", "checklist", "plan")
    dimension = Dimension.EVALUATION

    role: str = "judge"
    """Who audits."""
    question: str = _QUESTION
    """What it is told to do."""
    max_chars: int = 24_000
    """Longest trajectory shown; of a longer one, the latest part."""
    strict: bool = False
    """Whether an answer that is not accepted at the second time ends the rollout."""
    _messages: Conversation = field(default_factory=Conversation, init=False, repr=False)
    _last_step: int = field(default=0, init=False, repr=False)
    _retried: bool = field(default=False, init=False, repr=False)
    _pending: str = field(default="", init=False, repr=False)

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        check_role(ctx, self.role, "the auditor")
        self._last_step = ctx.slots["limits"].steps

    async def process(self, event: BeforeModelEvent | ModelResponseEvent) -> AsyncIterator[Event]:
        if isinstance(event, BeforeModelEvent):
            self._messages = event.messages
            if self._pending:
                event, self._pending = event.remind(self._pending), ""
            yield event
        elif event.tool_calls or await self._passes(event):
            yield event

    async def _passes(self, event: ModelResponseEvent) -> bool:
        """Whether the final answer goes through."""
        evidence = f"TASK\n{self.ctx.prompt}\n\nWHAT HAPPENED\n{self._told()}\n\nFINAL ANSWER\n{event.content}"
        ruling = await ask(self.ctx, self.role, self.question, evidence)
        again = not ruling.accept and not self._retried and event.step < self._last_step
        verdict = "accepted" if ruling.accept else "rejected" if ruling.readable else "unreadable"
        self.ctx.claims.setdefault("audit", []).append(
            {"step": event.step, "verdict": verdict, "reason": one_line(ruling.reason, 500), "withheld": again}
        )
        if again:
            self._retried = True
            self._pending = (
                f'Your final answer would be: "{one_line(event.content, 600)}". It was checked against what you did '
                f"and was not accepted: {one_line(ruling.reason, 1000)}\nGo on with the task, or give an answer that "
                "what you found supports."
            )
        elif self.strict and not ruling.accept:
            raise Interrupt(f"the auditor does not accept the answer: {one_line(ruling.reason, 300)}")
        return not again

    def _told(self) -> str:
        text = "\n".join(_lines(self._messages[1:]))
        return text if len(text) <= self.max_chars else f"[earlier part left out]\n{text[-self.max_chars :]}"


def _lines(messages: Iterable[Message]) -> Iterable[str]:
    for message in messages:
        calls = "; ".join(spoken(call.name, call.arguments, 500) for call in message.tool_calls)
        if message.text.strip():
            yield f"{'result' if message.role == 'tool' else message.role}: {message.text}"
        if calls:
            yield f"calls: {calls}"
