"""D5, execution environment: what may be run at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harnessx.canonical import canonical_json
from harnessx.hooks import Event, Hook, ToolCallEvent
from harnessx.processor import Dimension, Order, Processor
from harnessx.processors.calls import any_of


@dataclass
class ToolPolicy(Processor):
    """Refuses tool calls by pattern, and tells the model why. A first line, no wall: sandboxes are the wall.

    A pattern is searched in ``tool_name(argument, argument, …)``, where texts stand unquoted.
    """

    hooks = (Hook.BEFORE_TOOL,)
    group = "tool_policy"
    order = Order.POST
    dimension = Dimension.EXECUTION

    deny: Sequence[str] = ()
    """Regular expressions of calls to refuse."""
    allow: Sequence[str] = ()
    """Regular expressions of the only calls to let through; empty: all that are not denied."""
    _deny: re.Pattern[str] = field(init=False, repr=False)
    _allow: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._deny, self._allow = any_of(self.deny), any_of(self.allow)

    def process(self, event: ToolCallEvent) -> Iterator[Event]:
        values = (v if isinstance(v, str) else canonical_json(v) for v in event.arguments.values())
        call = f"{event.name}({', '.join(values)})"
        denied = self._deny.search(call)
        if denied:
            event = replace(event, approved=False, reason=f"the policy forbids {denied.group()!r}")
        elif self.allow and not self._allow.search(call):
            event = replace(event, approved=False, reason="the policy does not allow this call")
        yield event
