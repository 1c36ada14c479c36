"""D7, control: a plan that the model writes down, keeps current, and has before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harnessx.errors import ToolError
from harnessx.hooks import BeforeModelEvent, Event, Hook, ModelResponseEvent
from harnessx.processor import Context, Dimension, Processor
from harnessx.processors.calls import one_line
from harnessx.tools.base import Tool, ToolContext

STATES = ("open", "active", "done")
_MARKS = dict(zip(STATES, ("[ ]", "[>]", "[x]"), strict=True))


@dataclass
class Plan(Processor):
    """Brings the tool ``plan``, shows the plan before the model answers, and asks once before an end with open items.

    At the last step nothing is withheld.
    """

    hooks = (Hook.BEFORE_MODEL, Hook.AFTER_MODEL)
    group = "plan"
    after = ("parse_retry",)
    dimension = Dimension.CONTROL

    every: int = 1
    """Show the plan at steps divisible by this."""
    stale_after: int = 8
    """Steps without a change after which the model is asked to bring it up to date."""
    ask_first: bool = False
    """Whether the model is asked for a plan at the first step."""
    before_finishing: bool = True
    """Whether the first final answer that leaves items undone is withheld."""
    max_items: int = 20
    """Longest plan."""
    _items: list[tuple[str, str]] = field(default_factory=list, init=False, repr=False)
    _changed: int = field(default=0, init=False, repr=False)
    _last_step: int = field(default=0, init=False, repr=False)
    _may_ask: bool = field(default=True, init=False, repr=False)
    _due: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.every, self.stale_after, self.max_items) < 1:
            raise ValueError("'every', 'stale_after' and 'max_items' must be at least 1")
        self._may_ask = self.before_finishing

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._last_step = ctx.slots["limits"].steps

    def brings(self) -> Sequence[Tool]:
        return (WritePlan(self),)

    def process(self, event: BeforeModelEvent | ModelResponseEvent) -> Iterator[Event]:
        if isinstance(event, BeforeModelEvent):
            text = self._reminder(event.step)
            yield event.remind(text) if text else event
        elif not event.tool_calls and self._undone() and self._may_ask and event.step < self._last_step:
            self._may_ask, self._due = False, True
        else:
            yield event

    def write(self, items: Sequence[tuple[str, str]], step: int) -> str:
        """Replace the plan; the new one, as it is shown."""
        self._items, self._changed = list(items), step
        return self.shown()

    def shown(self) -> str:
        """The plan, a line for each item."""
        return "\n".join(f"{_MARKS[state]} {text}" for text, state in self._items) or "The plan is empty."

    def _undone(self) -> bool:
        return any(state != "done" for _, state in self._items)

    def _reminder(self, step: int) -> str:
        if not self._items:
            return "Write down a plan with the tool plan before anything else." if self.ask_first and step == 1 else ""
        if self._due:
            self._due = False
            return f"Your plan has items that are not done:\n{self.shown()}\nDo them, or mark them, before you end."
        if step % self.every:
            return ""
        old = self._undone() and step - self._changed > self.stale_after
        stale = "\nIt has not changed for a while: bring it up to date." if old else ""
        return f"Your plan:\n{self.shown()}{stale}"


@dataclass
class WritePlan(Tool):
    """``plan``, for the model."""

    name = "plan"
    description = "Write down the plan for the task, whole: its items in order, each open, active or done."
    parameters = {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"text": {"type": "string"}, "state": {"type": "string", "enum": list(STATES)}},
                    "required": ["text", "state"],
                },
            }
        },
        "required": ["items"],
    }

    owner: Plan

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        items = arguments.get("items")
        if not isinstance(items, list) or not all(map(_is_item, items)):
            raise ToolError(f"'items' must be a list of {{text, state}}, a state one of {', '.join(STATES)}")
        if len(items) > self.owner.max_items:
            raise ToolError(f"a plan has at most {self.owner.max_items} items, not {len(items)}")
        return self.owner.write([(one_line(item["text"], 300), item["state"]) for item in items], context.step)


def _is_item(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("text"), str) and item.get("state") in STATES
