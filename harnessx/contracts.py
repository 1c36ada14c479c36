"""Enforcement of the hook contracts: what a changed event may look like.

Called for every event that is not the very object the processor was given, so passing costs nothing.
The cost is O(what changed), also where the history was edited.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from harnessx.canonical import canonical_json
from harnessx.errors import ContractViolation
from harnessx.hooks import (
    BeforeModelEvent,
    Contract,
    ModelResponseEvent,
    StepStartEvent,
    TaskStartEvent,
    ToolCallEvent,
    ToolResultEvent,
)
from harnessx.messages import Conversation, Message, ToolCall

Problem: TypeAlias = tuple[str, str]
"""A field, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the rollout has, from which a processor may choose."""

    tools: Collection[str] = ()
    roles: Collection[str] = ("main",)


def check_contract(contract: Contract, processor: object, before: Any, after: Any, scope: Scope) -> None:
    """Check one event that ``processor`` yielded in place of ``before``.

    Raises:
        ContractViolation: naming processor, hook and field.
    """
    problem = _problem(contract, before, after, scope)
    if problem is not None:
        raise ContractViolation(type(processor).__name__, contract.hook, *problem)


def _problem(contract: Contract, before: Any, after: Any, scope: Scope) -> Problem | None:
    if type(after) is not contract.event:
        return "event", f"yielded {type(after).__name__}, not {contract.event.__name__}"
    for field in contract.frozen:
        mine, theirs = getattr(before, field), getattr(after, field)
        if mine is not theirs and mine != theirs:
            return field, "may not change here"
    check = _CHECKS.get(contract.event)
    return check(before, after, scope) if check is not None else None


def _task_start(before: TaskStartEvent, after: TaskStartEvent, scope: Scope) -> Problem | None:
    return _text("system_prompt", after.system_prompt)


def _step_start(before: StepStartEvent, after: StepStartEvent, scope: Scope) -> Problem | None:
    tools = after.tools
    if tools is not before.tools and not (
        isinstance(tools, tuple) and len(set(tools)) == len(tools) and set(tools) <= set(scope.tools)
    ):
        return "tools", f"a tuple of names among {', '.join(scope.tools) or 'no tools'}; not {tools!r}"
    if after.role not in scope.roles:
        return "role", f"{after.role!r} is not one of {', '.join(scope.roles)}"
    if after.messages is before.messages:
        return None
    detail = _history_problem(before.messages, after.messages)
    return ("messages", detail) if detail else None


def _before_model(before: BeforeModelEvent, after: BeforeModelEvent, scope: Scope) -> Problem | None:
    if before.last_user is None and after.last_user is not None:
        return "last_user", "the history has no user message"
    if after.last_user is not before.last_user and (problem := _text("last_user", after.last_user)):
        return problem
    return None if after.appended is None else _text("appended", after.appended)


def _after_model(before: ModelResponseEvent, after: ModelResponseEvent, scope: Scope) -> Problem | None:
    calls = after.tool_calls
    if calls is not before.tool_calls and not (isinstance(calls, tuple) and all(map(_is_call, calls))):
        return "tool_calls", "a tuple of ToolCall, whose arguments are JSON values"
    return _text("content", after.content)


def _before_tool(before: ToolCallEvent, after: ToolCallEvent, scope: Scope) -> Problem | None:
    if after.arguments is not before.arguments and not _is_json_object(after.arguments):
        return "arguments", "a mapping of names to JSON values"
    if not isinstance(after.approved, bool):
        return "approved", "a bool"
    return _text("reason", after.reason)


def _after_tool(before: ToolResultEvent, after: ToolResultEvent, scope: Scope) -> Problem | None:
    if not isinstance(after.is_error, bool):
        return "is_error", "a bool"
    return _text("content", after.content)


_CHECKS: Mapping[type[Any], Callable[[Any, Any, Scope], Problem | None]] = {
    TaskStartEvent: _task_start,
    StepStartEvent: _step_start,
    BeforeModelEvent: _before_model,
    ModelResponseEvent: _after_model,
    ToolCallEvent: _before_tool,
    ToolResultEvent: _after_tool,
}


def _text(field: str, value: object) -> Problem | None:
    return None if isinstance(value, str) else (field, f"text, not {type(value).__name__}")


def _is_call(value: object) -> bool:
    return (
        isinstance(value, ToolCall)
        and isinstance(value.id, str)
        and isinstance(value.name, str)
        and isinstance(value.raw, str | None)
        and _is_json_object(value.arguments)
    )


def _is_json_object(value: object) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        canonical_json(dict(value))
    except (TypeError, ValueError):
        return False
    return True


def _history_problem(before: Conversation, after: object) -> str:
    """Why a provider would refuse the history: every result answers a call before it, none is cut off.

    The part shared with ``before`` is known to be good: reading starts at the turn where it ends.
    """
    if not isinstance(after, Conversation) or after.tail:
        return "a Conversation"
    start = after.shared_prefix(before)
    while start and after[start - 1].role == "tool":
        start -= 1
    start -= bool(start)
    open_calls: set[str | None] = set()
    for message in after[start:]:
        if not isinstance(message, Message) or message.role not in ("user", "assistant", "tool"):
            return "only user, assistant and tool messages"
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                return f"a result without its call ({message.tool_call_id})"
            open_calls.discard(message.tool_call_id)
        elif open_calls:
            break
        open_calls.update(call.id for call in message.tool_calls)
    return f"calls without a result ({', '.join(sorted(map(str, open_calls)))})" if open_calls else ""
