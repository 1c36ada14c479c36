"""What goes to a model and what comes back, and nothing else.

Everything here is an immutable value. A `Conversation` is a view of an append-only log: appending,
taking a prefix and hashing cost O(new content), whatever the length of the history.
"""

from __future__ import annotations

import functools
import hashlib
import json
import json.encoder
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, overload

from harnessx.canonical import canonical_json
from harnessx.permissions import Effect

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of multimodal content: an image or a file, named by the hash of its bytes."""

    kind: Literal["text", "image", "file"]
    text: str = ""
    sha256: str = ""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to run a tool. ``raw`` holds the text of arguments that did not parse."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    raw: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The call as a JSON object; absent fields are left out."""
        out: dict[str, Any] = {"id": self.id, "name": self.name, "arguments": dict(self.arguments)}
        if self.raw is not None:
            out["raw"] = self.raw
        return out

    def to_chat(self) -> dict[str, Any]:
        """The call in the chat-completions format: arguments as JSON text, or as they came (``raw``)."""
        arguments = json.dumps(dict(self.arguments), ensure_ascii=False) if self.raw is None else self.raw
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolCall:
        """Inverse of `to_json`."""
        return cls(str(data["id"]), str(data["name"]), dict(data["arguments"]), data.get("raw"))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``extra`` carries opaque provider fields that must be sent back verbatim."""

    role: Role
    content: str | tuple[Part, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    extra: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """The textual content, parts joined by newlines."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if part.text)

    def to_json(self) -> dict[str, Any]:
        """The message as a JSON object; absent fields are left out."""
        out: dict[str, Any] = {"role": self.role}
        if isinstance(self.content, str):
            out["content"] = self.content
        else:
            out["content"] = [
                {
                    k: v
                    for k, v in (
                        ("kind", p.kind),
                        ("text", p.text),
                        ("sha256", p.sha256),
                        ("media_type", p.media_type),
                    )
                    if v
                }
                for p in self.content
            ]
        if self.tool_calls:
            out["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        if self.extra:
            out["extra"] = dict(self.extra)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """Inverse of `to_json`."""
        content = data["content"]
        return cls(
            data["role"],
            content if isinstance(content, str) else tuple(Part(**part) for part in content),
            tuple(ToolCall.from_json(call) for call in data.get("tool_calls", ())),
            data.get("tool_call_id"),
            data.get("extra"),
        )


class Spelling(Protocol):
    """How a message is told to somebody: equal ``name``, equal texts."""

    @property
    def name(self) -> str: ...

    def spelled(self, message: Message) -> str:
        """All of ``message`` that is told, as one text."""
        ...


_Chains: TypeAlias = dict[str, list[bytes]]
"""The hashes of a log's prefixes, by the name of the spelling."""


class Conversation(Sequence[Message]):
    """An immutable sequence of messages that shares its storage with the ones it grew from.

    ``append`` on the newest view of a log extends the log in place; on an older view it copies.
    ``digest`` chains one hash per message and is computed once for each. ``with_tail`` adds messages
    for one request only, without touching the log.
    """

    __slots__ = ("_chains", "_log", "_size", "_tail")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._log: list[Message] = list(messages)
        self._chains: _Chains = {}
        self._size = len(self._log)
        self._tail: tuple[Message, ...] = ()

    @classmethod
    def _view(cls, log: list[Message], chains: _Chains, size: int, tail: tuple[Message, ...] = ()) -> Conversation:
        view = cls.__new__(cls)
        view._log, view._chains, view._size, view._tail = log, chains, size, tail
        return view

    def append(self, *messages: Message) -> Conversation:
        """A conversation with ``messages`` at the end. O(len(messages)) on the newest view."""
        log, chains = self._log, self._chains
        if self._size != len(log) or self._tail:
            log = [*log[: self._size], *self._tail]
            chains = {name: chain[: self._size] for name, chain in chains.items()}
        log += messages
        return self._view(log, chains, len(log))

    def prefix(self, size: int) -> Conversation:
        """The first ``size`` messages of the log, sharing storage. O(1)."""
        return self._view(self._log, self._chains, min(size, self._size))

    def with_tail(self, *tail: Message) -> Conversation:
        """The log followed by ``tail``, for one request: the log itself does not grow. O(1)."""
        return self._view(self._log, self._chains, self._size, tail)

    @property
    def log(self) -> Conversation:
        """This conversation without its tail."""
        return self._view(self._log, self._chains, self._size) if self._tail else self

    @property
    def tail(self) -> tuple[Message, ...]:
        """The messages that belong to one request only."""
        return self._tail

    def after(self, size: int) -> tuple[Message, ...]:
        """The messages that follow the first ``size`` of the log. O(what follows)."""
        return (*self._log[size : self._size], *self._tail)

    def shared_prefix(self, other: Conversation) -> int:
        """How many leading log messages the two have in common. O(1) when they share a log."""
        limit = min(self._size, other._size)
        if self._log is other._log:
            return limit
        for index in range(limit):
            mine, theirs = self._log[index], other._log[index]
            if mine is not theirs and mine != theirs:
                return index
        return limit

    def digest(self, spelling: Spelling | None = None) -> bytes:
        """The chained hash of all messages, h_i = H(h_{i-1} || m_i); 16 bytes, empty: zeros.

        ``spelling`` is how somebody else is told them: then it is the hash of that.
        """
        name, spelled = ("", _plainly) if spelling is None else (spelling.name, spelling.spelled)
        chain = self._chains.setdefault(name, [])
        for index in range(len(chain), self._size):
            chain.append(_link(chain[-1] if chain else bytes(16), spelled(self._log[index])))
        link = chain[self._size - 1] if self._size else bytes(16)
        for message in self._tail:
            link = _link(link, spelled(message))
        return link

    def __len__(self) -> int:
        return self._size + len(self._tail)

    def __iter__(self) -> Iterator[Message]:
        log = self._log
        for index in range(self._size):
            yield log[index]
        yield from self._tail

    def __reversed__(self) -> Iterator[Message]:
        yield from reversed(self._tail)
        log = self._log
        for index in range(self._size - 1, -1, -1):
            yield log[index]

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        size, own = len(self), self._size
        if isinstance(index, slice):
            start, stop, step = index.indices(size)
            if step != 1:
                return tuple(self[i] for i in range(start, stop, step))
            tail = self._tail[max(start - own, 0) : max(stop - own, 0)]
            return (*self._log[start : min(stop, own)], *tail)
        if not -size <= index < size:
            raise IndexError(f"message {index} of {size}")
        index %= size
        return self._log[index] if index < own else self._tail[index - own]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conversation):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"Conversation({len(self)} messages)"


