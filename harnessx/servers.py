"""Tool servers of the Model Context Protocol, as the user configures them: values, and nothing that connects.

What a server's tools may do to the world is the user's word alone; what a server says of itself (names,
descriptions, schemas, results) is data. `harnessx.runner.mcp` connects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from harnessx.canonical import canonical_json, digest_of
from harnessx.errors import UserError
from harnessx.messages import ToolSchema
from harnessx.permissions import Effect
from harnessx.redaction import redact

MAX_TOOLS = 64
"""Of one server."""
MAX_SCHEMA = 8_000
"""Characters of a tool's parameters, as JSON."""
MAX_DESCRIPTION = 1_000
"""Characters; what is longer is cut."""
FROM_ENVIRONMENT = "os.environ/"
"""Begins a value that is the host's environment variable of that name: settings are written down, keys are not."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,22}[a-z0-9])?")
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,38}")
"""With a server's name before it, no longer than what providers take (64)."""
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
"""Characters that nobody sees, and a model may read."""


class Replay(StrEnum):
    """What of a server's answers is replayed within one (split, task, attempt)."""

    CALLS = "calls"
    """The n-th equal call has the answer that it had before: for servers that only look things up."""
    SESSION = "session"
    """Equal calls after equal calls: for servers that keep a state and start anew with each session. What is new is
    asked of a server that was brought there by the calls before it."""
    NEVER = "never"
    """Each rollout asks for itself."""


