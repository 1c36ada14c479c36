"""D7, control: what is left of a budget is said, and a spent budget ends the rollout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harnessx.errors import Interrupt
from harnessx.hooks import BeforeModelEvent, Event, Hook, StepEndEvent
from harnessx.processor import Dimension, Processor


@dataclass
class StepBudgetReminder(Processor):
    """Tells the model which step it is at, and how many are left."""

    hooks = (Hook.BEFORE_MODEL,)
    group = "step_budget"
    dimension = Dimension.CONTROL

    limit: int = 20
    """The number of steps that the model is told it has."""
    every: int = 1
    """Remind at steps divisible by this, and at the last."""
    from_step: int = 1
    """First step that is reminded."""

    def __post_init__(self) -> None:
        if self.limit < 1 or self.every < 1:
            raise ValueError("'limit' and 'every' must be at least 1")

    def process(self, event: BeforeModelEvent) -> Iterator[Event]:
        step, left = event.step, self.limit - event.step
        if step >= self.from_step and (step % self.every == 0 or left <= 0):
            rest = f"{left} more after it" if left > 0 else "finish now"
            event = event.remind(f"This is step {step} of {self.limit}: {rest}.")
        yield event


@dataclass
class TokenBudget(Processor):
    """Ends the rollout when its steps have used ``max_tokens``, and warns the model before.

    Raises:
        Interrupt: before the next request after the budget is spent.
    """

    hooks = (Hook.BEFORE_MODEL, Hook.STEP_END)
    group = "token_budget"
    dimension = Dimension.CONTROL

    max_tokens: int
    """Prompt and completion tokens of all steps together."""
    warn_at: float = 0.8
    """Share of the budget from which the model is told what is left; above 1: never."""
    _used: int = field(default=0, init=False, repr=False)

    def process(self, event: BeforeModelEvent | StepEndEvent) -> Iterator[Event]:
        if isinstance(event, StepEndEvent):
            self._used += event.usage.total_tokens
        elif self._used >= self.max_tokens:
            raise Interrupt(f"{self._used} tokens used; the budget is {self.max_tokens}")
        elif self._used >= self.warn_at * self.max_tokens:
            left = self.max_tokens - self._used
            event = event.remind(f"About {left} tokens are left for this task. Come to an end.")
        yield event


@dataclass
class CostGuard(Processor):
    """Ends the rollout when its steps have cost ``max_usd``.

    Raises:
        Interrupt: before the next request after the budget is spent, or after a step whose cost is
            unknown: a guard that cannot see does not wave through.
    """

    hooks = (Hook.BEFORE_MODEL, Hook.STEP_END)
    group = "cost"
    dimension = Dimension.CONTROL

    max_usd: float
    """US dollars of all steps together."""
    _spent: float = field(default=0.0, init=False, repr=False)
    _unpriced: int = field(default=0, init=False, repr=False)

    def process(self, event: BeforeModelEvent | StepEndEvent) -> Iterator[Event]:
        if isinstance(event, BeforeModelEvent):
            if self._spent >= self.max_usd:
                raise Interrupt(f"${self._spent:.4f} spent; the budget is ${self.max_usd:.4f}")
            if self._unpriced:
                raise Interrupt(f"step {self._unpriced} has no known price, so the cost cannot be guarded")
        elif event.usage.cost_usd is not None:
            self._spent += event.usage.cost_usd
        elif event.usage.total_tokens:
            self._unpriced = event.step
        yield event