def _plainly(message: Message) -> str:
    return canonical_json(message.to_json())


def _link(previous: bytes, text: str) -> bytes:
    return hashlib.blake2b(previous + text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as the model sees it. ``parameters`` is a JSON Schema object.

    ``effects`` is what a call of it may do to the world; the model is not told. None means undeclared, and counts
    as everything: a benchmark that forgets to say so is stopped at its first call with a reason, where any milder
    guess would let a tool that runs programs pass for one that looks around.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}}, hash=False)
    effects: frozenset[Effect] | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON object."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money of one call or of many. ``cost_usd`` is None where no price is known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt plus completion."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        mine, theirs = self.cost_usd, other.cost_usd
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            theirs if mine is None else mine if theirs is None else mine + theirs,
        )

    def to_json(self) -> list[int | float | None]:
        """The figures, in order."""
        return [self.prompt_tokens, self.completion_tokens, self.cached_tokens, self.cost_usd]


class Meter:
    """A running total of usages; cheaper than adding them up one by one."""

    __slots__ = ("_cached", "_completion", "_prompt", "cost_usd", "tokens")

    def __init__(self) -> None:
        self.tokens = self._prompt = self._completion = self._cached = 0
        self.cost_usd: float | None = None

    def add(self, usage: Usage) -> None:
        """Count one more."""
        prompt, completion, cost = usage.prompt_tokens, usage.completion_tokens, usage.cost_usd
        self.tokens += prompt + completion
        self._prompt += prompt
        self._completion += completion
        self._cached += usage.cached_tokens
        if cost is not None:
            self.cost_usd = cost if self.cost_usd is None else self.cost_usd + cost

    @property
    def total(self) -> Usage:
        """All of it."""
        return Usage(self._prompt, self._completion, self._cached, self.cost_usd)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """All that a model may see: system prompt, messages, tools, sampling. ``role`` picks the model."""

    system: str
    messages: Conversation
    tools: tuple[ToolSchema, ...] = ()
    role: str = "main"
    sampling: Mapping[str, Any] | None = None

    def digest(self) -> str:
        """Hash of everything the model sees, chained over the messages: O(new content)."""
        sampling = canonical_json(self.sampling) if self.sampling else ""
        head = _head(self.role, self.system, self.tools, sampling)
        return hashlib.blake2b(self.messages.digest() + head, digest_size=16).hexdigest()


@functools.lru_cache(maxsize=1024)
def _head(role: str, system: str, tools: tuple[ToolSchema, ...], sampling: str) -> bytes:
    return canonical_json([role, system, [t.to_json() for t in tools], sampling]).encode()


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """A model's answer. Token ids and log-probabilities are there when the provider gives them."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    finish_reason: str = "stop"
    extra: Mapping[str, Any] | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    fingerprint: str = ""
    """What the provider says of the system behind ``model``, where it does."""
    raw: Mapping[str, Any] | None = None
    """All that the provider said, where it is still to be read: then the fields above but usage, model and
    fingerprint are empty."""

    @property
    def provider(self) -> str:
        """Who answered: the model as served, and its fingerprint."""
        return f"{self.model}/{self.fingerprint}"

    def to_message(self) -> Message:
        """The response as the assistant message that enters the history."""
        return Message("assistant", self.content, self.tool_calls, None, self.extra)

    def to_json(self) -> dict[str, Any]:
        """The complete response as a JSON object; absent fields are left out."""
        out: dict[str, Any] = {
            "content": self.content,
            "usage": self.usage.to_json(),
            "model": self.model,
            "finish_reason": self.finish_reason,
        }
        if self.tool_calls:
            out["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.extra is not None:
            out["extra"] = self.extra
        if self.token_ids is not None:
            out["token_ids"] = list(self.token_ids)
        if self.logprobs is not None:
            out["logprobs"] = list(self.logprobs)
        if self.fingerprint:
            out["fingerprint"] = self.fingerprint
        if self.raw is not None:
            out["raw"] = self.raw
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelResponse:
        """Inverse of `to_json`."""
        ids, logprobs = data.get("token_ids"), data.get("logprobs")
        return cls(
            data["content"],
            tuple(ToolCall.from_json(call) for call in data.get("tool_calls", ())),
            Usage(*data["usage"]),
            data["model"],
            data["finish_reason"],
            data.get("extra"),
            None if ids is None else tuple(ids),
            None if logprobs is None else tuple(logprobs),
            data.get("fingerprint", ""),
            data.get("raw"),
        )
