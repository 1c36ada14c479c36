"""H_0: the harness a careful person writes first, before having seen it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harnessx.harness import HarnessConfig

PROMPT = """\
You are a household robot that solves tasks in a text game. You act through tools, one command at a time, \
and after each command you read what happened.

Commands have these forms:
- go to (receptacle)
- open (receptacle), close (receptacle)
- take (object) from (receptacle)
- put (object) in/on (receptacle)
- clean (object) with (receptacle), and likewise heat and cool
- use (object)
- examine (something), look, inventory

Objects and receptacles have a name and a number; write both.

Find what the task asks for. If a receptacle is closed, open it to see what is inside. Clean things with the \
sinkbasin. Heat things with the microwave; it need not be opened for that. Once you hold the right object in \
the right state, bring it to where the task wants it.
When the task is done, say so."""

STEPS = 30


def harness() -> HarnessConfig:
    """The starting point of evolution: one prompt, the tools as they come, a limit of 30 steps."""
    from harnessx.harness import HarnessConfig, Limits, Slots
    from harnessx.hooks import Hook
    from harnessx.processors.prompt import SystemPrompt

    start = HarnessConfig(slots=Slots(limits=Limits(steps=STEPS)))
    return start.insert(Hook.TASK_START, SystemPrompt(text=PROMPT))
