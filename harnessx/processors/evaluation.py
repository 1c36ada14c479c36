"""D6, evaluation: the agent judges its own work before it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harnessx.hooks import BeforeModelEvent, Event, Hook, ModelResponseEvent
from harnessx.processor import Context, Dimension, Processor
from harnessx.processors.calls import one_line
from harnessx.processors.context import GOAL, goal_of

_QUESTION = (
    "Before this is accepted, compare it with the task. For each thing the task asks for, which result above "
    "shows that it is done? If one is missing, go on with the task; if none is, give your final answer again."
)


@dataclass
class SelfVerification(Processor):
    """Withholds a final answer once, and asks the model to check it against the goal and the evidence.

    An answer at the last step is not withheld: there would be no step left to give it again.
    """

    hooks = (Hook.BEFORE_MODEL, Hook.AFTER_MODEL)
    group = "verification"
    after = ("parse_retry",)
    dimension = Dimension.EVALUATION

    max_checks: int = 1
    """Final answers withheld in a rollout; the next one goes through."""
    question: str = _QUESTION
    """What the model is asked."""
    goal_pattern: str = GOAL
    """Regular expression of the line with the goal; where none matches, the prompt's last paragraph is it."""
    _goal: str = field(default="", init=False, repr=False)
    _last_step: int = field(default=0, init=False, repr=False)
    _checks: int = field(default=0, init=False, repr=False)
    _pending: str = field(default="", init=False, repr=False)

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._goal = one_line(goal_of(ctx.prompt, self.goal_pattern), 600)
        self._last_step = ctx.slots["limits"].steps

    def process(self, event: BeforeModelEvent | ModelResponseEvent) -> Iterator[Event]:
        if isinstance(event, BeforeModelEvent):
            if self._pending:
                event, self._pending = event.remind(self._pending), ""
        elif not event.tool_calls and self._checks < self.max_checks and event.step < self._last_step:
            self._checks += 1
            answer = one_line(event.content, 600)
            self._pending = f'The task: {self._goal}\nYour final answer would be: "{answer}".\n{self.question}'
            return
        yield event


@dataclass
class Checklist(Processor):
    """Puts a list of things to check before the model: now and then, and before it may finish.

    An answer at the last step is not withheld.
    """

    hooks = (Hook.BEFORE_MODEL, Hook.AFTER_MODEL)
    group = "checklist"
    after = ("parse_retry", "verification")
    dimension = Dimension.EVALUATION

    items: Sequence[str]
    """The things to check, each a sentence."""
    every: int = 0
    """Show the list at steps divisible by this; 0: not while working."""
    before_finishing: bool = True
    """Whether the first final answer is withheld for the list."""
    _text: str = field(init=False, repr=False)
    _last_step: int = field(default=0, init=False, repr=False)
    _due: bool = field(default=False, init=False, repr=False)
    _may_ask: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.items or self.every < 0:
            raise ValueError("'items' must not be empty and 'every' not negative")
        self._may_ask = self.before_finishing
        self._text = "\n".join(("Check, one by one:", *(f"- {item}" for item in self.items)))

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._last_step = ctx.slots["limits"].steps

    def process(self, event: BeforeModelEvent | ModelResponseEvent) -> Iterator[Event]:
        if isinstance(event, BeforeModelEvent):
            if self._due or (self.every and event.step % self.every == 0):
                event, self._due = event.remind(self._text), False
        elif not event.tool_calls and self._may_ask and event.step < self._last_step:
            self._may_ask, self._due = False, True
            return
        yield event
