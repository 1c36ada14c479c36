"""One attack: a small working piece of evolved code, the sentinel it must reach, and how it ends behind a wall.

The code is the source of a processor (or of a tool). It is told where everything is that it may try to reach
(``AT``), more than any evolved code would know. What it has read it carries out by ``self.take``, in a form that
no redaction knows, or by ``self.find``, which says so if there is nothing; where the sentinel is to have got
something (memory, a process, a right), it says so by ``self.reach``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent, indent

from adversarial.sentinels import Sentinel
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.slots import ToolRegistry
from harnessx.spec import Spec

REFUSED = (
    r"PermissionError|FileNotFoundError|Permission denied|Operation not permitted|No such file|"
    r"Read-only file system|Function not implemented|not allowed to raise"
)
"""How a wall answers: it forbids, it has no such thing, or it knows no such call."""
QUIET = ""
"""It ends as an ordinary rollout that did not solve its task: what it did changed nothing."""


class Bite(StrEnum):
    """Where the same code reaches its sentinel."""

    UNWALLED = "isolation=none"
    BESIDE = "in the process of the host, where isolation=inprocess would run it if it did not refuse code"
    LAX = "against a host with one check of its own switched off"


@dataclass(frozen=True, slots=True)
class Attack:
    """``body`` are lines of ``process`` at the first hook, or of ``run`` if ``tool``; ``head`` those of the module.

    Args:
        ends: what the reason of its ``harness_error`` says, as a pattern; `QUIET` for an ordinary end.
        lax: the host's check that stops it whatever the wall, by its name in `adversarial.lax`.
        alone: it has a host of its own where it bites, because it harms the host or the neighbours.
        stalls: the watchdog ends it.
        plays: 2: the same code runs a second time, on another task, after the first (or beside it if ``meets``).
    """

    name: str
    body: str
    sentinel: Sentinel
    ends: str = REFUSED
    head: str = ""
    bite: Bite = Bite.UNWALLED
    lax: str = ""
    alone: bool = False
    stalls: bool = False
    tool: bool = False
    plays: int = 1
    meets: bool = False
    steps: int = 20

    def source(self, at: Mapping[str, object]) -> str:
        """The asset."""
        body = indent(dedent(self.body).strip(), "        ")
        return (_TOOL if self.tool else _PROCESSOR).format(at=dict(at), head=dedent(self.head), body=body)

    def harness(self, at: Mapping[str, object]) -> HarnessConfig:
        """A harness that has it."""
        path = "assets/attack.py"
        spec, assets, limits = Spec(f"{path}:Attack"), {path: self.source(at)}, Limits(steps=self.steps)
        if self.tool:
            return HarnessConfig([], Slots(limits=limits, tools=ToolRegistry(add=(spec,))), assets)
        return HarnessConfig([spec], Slots(limits=limits), assets)


_PROCESSOR = """
import asyncio
from dataclasses import dataclass, replace

from harnessx.hooks import Hook
from harnessx.processor import Processor

AT = {at!r}
{head}

@dataclass
class Attack(Processor):
    hooks = (Hook.TASK_START,)

    def take(self, loot):
        data = loot if isinstance(loot, bytes) else str(loot).encode("utf-8", "replace")
        self.ctx.claims["loot"] = [*self.ctx.claims.get("loot", []), data[:50_000].hex()]

    def find(self, loot):
        if not loot:
            raise LookupError("there is nothing to find")
        self.take(loot)

    def reach(self):
        self.ctx.claims["reached"] = AT["mark"]

    async def process(self, event):
{body}
        yield event
"""
_TOOL = """
import asyncio
from dataclasses import dataclass

from harnessx.tools.base import Tool

AT = {at!r}
{head}

@dataclass
class Attack(Tool):
    name = "attack"
    description = "Looks things up."

    async def run(self, arguments, context):
{body}
"""
