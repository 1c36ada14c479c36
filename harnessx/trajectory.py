"""What happened in one rollout, step by step, as the host saw it cross the seam.

A trajectory file is append-only JSONL: a header line, one line per step, an end line. A step's line
is shorthand (`Shorthand`). A reader ignores a torn last line. Anchors such as ``t12_a0#step_5`` name a
step for good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harnessx.canonical import json_line
from harnessx.delegation import Allowance
from harnessx.errors import Halt, Outcome, StopReason, UserError
from harnessx.messages import Message, ModelResponse, ToolCall, Usage
from harnessx.models.spend import Spend

FORMAT = 1


@dataclass(slots=True)
class Exchange:
    """One request and its answer. ``sent`` holds the messages that were new in the request.

    ``kept`` counts the leading messages shared with the previous request of the same path, so a
    request is the previous one's first ``kept`` messages followed by ``sent``.
    """

    path: str
    kept: int
    sent: tuple[Message, ...]
    response: ModelResponse
    key: str = ""
    replayed: bool = False
    system: str | None = None


@dataclass(slots=True)
class ToolExchange:
    """One tool call that reached the environment, and its result."""

    call: ToolCall
    content: str
    is_error: bool = False


@dataclass(slots=True)
class FetchExchange:
    """One request of the harness's code to the network. ``error`` says why it has no answer.

    ``size`` is the body's, in bytes; ``via`` are the addresses whose redirects led to the one that answered.
    """

    method: str
    url: str
    status: int = 0
    size: int = 0
    replayed: bool = False
    via: tuple[str, ...] = ()
    error: str = "not answered"

    def to_json(self) -> dict[str, Any]:
        """Only what is not the usual."""
        row: dict[str, Any] = {"method": self.method, "url": self.url, "status": self.status, "bytes": self.size}
        optional = {"replayed": self.replayed, "via": list(self.via), "error": self.error}
        return row | {name: value for name, value in optional.items() if value}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> FetchExchange:
        """Inverse of `to_json`."""
        told = row["method"], row["url"], row["status"], row["bytes"], row.get("replayed", False)
        return cls(*told, tuple(row.get("via", ())), row.get("error", ""))


@dataclass(slots=True)
class SubAgent:
    """A sub-agent's own record, nested in the step that it was spawned in: what it was granted, did and spent.

    ``stop_reason`` is ``error`` until it has ended; a limit is that of its own part.
    """

    path: str
    granted: Allowance
    steps: list[Step] = field(default_factory=list)
    stop_reason: StopReason = StopReason.ERROR
    usage: Usage = field(default_factory=Usage)
    model_calls: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record as one JSON object; its steps in a shorthand of their own."""
        shorthand, granted, usage = Shorthand(), self.granted, self.usage
        return {
            "path": self.path,
            "granted": [granted.steps, granted.tokens, granted.usd],
            "steps": [shorthand.row(step) for step in self.steps],
            "stop_reason": self.stop_reason.value,
            "usage": [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.cost_usd],
            "model_calls": self.model_calls,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SubAgent:
        """Inverse of `to_json`."""
        shorthand = Shorthand()
        steps = [shorthand.step(step) for step in row["steps"]]
        stop, usage = StopReason(row["stop_reason"]), Usage(*row["usage"])
        return cls(row["path"], Allowance(*row["granted"]), steps, stop, usage, row["model_calls"])


@dataclass(slots=True)
class Step:
    """Everything of one step: a step begins with a request of the main path.

    What was fetched is in order of asking; what was fetched before the first step belongs to it.
    """

    index: int
    exchanges: list[Exchange] = field(default_factory=list)
    calls: list[ToolExchange] = field(default_factory=list)
    fetches: list[FetchExchange] = field(default_factory=list)
    subs: list[SubAgent] = field(default_factory=list)

    @property
    def all_exchanges(self) -> list[Exchange]:
        """Those of its sub-agents too, after its own."""
        return [*self.exchanges, *(e for sub in self.subs for step in sub.steps for e in step.exchanges)]

    @property
    def all_calls(self) -> list[ToolExchange]:
        """Those of its sub-agents too, before its own: a sub-agent works while one of these is answered."""
        return [*(call for sub in self.subs for step in sub.steps for call in step.calls), *self.calls]


class Shorthand:
    """How steps are written as lines and read back; one instance per file, and direction.

    A line does not repeat what an earlier one says. In ``sent``, ``0`` stands for the answer to the
    path's previous request, and a text for the result of the call of that id in the previous step. In
    ``calls``, a call that the model asked for in this step is written as its id.
    """

    def __init__(self) -> None:
        self._answers: dict[str, ModelResponse] = {}
        self._results: dict[str, str] = {}

    def line(self, step: Step) -> bytes:
        """The step as one line of the file."""
        return encode(self.row(step))

    def row(self, step: Step) -> dict[str, Any]:
        """The step as a JSON object."""
        exchanges = [self._exchange_row(exchange) for exchange in step.exchanges]
        asked = _asked(step)
        calls = []
        for done in step.calls:
            call = done.call
            short = call.id if asked.get(call.id) == call else call.to_json()
            row: dict[str, Any] = {"call": short, "content": done.content}
            if done.is_error:
                row["is_error"] = True
            calls.append(row)
        self._results = {done.call.id: done.content for done in step.calls}
        line: dict[str, Any] = {"step": step.index, "exchanges": exchanges, "calls": calls}
        if step.fetches:
            line["fetches"] = [fetch.to_json() for fetch in step.fetches]
        if step.subs:
            line["subs"] = [sub.to_json() for sub in step.subs]
        return line

    def step(self, row: Mapping[str, Any]) -> Step:
        """Inverse of `row`."""
        step = Step(row["step"], [self._exchange(data) for data in row["exchanges"]])
        asked = _asked(step)
        for data in row["calls"]:
            call = data["call"]
            call = asked[call] if isinstance(call, str) else ToolCall.from_json(call)
            step.calls.append(ToolExchange(call, data["content"], data.get("is_error", False)))
        self._results = {done.call.id: done.content for done in step.calls}
        step.fetches = [FetchExchange.from_json(data) for data in row.get("fetches", ())]
        step.subs = [SubAgent.from_json(data) for data in row.get("subs", ())]
        return step

    def _exchange_row(self, exchange: Exchange) -> dict[str, Any]:
        path = exchange.path
        row: dict[str, Any] = {"kept": exchange.kept} if path == "main" else {"path": path, "kept": exchange.kept}
        row["sent"] = [self._short(path, message) for message in exchange.sent]
        row["response"] = exchange.response.to_json()
        if exchange.system is not None:
            row["system"] = exchange.system
        if exchange.key:
            row["key"] = exchange.key
        if exchange.replayed:
            row["replayed"] = True
        self._answers[path] = exchange.response
        return row

    def _exchange(self, row: Mapping[str, Any]) -> Exchange:
        path = row.get("path", "main")
        sent = tuple(self._long(path, item) for item in row["sent"])
        response = ModelResponse.from_json(row["response"])
        self._answers[path] = response
        return Exchange(
            path,
            row["kept"],
            sent,
            response,
            row.get("key", ""),
            row.get("replayed", False),
            row.get("system"),
        )

    def _short(self, path: str, message: Message) -> int | str | dict[str, Any]:
        if message.role == "assistant":
            answer = self._answers.get(path)
            if answer is not None and _says(message, answer):
                return 0
        elif message.role == "tool":
            ident = message.tool_call_id or ""
            if self._results.get(ident) == message.content and not (message.extra or message.tool_calls):
                return ident
        return message.to_json()

    def _long(self, path: str, item: int | str | Mapping[str, Any]) -> Message:
        if item == 0:
            return self._answers[path].to_message()
        if isinstance(item, str):
            return Message("tool", self._results[item], (), item)
        assert isinstance(item, Mapping)
        return Message.from_json(item)


def _says(message: Message, answer: ModelResponse) -> bool:
    """``message == answer.to_message()``, without making one."""
    return (
        message.tool_calls == answer.tool_calls
        and message.content == answer.content
        and message.extra == answer.extra
        and message.tool_call_id is None
    )


def _asked(step: Step) -> dict[str, ToolCall]:
    return {call.id: call for exchange in step.exchanges for call in exchange.response.tool_calls}


@dataclass(slots=True)
class Trajectory:
    """The authoritative record of one rollout. Everything but ``claims`` was observed by the host."""

    task_id: str
    attempt: int = 0
    harness: str = ""
    model: str = ""
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome = Outcome.INFRA_ERROR
    stop_reason: StopReason = StopReason.ERROR
    answer: str = ""
    reward: float = 0.0
    error: str = ""
    usage: Usage = field(default_factory=Usage)
    roles: dict[str, Usage] = field(default_factory=dict)
    """Of ``usage``, what each model role took."""
    model_calls: int = 0
    replayed_calls: int = 0
    wall_s: float = 0.0
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What the worker says about itself: never evidence."""
    trail: list[str] = field(default_factory=list, compare=False)
    """A mark (4 hex digits) per request asked and action taken, in order; also of the last one, that failed. Not
    part of the file."""
    halt: Halt | None = field(default=None, compare=False)
    """What cut it off, where no model could be asked any more: then this is no data. Not part of the file."""

    paid: dict[str, Spend] = field(default_factory=dict, compare=False)
    """What its calls cost, by account, replayed ones apart. Not part of the file."""
    lost: bool = field(default=False, compare=False)
    """Whether its worker was gone without a word. Not part of the file."""

    @property
    def passed(self) -> bool:
        """Whether the verifier accepted it."""
        return self.outcome is Outcome.PASSED

    @property
    def id(self) -> str:
        """``<task>_a<attempt>``."""
        return f"{self.task_id}_a{self.attempt}"

    def anchor(self, step: int) -> str:
        """The lasting name of a step."""
        return f"{self.id}#step_{step}"

    def header(self) -> dict[str, Any]:
        """The first line of the file."""
        return {
            "format": FORMAT,
            "task": self.task_id,
            "attempt": self.attempt,
            "harness": self.harness,
            "model": self.model,
        }

    def ending(self) -> dict[str, Any]:
        """The last line of the file."""
        return {
            "outcome": self.outcome.value,
            "stop_reason": self.stop_reason.value,
            "answer": self.answer,
            "reward": self.reward,
            "error": self.error,
            "usage": self.usage.to_json(),
            "roles": {role: usage.to_json() for role, usage in self.roles.items()},
            "model_calls": self.model_calls,
            "replayed_calls": self.replayed_calls,
            "claims": dict(self.claims),
        }

    def to_jsonl(self) -> str:
        """The whole file."""
        steps = map(Shorthand().line, self.steps)
        return b"".join((encode(self.header()), *steps, encode(self.ending()))).decode()

    @classmethod
    def from_jsonl(cls, text: str) -> Trajectory:
        """Read a file; an unfinished one keeps its `INFRA_ERROR` outcome, and counts what it holds.

        Raises:
            UserError: not a trajectory file, or one of another format.
        """
        try:
            rows = [json.loads(line) for line in text.split("\n")[:-1]]
        except ValueError as error:
            raise UserError(f"not a trajectory file: a line is not JSON ({error})") from error
        if not rows or not isinstance(rows[0], dict) or "format" not in rows[0]:
            raise UserError("not a trajectory file: its first line has no 'format'")
        head = rows[0]
        if head["format"] != FORMAT:
            raise UserError(f"trajectory format {head['format']}; this version reads format {FORMAT}")
        record = cls(head["task"], head["attempt"], head["harness"], head["model"])
        shorthand = Shorthand()
        for row in rows[1:]:
            if "step" in row:
                record._add(shorthand.step(row))
            else:
                record._end(row)
        return record

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        for exchange in step.all_exchanges:
            self.usage += exchange.response.usage
            self.model_calls += 1
            self.replayed_calls += exchange.replayed

    def _end(self, row: Mapping[str, Any]) -> None:
        self.outcome, self.stop_reason = Outcome(row["outcome"]), StopReason(row["stop_reason"])
        self.answer, self.reward, self.error = row["answer"], row["reward"], row["error"]
        self.usage = Usage(*row["usage"])
        self.roles = {role: Usage(*used) for role, used in row.get("roles", {}).items()}
        self.model_calls, self.replayed_calls = row["model_calls"], row["replayed_calls"]
        self.claims = row["claims"]


def encode(row: Mapping[str, Any]) -> bytes:
    """One line of a trajectory file."""
    return json_line(row) + b"\n"
