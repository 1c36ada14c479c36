"""A provider on loopback that speaks OpenAI's chat protocol and plays the four roles from a script.

What it answers depends on the request alone: the role and round it names, and how many turns of it were answered.
So it serves any number of sessions at once, and a run that is taken up again hears the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from harnessx.canonical import digest_of
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.models.base import CallContext

ANCHOR = re.compile(r"[\w.-]+_a\d+#step_\d+")
PRICE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}

Turn = Any
"""What is answered: text, an object (as JSON), a call (`call`), several calls (a list), or a function of `Asked`."""


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool call."""
    return {"tool": tool, "arguments": arguments}


@dataclass(frozen=True)
class Asked:
    """A request, as the script sees it."""

    role: str
    duty: str
    round: int
    task: str
    turn: int
    body: Mapping[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Asked:
        system, user = (str(m["content"]) for m in body["messages"][:2])
        role = re.match(r"You are the (\w+)", system)
        number = re.search(r"[Rr]ound (?:of )?(\d+)|of round (\d+)", user)
        task = re.search(r"[Tt]ask ([\w-]+)", user)
        turn = sum(m["role"] == "assistant" for m in body["messages"])
        spoken = next(filter(None, number.groups())) if number else "0"
        return cls(role[1] if role else "probe", duty(user), int(spoken), task[1] if task else "", turn, body)

    @property
    def question(self) -> str:
        return str(self.body["messages"][1]["content"])

    @property
    def last(self) -> str:
        """What its last call was answered with; '' before there was one."""
        return str(next((m["content"] for m in reversed(self.body["messages"]) if m["role"] == "tool"), ""))

    @property
    def anchors(self) -> list[str]:
        return list(dict.fromkeys(ANCHOR.findall(self.question)))


def duty(user: str) -> str:
    """What is asked for: the words of `aegis.meta.questions`."""
    if "# Your answer could not be used" in user:
        return "mend"
    for words, name in (("# A question about", "evidence"), ("asks for one revision", "revise"),
                        ("## What you asked for", "decide")):  # fmt: skip
        if words in user:
            return name
    return "ask"


def judged(asked: Asked) -> dict[str, Any]:
    """The first symptom that was measured, at the first step of the trace."""
    symptom = re.search(r"^\* (\w+): ", asked.question.split("## What was measured")[1], re.M)
    assert symptom is not None
    own = [a for a in asked.anchors if a.startswith(f"{asked.task}_a")]
    return {"category": symptom[1], "cause": "It was not told how.", "components": [], "anchors": own[:2]}


def planned(asked: Asked) -> dict[str, Any]:
    """Every region of the landscape, in its order."""
    regions = re.findall(r"^\* (\w+): \d+ tasks", asked.question.split("# Evidence")[0], re.M)
    return {"order": regions, "advice": {regions[0]: "Say how."} if regions else {}, "no_op": ""}


def ranked(asked: Asked) -> dict[str, Any]:
    """Every candidate, in its order."""
    return {"ranking": list(dict.fromkeys(re.findall(r"^# (C-R\d+-\d+):", asked.question, re.M)))}


USUAL: dict[tuple[str, str], Turn] = {
    ("Digester", "ask"): judged,
    ("Digester", "evidence"): lambda asked: {"findings": []},
    ("Planner", "ask"): planned,
    ("Evolver", "ask"): {"candidates": [], "no_op": "nothing comes to mind"},
    ("Evolver", "revise"): {"candidates": [], "no_op": "it is as it should be"},
    ("Critic", "ask"): ranked,
    ("Critic", "decide"): ranked,
}


@dataclass
class Script:
    """Turns by (role, duty, round); ``round`` 0 is every round that has none of its own. Else the usual."""

    turns: Mapping[tuple[str, str, int], Sequence[Turn] | Callable[[Asked], Turn]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Turn:
        for number in (asked.round, 0):
            turns = self.turns.get((asked.role, asked.duty, number))
            if turns is not None:
                turn = turns(asked) if callable(turns) else turns[min(asked.turn, len(turns) - 1)]
                return turn(asked) if callable(turn) else turn
        usual = USUAL.get((asked.role, asked.duty), "yes")
        return usual(asked) if callable(usual) else usual


class Provider(ThreadingHTTPServer):
    """Answers by ``script``, and keeps what it was sent."""

    def __init__(self, script: Callable[[Asked], Turn]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.seen: list[Asked] = []
        self.models: list[str] = []
        self.tokens = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def sent(self) -> str:
        """Every text that it was ever sent."""
        return json.dumps([asked.body for asked in self.seen])


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = Asked.of(body)
        self.server.seen.append(asked)
        self.server.models.append(body["model"])
        turn = self.server.script(asked)
        if isinstance(turn, int):
            self._answer(turn, {"error": {"message": "no", "type": "x", "code": "x"}})
            return
        self.server.tokens += PRICE["total_tokens"]
        message = _message(turn, asked.turn)
        reason = "tool_calls" if "tool_calls" in message else "stop"
        choice = {"index": 0, "finish_reason": reason, "message": message}
        self._answer(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "served-1",
                           "choices": [choice], "usage": PRICE})  # fmt: skip

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _message(turn: Turn, number: int) -> dict[str, Any]:
    calls = [turn] if isinstance(turn, dict) and "tool" in turn else turn if isinstance(turn, list) else []
    if calls:
        tools = [{"id": f"c{number}-{place}", "type": "function",
                  "function": {"name": c["tool"], "arguments": c.get("raw") or json.dumps(c["arguments"])}}
                 for place, c in enumerate(calls)]  # fmt: skip
        return {"role": "assistant", "content": None, "tool_calls": tools}
    return {"role": "assistant", "content": turn if isinstance(turn, str) else json.dumps(turn)}


@contextmanager
def serving(script: Callable[[Asked], Turn]) -> Iterator[Provider]:
    """A provider that answers by ``script`` as long as the block lasts."""
    server = Provider(script)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Plain:
    """A client of the protocol that needs no imports of seconds, for runs in which the client is not the point."""

    base: str
    price: ClassVar[tuple[float, float]] = (1e-6, 1e-6)
    remote: ClassVar[bool] = True
    name: str = "plain"

    @property
    def digest(self) -> str:
        return digest_of(["plain", self.name])

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Ask once."""
        turns: list[dict[str, Any]] = [{"role": "system", "content": request.system}]
        for message in request.messages:
            turns.append({"role": message.role, "content": message.text})
            if message.tool_calls:
                turns[-1]["tool_calls"] = [c.to_chat() for c in message.tool_calls]
        body = json.dumps({"model": self.name, "messages": turns}).encode()
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(f"{self.base}/chat/completions", body, headers)
        answer = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(asked, timeout=20).read()))
        message = answer["choices"][0]["message"]
        calls = [_called(c["id"], c["function"]["name"], c["function"]["arguments"])
                 for c in message.get("tool_calls", ())]  # fmt: skip
        used = answer["usage"]
        usage = Usage(used["prompt_tokens"], used["completion_tokens"], 0, used["total_tokens"] * 1e-6)
        return ModelResponse(message["content"] or "", tuple(calls), usage, answer["model"])


def _called(ident: str, name: str, raw: str) -> ToolCall:
    try:
        arguments = json.loads(raw)
    except ValueError:
        return ToolCall(ident, name, raw=raw)
    return ToolCall(ident, name, arguments) if isinstance(arguments, dict) else ToolCall(ident, name, raw=raw)
