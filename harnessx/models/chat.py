"""How a request is told to a provider of chat completions, in an order whose beginning stays the same.

System prompt, tools sorted by name, then the history, which only grows: a provider that keeps prefixes reads
each message once. What changes from request to request (a processor's reminder) stands at the end, behind the
last mark for those that want to be told where a prefix ends (Anthropic's ``cache_control``).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

from harnessx.canonical import canonical_json
from harnessx.errors import ModelFailure
from harnessx.messages import Message, ModelRequest, Part, ToolSchema
from harnessx.models import text_tools

FORMAT = 1
"""Of what is told and how: part of every key."""
REPLAYED = ("reasoning_content", "thinking_blocks", "provider_specific_fields")
"""Fields of an answer that a provider wants back with the history, verbatim. Only the model that gave them gets them:
a signature means nothing to another (Anthropic refuses a turn of tools whose thinking blocks are missing or changed,
DeepSeek one without its reasoning)."""
_MARK = {"cache_control": {"type": "ephemeral"}}


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How one model is told requests. A `harnessx.messages.Spelling`.

    ``in_text`` writes tools and calls as text (`harnessx.models.text_tools`); ``marked`` says where prefixes end.
    """

    model: str
    in_text: bool = False
    marked: bool = False

    @property
    def name(self) -> str:
        """Equal names tell a message the same."""
        return f"chat/{FORMAT}/{self.model}/{self.in_text:d}{self.marked:d}"

    def key(self, request: ModelRequest) -> str:
        """Hash of all that is told of ``request``, chained over its messages: O(new content)."""
        sampling = canonical_json(dict(request.sampling)) if request.sampling else ""
        head = _head(self, request.system, request.tools, sampling)
        return hashlib.blake2b(request.messages.digest(self) + head, digest_size=16).hexdigest()

    def spelled(self, message: Message) -> str:
        """One message, as it is told, as one text."""
        return canonical_json(self._message(message))

    def tools(self, tools: tuple[ToolSchema, ...]) -> list[dict[str, Any]]:
        """The tools, as an argument of their own; none where they are told in the text."""
        if self.in_text:
            return []
        told = [{"type": "function", "function": tool.to_json()} for tool in _ordered(tools)]
        if self.marked and told:
            told[-1] |= _MARK
        return told

    def messages(self, request: ModelRequest) -> list[dict[str, Any]]:
        """System prompt and history."""
        told = [self._message(message) for message in request.messages]
        if self.marked and (end := len(request.messages.log)):
            told[end - 1] = _marked(told[end - 1])
        if self.in_text:
            told = _alternating(told)
        system = self.system(request.system, request.tools)
        if system:
            first = {"role": "system", "content": system}
            told.insert(0, _marked(first) if self.marked else first)
        return told

    def system(self, system: str, tools: tuple[ToolSchema, ...]) -> str:
        """The system prompt."""
        written = text_tools.instructions(_ordered(tools)) if self.in_text else ""
        return "\n\n".join(filter(None, [system, written]))

    def _message(self, message: Message) -> dict[str, Any]:
        extra = message.extra or {}
        mine = extra.get("model", self.model) == self.model
        replayed = {name: extra[name] for name in REPLAYED if mine and name in extra}
        if self.in_text:
            if not isinstance(message.content, str):
                _parts(message.content)
            role, text = text_tools.told(message)
            return {"role": role, "content": text, **replayed}
        content = message.content if isinstance(message.content, str) else _parts(message.content)
        told: dict[str, Any] = {"role": message.role, "content": content}
        if message.tool_calls:
            told["tool_calls"] = [call.to_chat() for call in message.tool_calls]
        if message.tool_call_id is not None:
            told["tool_call_id"] = message.tool_call_id
        return told | replayed


@functools.lru_cache(maxsize=1024)
def _head(form: ChatFormat, system: str, tools: tuple[ToolSchema, ...], sampling: str) -> bytes:
    return canonical_json([form.name, form.system(system, tools), form.tools(tools), sampling]).encode()


def _ordered(tools: tuple[ToolSchema, ...]) -> list[ToolSchema]:
    return sorted(tools, key=lambda tool: tool.name)


def _parts(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    for part in parts:
        if part.kind != "text":
            raise ModelFailure(f"a message holds a {part.kind}, which cannot be sent yet", transient=False)
    return [{"type": "text", "text": part.text} for part in parts]


def _marked(told: dict[str, Any]) -> dict[str, Any]:
    """The message as the end of a prefix; a result bears its mark itself, any other message its last part."""
    content = told["content"]
    if not content:
        return told
    if told["role"] == "tool":
        return {**told, **_MARK}
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**told, "content": [*parts[:-1], {**parts[-1], **_MARK}]}


def _alternating(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, neighbours of the same role as one: many a chat template refuses others."""
    out: list[dict[str, Any]] = []
    for message in told:
        if out and message["role"] == out[-1]["role"] == "user":
            out[-1] = {"role": "user", "content": _joined(out[-1]["content"], message["content"])}
        else:
            out.append(message)
    return out


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [part for c in (first, second) for part in ([{"type": "text", "text": c}] if isinstance(c, str) else c)]
