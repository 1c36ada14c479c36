"""What happened in one rollout, step by step, as the host saw it cross the seam.

A trajectory file is append-only JSONL: a header line, one line per step, an end line. A reader
ignores a torn last line. Anchors such as ``t12_a0#step_5`` name a step for good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harnessx.errors import Outcome, StopReason, UserError
from harnessx.messages import Message, ModelResponse, ToolCall, Usage

FORMAT = 1


@dataclass(frozen=True, slots=True)
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

    def to_json(self) -> dict[str, Any]:
        """The exchange as a JSON object."""
        out: dict[str, Any] = {
            "path": self.path,
            "kept": self.kept,
            "sent": [m.to_json() for m in self.sent],
            "response": self.response.to_json(),
        }
        if self.system is not None:
            out["system"] = self.system
        if self.key:
            out["key"] = self.key
        if self.replayed:
            out["replayed"] = True
        return out


@dataclass(frozen=True, slots=True)
class ToolExchange:
    """One tool call that reached the environment, and its result."""

    call: ToolCall
    content: str
    is_error: bool = False


@dataclass(slots=True)
class Step:
    """Everything of one step: a step begins with a request of the main path."""

    index: int
    exchanges: list[Exchange] = field(default_factory=list)
    calls: list[ToolExchange] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The step as a JSON object (one line of the file)."""
        calls = [{"call": c.call.to_json(), "content": c.content, "is_error": c.is_error} for c in self.calls]
        return {"step": self.index, "exchanges": [e.to_json() for e in self.exchanges], "calls": calls}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        """Inverse of `to_json`."""
        exchanges = [
            Exchange(
                e["path"],
                e["kept"],
                tuple(Message.from_json(m) for m in e["sent"]),
                ModelResponse.from_json(e["response"]),
                e.get("key", ""),
                e.get("replayed", False),
                e.get("system"),
            )
            for e in data["exchanges"]
        ]
        calls = [
            ToolExchange(ToolCall.from_json(c["call"]), c["content"], c["is_error"]) for c in data["calls"]
        ]
        return cls(data["step"], exchanges, calls)


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
    model_calls: int = 0
    replayed_calls: int = 0
    wall_s: float = 0.0
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What the worker says about itself: never evidence."""

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
        usage = self.usage
        return {
            "outcome": self.outcome.value,
            "stop_reason": self.stop_reason.value,
            "answer": self.answer,
            "reward": self.reward,
            "error": self.error,
            "usage": [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.cost_usd],
            "model_calls": self.model_calls,
            "replayed_calls": self.replayed_calls,
            "claims": dict(self.claims),
        }

    def to_jsonl(self) -> str:
        """The whole file."""
        lines = [self.header(), *(step.to_json() for step in self.steps), self.ending()]
        return "".join(encode(line) for line in lines)

    @classmethod
    def from_jsonl(cls, text: str) -> Trajectory:
        """Read a file; an unfinished one keeps its `INFRA_ERROR` outcome.

        Raises:
            UserError: not a trajectory file, or one of another format.
        """
        lines = text.split("\n")
        rows = [json.loads(line) for line in lines[:-1] if line]
        if not rows or "format" not in rows[0]:
            raise UserError("not a trajectory file: its first line has no 'format'")
        if rows[0]["format"] != FORMAT:
            raise UserError(f"trajectory format {rows[0]['format']}; this version reads format {FORMAT}")
        head = rows[0]
        record = cls(head["task"], head["attempt"], head["harness"], head["model"])
        for row in rows[1:]:
            if "step" in row:
                record.steps.append(Step.from_json(row))
            else:
                record._end(row)
        return record

    def _end(self, row: Mapping[str, Any]) -> None:
        self.outcome, self.stop_reason = Outcome(row["outcome"]), StopReason(row["stop_reason"])
        self.answer, self.reward, self.error = row["answer"], row["reward"], row["error"]
        self.usage = Usage(*row["usage"])
        self.model_calls, self.replayed_calls = row["model_calls"], row["replayed_calls"]
        self.claims = row["claims"]


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(row: Mapping[str, Any]) -> str:
    """One line of a trajectory file."""
    return _encode(row) + "\n"
