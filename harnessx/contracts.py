"""Enforcement of the hook contracts: what a changed event may look like.

Called for every event that is not the very object the processor was given, so passing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

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


def check_contract(
    contract: Contract,
    processor: object,
    before: Any,
    after: Any,
    tools: Collection[str],
    roles: Collection[str],
) -> None:
    """Check one event that a processor yielded in place of ``before``.

    Raises:
        ContractViolation: naming processor, hook and field.
    """

    def broken(field: str, detail: str) -> NoReturn:
        raise ContractViolation(type(processor).__name__, contract.hook, field, detail)

    if type(after) is not contract.event:
        broken("event", f"yielded {type(after).__name__}, not {contract.event.__name__}")
    for field in contract.frozen:
        mine, theirs = getattr(before, field), getattr(after, field)
        if mine is not theirs and mine != theirs:
            broken(field, "may not change here")
    match after:
        case TaskStartEvent():
            _text(after.system_prompt, "system_prompt", broken)
        case StepStartEvent():
            if after.messages is not before.messages:
                _history(after.messages, broken)
            unknown = [name for name in after.tools if name not in tools]
            if unknown or not isinstance(after.tools, tuple):
                broken("tools", f"a tuple of {', '.join(tools) or 'no tools'}; not {after.tools!r}")
            if after.role not in roles:
                broken("role", f"{after.role!r} is not one of {', '.join(roles)}")
        case BeforeModelEvent():
            _text(after.last_user, "last_user", broken, optional=before.last_user is None)
            _text(after.appended, "appended", broken, optional=True)
        case ModelResponseEvent():
            _text(after.content, "content", broken)
            if not isinstance(after.tool_calls, tuple) or not all(map(_is_call, after.tool_calls)):
                broken("tool_calls", "a tuple of ToolCall")
        case ToolCallEvent():
            if not isinstance(after.arguments, Mapping):
                broken("arguments", "a mapping")
            if not isinstance(after.approved, bool):
                broken("approved", "a bool")
            _text(after.reason, "reason", broken)
        case ToolResultEvent():
            _text(after.content, "content", broken)


_Broken = Callable[[str, str], NoReturn]


def _text(value: object, field: str, broken: _Broken, *, optional: bool = False) -> None:
    if not isinstance(value, str) and not (optional and value is None):
        broken(field, f"text, not {type(value).__name__}")


def _is_call(value: object) -> bool:
    return (
        isinstance(value, ToolCall) and isinstance(value.name, str) and isinstance(value.arguments, Mapping)
    )


def _history(messages: object, broken: _Broken) -> None:
    """A history a provider accepts: every result answers a call made before it, none is cut off."""
    if not isinstance(messages, Conversation) or messages.tail:
        broken("messages", "a Conversation")
    open_calls: set[str] = set()
    for message in messages:
        if not isinstance(message, Message) or message.role == "system":
            broken("messages", "only user, assistant and tool messages")
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                broken("messages", f"a result without its call ({message.tool_call_id})")
            open_calls.discard(message.tool_call_id)
        elif open_calls:
            broken("messages", f"calls without a result ({', '.join(sorted(open_calls))})")
        open_calls.update(call.id for call in message.tool_calls)
    if open_calls:
        broken("messages", f"calls without a result ({', '.join(sorted(open_calls))})")
