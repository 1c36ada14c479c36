"""D4, tools: the model sees a few tools, and opens further ones when it needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.errors import ToolError
from harnessx.hooks import Event, Hook, StepStartEvent, TaskStartEvent
from harnessx.processor import Context, Dimension, Order, Processor
from harnessx.processors.calls import one_line
from harnessx.tools.base import Tool, ToolContext


@dataclass
class ToolDisclosure(Processor):
    """Offers ``core`` and the tool ``open_tools``; of all others the system prompt gives name and first line.

    What was opened stays open for the rollout. Where a `ToolFilter` or a router leaves tools out, they stay out.

    Raises:
        ValueError: a tool of ``core`` that there is not, when the rollout begins.
    """

    hooks = (Hook.TASK_START, Hook.STEP_START)
    group = "tool_disclosure"
    order = Order.PRE
    after = ("tool_filter", "system_prompt")
    dimension = Dimension.TOOLS

    core: Sequence[str]
    """Tools that are offered from the beginning."""
    max_chars: int = 120
    """Longest line about a tool that is closed, in characters."""
    _all: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _open: set[str] = field(default_factory=set, init=False, repr=False)
    _there: tuple[str, ...] | None = field(default=None, init=False, repr=False)

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._all = {schema.name: schema.description for schema in ctx.slots["tool_schemas"]}
        unknown = sorted(set(self.core) - self._all.keys())
        if unknown:
            raise ValueError(f"'core' names {unknown[0]!r}, and the tools are {', '.join(self._all)}")
        self._open = {*self.core, OpenTools.name}

    def brings(self) -> Sequence[Tool]:
        return (OpenTools(self),)

    def process(self, event: TaskStartEvent | StepStartEvent) -> Iterator[Event]:
        if isinstance(event, TaskStartEvent):
            closed = [f"- {n}: {one_line(d, self.max_chars)}" for n, d in self._all.items() if n not in self._open]
            if closed:
                listed = "\n".join(("Further tools, once open_tools has opened them:", *closed))
                event = replace(event, system_prompt=f"{event.system_prompt}\n\n{listed}".strip())
            yield event
            return
        if self._there is None:
            self._there = event.tools
        shown = tuple(name for name in self._there if name in self._open)
        yield event if shown == event.tools else replace(event, tools=shown)

    def reveal(self, names: Sequence[str]) -> str:
        """Offer ``names`` from the next step on.

        Raises:
            ToolError: a name of no tool; says which are closed.
        """
        there = self._there or tuple(self._all)
        unknown = [name for name in names if name not in there]
        if unknown:
            closed = ", ".join(name for name in there if name not in self._open) or "none"
            raise ToolError(f"there is no tool {unknown[0]!r}; closed tools: {closed}")
        self._open.update(names)
        return f"From the next step on there is: {', '.join(names)}."


@dataclass
class OpenTools(Tool):
    """``open_tools``, for the model."""

    name = "open_tools"
    description = "Ask for tools that are listed and not offered yet, by their names."
    parameters = {
        "type": "object",
        "properties": {"names": {"type": "array", "items": {"type": "string"}}},
        "required": ["names"],
    }

    owner: ToolDisclosure

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        names = arguments.get("names")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ToolError("'names' must be a list of names")
        return self.owner.reveal(names)