@dataclass(frozen=True, slots=True)
class ToolServer:
    """One server: a program that speaks on its standard streams, or an address.

    Args:
        command: program and arguments; each rollout has a process of its own.
        url: of a server of streamable HTTP, in place of ``command``.
        effects: what its tools do, as far as the user says.
        tools: the only ones to offer; None: all.
        env, headers: for the program, and for the address. A value ``os.environ/NAME`` is looked up on the host.
        walled: whether the program runs behind a wall of its own: no network, no files but ``read`` and an empty
            folder.
        read: further paths that a walled program may read.
        replay: '' is ``calls`` where ``effects`` change nothing, else ``never``.
        timeout_s: of a start and of a call.
        answer_bytes: of one message; what a model reads of it is ``result_chars`` at most.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    effects: frozenset[Effect] = frozenset({Effect.NETWORK})
    tools: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    walled: bool = False
    read: tuple[str, ...] = ()
    replay: str = ""
    timeout_s: float = 30.0
    answer_bytes: int = 1_000_000
    result_chars: int = 20_000

    @property
    def replays(self) -> Replay:
        """What of it is replayed."""
        looks = self.effects <= {Effect.READ, Effect.NETWORK}
        return Replay(self.replay) if self.replay else Replay.CALLS if looks else Replay.NEVER

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON, the order of ``effects`` settled."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {"command": list(self.command), "read": list(self.read), "effects": sorted(self.effects)}
        maps = {"env": dict(self.env), "headers": dict(self.headers)}
        return {**row, **lists, **maps, "tools": None if self.tools is None else list(self.tools)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolServer:
        """Inverse of `to_json`."""
        tools = data["tools"]
        return cls(
            **{
                **data,
                "command": tuple(data["command"]),
                "read": tuple(data["read"]),
                "effects": frozenset(map(Effect, data["effects"])),
                "tools": None if tools is None else tuple(tools),
            }
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """The tools of one server, as they were listed when the run began, and under which name each is offered."""

    server: ToolServer
    tools: tuple[ToolSchema, ...] = ()

    @property
    def digest(self) -> str:
        """Of all that an agent can tell: the settings, and what is offered."""
        return digest_of([self.server.to_json(), [tool.to_json() for tool in self.tools]])

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        tools = [[tool.name, tool.description, dict(tool.parameters)] for tool in self.tools]
        return {"server": self.server.to_json(), "tools": tools}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Listing:
        """Inverse of `to_json`."""
        server = ToolServer.from_json(data["server"])
        tools = [ToolSchema(name, said, schema, server.effects) for name, said, schema in data["tools"]]
        return cls(server, tuple(tools))


def offered(server: ToolServer, said: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Listing:
    """What is offered of the tools that a server ``said`` to have (name: description, parameters), by name.

    Raises:
        UserError: too many, a name or schema that cannot be offered, or a tool of the user's list that is not there.
    """
    where = f"servers.{server.name}"
    wanted = said if server.tools is None else {name: said[name] for name in server.tools if name in said}
    if server.tools is not None and len(wanted) < len(server.tools):
        missing = ", ".join(sorted(set(server.tools) - set(said)))
        known = ", ".join(sorted(said)[:MAX_TOOLS]) or "none"
        raise UserError(f"{where}.tools: the server has no {missing}; its tools: {redact(plain(known))[:500]}")
    if len(wanted) > MAX_TOOLS:
        raise UserError(f"{where} lists {len(wanted)} tools, more than {MAX_TOOLS}; choose some with {where}.tools")
    tools = []
    for name, (description, parameters) in sorted(wanted.items()):
        if not _TOOL.fullmatch(name):
            raise UserError(f"{where} has a tool {name[:50]!r}, which cannot be offered; leave it out of {where}.tools")
        schema = _schema(parameters, f"{where}: the tool {name}")
        text = redact(plain(description))
        cut = text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"
        tools.append(ToolSchema(f"{server.name}__{name}", cut, schema, effects=server.effects))
    return Listing(server, tuple(tools))


def _schema(parameters: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    try:
        text = canonical_json(dict(parameters))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{what} has parameters that are no JSON Schema ({type(error).__name__})") from error
    if len(text) > MAX_SCHEMA or parameters.get("type", "object") != "object":
        raise UserError(f"{what} has parameters that are no object of at most {MAX_SCHEMA:,} characters; leave it out")
    found: Mapping[str, Any] = _tidy({"type": "object", "properties": {}, **parameters})
    return found


def _tidy(value: Any) -> Any:
    """The same without what nobody sees, and without secrets."""
    if isinstance(value, str):
        return redact(plain(value))
    if isinstance(value, Mapping):
        return {plain(str(key)): _tidy(part) for key, part in value.items()}
    return [_tidy(part) for part in value] if isinstance(value, list) else value


def plain(text: str) -> str:
    """``text`` without what nobody sees; what no encoding holds is replaced."""
    return _CONTROLS.sub("", text.encode(errors="replace").decode())


def read_server(name: str, section: Mapping[str, Any]) -> ToolServer:
    """One entry of the setting ``servers``.

    Raises:
        UserError: names the setting, what is wrong with it, and what is valid.
    """
    where = f"servers.{name}"
    known = [f.name for f in fields(ToolServer) if f.name != "name"]
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: a server's name is made of up to 24 of a-z, 0-9, - and _")
    if not isinstance(section, Mapping):
        raise UserError(f"{where} must be a mapping, such as {{command: [python, server.py], effects: [read]}}")
    for key in section:
        if key not in known:
            raise UserError(f"no setting is called {where}.{key}; valid: {', '.join(known)}")
    values = dict(section)
    for key in ("command", "read", "tools"):
        if key in values and values[key] is not None:
            values[key] = _texts(f"{where}.{key}", values[key])
    for key in ("env", "headers"):
        values[key] = _named(f"{where}.{key}", values.get(key) or {})
    values["effects"] = _effects(where, values.get("effects", ()))
    server = ToolServer(name, **values)
    _check(where, server)
    return server


def _effects(where: str, words: object) -> frozenset[Effect]:
    given = _texts(f"{where}.effects", words)
    unknown = [word for word in given if word not in tuple(Effect)]
    if unknown or not given:
        said = f"unknown effect {unknown[0]!r}" if unknown else "say what its tools do"
        raise UserError(f"{where}.effects: {said}; valid: {', '.join(Effect)}")
    return frozenset(map(Effect, given))


def _check(where: str, server: ToolServer) -> None:
    if bool(server.command) == bool(server.url):
        raise UserError(f"{where} needs a command or a url, and not both")
    if server.url and not re.match(r"https?://[^\s/@]+(/\S*)?$", server.url):
        raise UserError(f"{where}.url={server.url!r} must be an http or https address without user and password")
    if server.url and Effect.NETWORK not in server.effects:
        raise UserError(f"{where}.effects must name network: it is asked over the network")
    if not isinstance(server.walled, bool) or (server.walled and server.url):
        raise UserError(f"{where}.walled={server.walled!r} must be true or false, and is for a command")
    if server.replay not in ("", *Replay):
        raise UserError(f"{where}.replay={server.replay!r}; valid: {', '.join(Replay)}")
    for key, most in (("timeout_s", 3600.0), ("answer_bytes", 4 << 20), ("result_chars", 1_000_000)):
        value = getattr(server, key)
        whole = key != "timeout_s"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value <= most:
            raise UserError(f"{where}.{key}={value!r} must be a number above 0 and at most {most:g}")


def _texts(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part for part in value):
        raise UserError(f"{where}={value!r} must be a list of texts")
    return tuple(value)


def _named(where: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise UserError(f"{where} must map names to texts")
    return {str(key): text for key, text in value.items()}


def looked_up(where: str, values: Mapping[str, str]) -> dict[str, str]:
    """The values, those that begin with `FROM_ENVIRONMENT` from the host's environment.

    Raises:
        UserError: a variable is not set; names it.
    """
    found = {}
    for name, value in values.items():
        if value.startswith(FROM_ENVIRONMENT):
            variable = value.removeprefix(FROM_ENVIRONMENT)
            if variable not in os.environ:
                raise UserError(f"{where}.{name} names the environment variable {variable}, which is not set")
            value = os.environ[variable]
        found[name] = value
    return found
