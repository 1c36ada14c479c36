"""The eight lifecycle hooks, their events, and what a processor may do at each (paper §2, Table 1).

An event is a frozen value. At every hook the output type is the input type; which fields may
differ is the hook's contract, and nothing else may. A processor has five outcomes: pass (yield the
event), transform (yield a changed copy), split (yield several), intercept (yield nothing), interrupt
(raise). Split and intercept mean, hook by hook:

==============  ============================================  =========================================
hook            split                                         intercept
==============  ============================================  =========================================
task_start      violation: there is one system prompt         the task is not begun (``intercepted``)
step_start      violation: there is one history               the run ends before this step
before_model    every part is sent; the answers become the    the model is not called; next step begins
                parts of one split answer
after_model     parts merge in order: texts joined, all       the answer is withheld: it does not enter
                tool calls run                                the history; next step begins
before_tool     every part runs; results join in order into   the call does **not** run; the model gets
                the one result of the call                    a result that says so
after_tool      parts join in order into one result           the result is withheld; the model gets a
                                                              result that says so
step_end        violation: read-only                          violation: read-only
task_end        violation: read-only                          violation: read-only
==============  ============================================  =========================================

Interrupt means the same everywhere: the run ends here (``interrupted``) and is verified. At task_end
nothing is left to halt: the stop reason stays, the processors after it are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from harnessx.errors import StopReason
from harnessx.messages import Conversation, ModelResponse, ToolCall, Usage


class Hook(StrEnum):
    """Where processors attach, in the order of a step."""

    TASK_START = "task_start"
    STEP_START = "step_start"
    BEFORE_MODEL = "before_model"
    AFTER_MODEL = "after_model"
    BEFORE_TOOL = "before_tool"
    AFTER_TOOL = "after_tool"
    STEP_END = "step_end"
    TASK_END = "task_end"


@dataclass(frozen=True, slots=True)
class TaskStartEvent:
    """Once, before the first step. May change: ``system_prompt``."""

    task_id: str
    prompt: str
    system_prompt: str


@dataclass(frozen=True, slots=True)
class StepStartEvent:
    """Before each step. May change: the message history (lasting), the tool subset, the model role."""

    step: int
    messages: Conversation
    tools: tuple[str, ...]
    role: str


@dataclass(frozen=True, slots=True)
class BeforeModelEvent:
    """Before each request. May change: the last user message's content, or one appended message.

    Both hold for this request only; the history keeps what it had. ``last_user`` is None when the
    history has no user message. ``appended`` is None until a processor appends.
    """

    step: int
    messages: Conversation
    last_user: str | None = None
    appended: str | None = None

    def remind(self, text: str) -> BeforeModelEvent:
        """A copy whose appended user message also says ``text`` (several processors share it)."""
        said = text if self.appended is None else f"{self.appended}\n{text}"
        return BeforeModelEvent(self.step, self.messages, self.last_user, said)


@dataclass(frozen=True, slots=True)
class ModelResponseEvent:
    """After each answer. May change: ``content`` and ``tool_calls``; ``response`` is as received."""

    step: int
    response: ModelResponse
    content: str
    tool_calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """Before each tool call. May change: ``arguments``, ``approved`` (with the ``reason`` of a refusal)."""

    step: int
    call_id: str
    name: str
    arguments: Mapping[str, Any]
    approved: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolResultEvent:
    """After each tool call. May change: ``content`` and ``is_error``."""

    step: int
    call: ToolCall
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class StepEndEvent:
    """After each step. Read-only. ``usage`` is this step's."""

    step: int
    usage: Usage
    messages: Conversation


@dataclass(frozen=True, slots=True)
class TaskEndEvent:
    """Once, when the loop ends by itself or by a limit; not after an error or a deadline. Read-only.

    The outcome is the verifier's, not known here.
    """

    task_id: str
    steps: int
    stop_reason: StopReason
    answer: str
    usage: Usage
    messages: Conversation


Event: TypeAlias = (
    TaskStartEvent
    | StepStartEvent
    | BeforeModelEvent
    | ModelResponseEvent
    | ToolCallEvent
    | ToolResultEvent
    | StepEndEvent
    | TaskEndEvent
)


@dataclass(frozen=True, slots=True)
class Contract:
    """What processors at one hook may do. ``mutable`` names the fields that may differ."""

    hook: Hook
    event: type[Any]
    mutable: frozenset[str]
    may_split: bool
    may_intercept: bool
    frozen: tuple[str, ...]


def _contract(hook: Hook, event: type[Any], mutable: str, *, split: bool, intercept: bool) -> Contract:
    free = frozenset(mutable.split())
    fixed = tuple(name for name in event.__dataclass_fields__ if name not in free)
    return Contract(hook, event, free, split, intercept, fixed)


CONTRACTS: Mapping[Hook, Contract] = {
    c.hook: c
    for c in (
        _contract(Hook.TASK_START, TaskStartEvent, "system_prompt", split=False, intercept=True),
        _contract(Hook.STEP_START, StepStartEvent, "messages tools role", split=False, intercept=True),
        _contract(Hook.BEFORE_MODEL, BeforeModelEvent, "last_user appended", split=True, intercept=True),
        _contract(Hook.AFTER_MODEL, ModelResponseEvent, "content tool_calls", split=True, intercept=True),
        _contract(Hook.BEFORE_TOOL, ToolCallEvent, "arguments approved reason", split=True, intercept=True),
        _contract(Hook.AFTER_TOOL, ToolResultEvent, "content is_error", split=True, intercept=True),
        _contract(Hook.STEP_END, StepEndEvent, "", split=False, intercept=False),
        _contract(Hook.TASK_END, TaskEndEvent, "", split=False, intercept=False),
    )
}
