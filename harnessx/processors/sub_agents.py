"""D7, control: parts of a task go to sub-agents with contexts and budgets of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harnessx.delegation import Allowance, Assignment, Report
from harnessx.errors import ToolError
from harnessx.hooks import Event, Hook, TaskStartEvent
from harnessx.processor import Context, Dimension, Order, Processor
from harnessx.tools.base import Tool, ToolContext

_GUIDANCE = (
    "Parts of the task that do not depend on each other can go to sub-agents, all in one call of delegate. A "
    "sub-agent knows nothing but the text it is given: say in it what to find out or do, and what to report."
)


@dataclass
class SubAgents(Processor):
    """Brings the tool ``delegate``: up to ``parallel`` sub-agents at once, each with an empty history.

    A sub-agent has this harness without `SubAgents` and without what ``without`` names; its guards are the same.
    Its budget is carved by the host from what is left of the rollout's, and what it does not spend goes back.

    Raises:
        ValueError: a role that no model serves, when the rollout begins.
    """

    hooks = (Hook.TASK_START,)
    group = "sub_agents"
    order = Order.POST
    dimension = Dimension.CONTROL

    steps: int = 8
    """Most requests of one sub-agent."""
    parallel: int = 4
    """Most sub-agents of one call."""
    tokens: int | None = None
    """Most tokens of one sub-agent; None: an equal part of what is left."""
    usd: float | None = None
    """Most dollars of one sub-agent; None: an equal part of what is left."""
    prompt: str = ""
    """Their system prompt; empty: this harness's own."""
    tools: Sequence[str] = ()
    """The world's tools that they are offered; empty: all."""
    role: str = "main"
    """The model that serves them."""
    without: Sequence[str] = ("audit",)
    """Processors that they do not have, by class or group."""
    guidance: str = _GUIDANCE
    """What the system prompt says of them; empty: nothing."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.parallel < 1:
            raise ValueError("'steps' and 'parallel' must be at least 1")
        if (self.tokens is not None and self.tokens < 1) or (self.usd is not None and self.usd <= 0):
            raise ValueError("'tokens' and 'usd' must be positive, or null")

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        if self.role not in ctx.roles:
            raise ValueError(f"no model serves the role {self.role!r}; roles: {', '.join(ctx.roles)}")

    def brings(self) -> Sequence[Tool]:
        return (Delegate(self),)

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        if self.guidance:
            event = replace(event, system_prompt=f"{event.system_prompt}\n\n{self.guidance}".strip())
        yield event

    async def delegate(self, tasks: Sequence[str]) -> list[Report]:
        """Run a sub-agent for each of ``tasks``; their reports, in order."""
        allowance = Allowance(self.steps, self.tokens, self.usd)
        rest = (self.prompt, tuple(self.tools), self.role, tuple(self.without))
        return await self.ctx.spawn([Assignment(task, allowance, *rest) for task in tasks])


@dataclass
class Delegate(Tool):
    """``delegate``, for the model."""

    name = "delegate"
    description = (
        "Give self-contained parts of the task to sub-agents, which work on them at the same time. Returns what each "
        "reports, and why it stopped."
    )
    parameters = {
        "type": "object",
        "properties": {
            "tasks": {
                "type": "array",
                "items": {"type": "string"},
                "description": "One text for each sub-agent: all that it will know.",
            }
        },
        "required": ["tasks"],
    }

    owner: SubAgents

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        tasks = arguments.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, str) and task.strip() for task in tasks):
            raise ToolError("'tasks' must be a list of texts, one for each sub-agent")
        if not 1 <= len(tasks) <= self.owner.parallel:
            raise ToolError(f"give 1 to {self.owner.parallel} tasks at once, not {len(tasks)}")
        reports = await self.owner.delegate(tasks)
        return "\n\n".join(
            f"Sub-agent {number} ({report.stop_reason.value}, {report.steps} steps):\n{report.answer or '(no answer)'}"
            for number, report in enumerate(reports, 1)
        )
