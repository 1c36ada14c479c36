"""What was recorded once is not paid for twice: cached responses and recorded worlds.

A `Cassette` is one scope's recordings: key -> (origin, body). New entries are handed to a sink, which
persists them. The *origin* is the rollout that first recorded an entry, so that a rollout repeated
after a crash still counts as made what it had made itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harnessx.canonical import canonical_json, json_encoder
from harnessx.errors import Failure, Source, ToolError
from harnessx.messages import ModelResponse, ToolCall, ToolSchema
from harnessx.redaction import redact
from harnessx.tasks import Environment, Score, Task, ToolResult, Verifier
from harnessx.trajectory import Trajectory

_encode = json_encoder()
_START = "start"


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording, as it is stored. ``body`` is JSON text."""

    key: str
    origin: str
    body: str


class Cassette:
    """The recordings of one scope. The first entry of a key stays.

    Args:
        scope: what the recordings belong to.
        sink: called with each new entry (None: they live in memory only).
    """

    def __init__(self, scope: str, sink: Callable[[str, Entry], None] | None = None) -> None:
        self.scope, self._sink = scope, sink
        self._entries: dict[str, Entry] = {}

    def load(self, entries: Iterable[Entry]) -> None:
        """Add what was stored before."""
        for entry in entries:
            self._entries.setdefault(entry.key, entry)

    def read(self, key: str) -> Entry | None:
        """The entry of ``key``, or None."""
        return self._entries.get(key)

    def write(self, key: str, origin: str, value: object, *, anew: bool = False) -> None:
        """Record a JSON value under ``key``, unless there is one, or in its place (``anew``).

        Raises:
            ValueError: text that no encoding can hold.
        """
        if anew or key not in self._entries:
            entry = Entry(key, origin, _encode(value))
            entry.body.encode()
            self._entries[key] = entry
            if self._sink is not None:
                self._sink(self.scope, entry)

    def __len__(self) -> int:
        return len(self._entries)


class Freshness:
    """What a confirmation may replay: answers of the providers that answer now, no older than the window.

    Providers are those seen to answer here within the window (all of them: one that serves from several
    machines shows several fingerprints). Before the first live answer, only age tells.

    Source: STATISTICS rule 14.
    """

    def __init__(self, window_s: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self.window_s, self.clock = window_s, clock
        self._seen: dict[str, dict[str, float]] = {}

    def answered(self, key: str, response: ModelResponse) -> None:
        """A model has answered the request of ``key``, now."""
        self._seen.setdefault(_model(key), {})[response.provider] = self.clock()

    def stale(self, key: str, response: ModelResponse, at: float) -> bool:
        """Whether an answer recorded ``at`` (seconds of the clock; 0 where it is not known) is a miss."""
        now = [name for name, last in self._seen.get(_model(key), {}).items() if not self.outdated(last)]
        return self.outdated(at) or bool(now and response.provider not in now)

    def outdated(self, at: float) -> bool:
        """Whether what was recorded ``at`` dates from before the window."""
        return at < (-math.inf if self.window_s is None else self.clock() - self.window_s)


def _model(key: str) -> str:
    """The model's digest in a response key, which ends with ``:<model>:<n>``."""
    return key.rsplit(":", 2)[-2] if key.count(":") >= 2 else ""


class ResponseTape:
    """The response cache of one (split, benchmark, task, attempt): a `Tape` over a cassette.

    Args:
        freshness: told of every answer made; ``strict``: asked before one is replayed.
    """

    def __init__(self, cassette: Cassette, freshness: Freshness | None = None, *, strict: bool = False) -> None:
        self._cassette, self._strict = cassette, strict
        self._freshness = freshness or Freshness()
        self._live: dict[str, tuple[ModelResponse, str, float]] = {}

    def get(self, key: str) -> tuple[ModelResponse, str] | None:
        """The cached response and its origin, or None."""
        found = self._live.get(key)
        if found is None:
            entry = self._cassette.read(key)
            if entry is None:
                return None
            body = json.loads(entry.body)
            found = self._live[key] = (ModelResponse.from_json(body), entry.origin, body.get("at", 0.0))
        response, origin, at = found
        return None if self._strict and self._freshness.stale(key, response, at) else (response, origin)

    def put(self, key: str, origin: str, response: ModelResponse) -> None:
        """Keep a response, in the place of one that was stale."""
        at = self._freshness.clock()
        self._freshness.answered(key, response)
        self._live[key] = (response, origin, at)
        self._cassette.write(key, origin, {**response.to_json(), "at": round(at, 3)}, anew=self._strict)


class RecordedWorld:
    """An environment that answers from recordings of the same action prefix.

    Equal prefixes give equal results (`Benchmark.recorded` promises it), so the real environment
    starts at the first action never taken before, and is brought there by the prefix. The verifier's
    score of a final prefix is recorded too: a rollout that only repeats needs no world at all.

    Raises (from `reset`, `step` and `real`):
        Failure: the world answered a recorded prefix differently than it did before, or was used on
            after it broke.
    """

    def __init__(self, real: Callable[[], Environment], tools: tuple[ToolSchema, ...], cassette: Cassette) -> None:
        self.tools = tools
        self._make, self._cassette = real, cassette
        self._real: Environment | None = None
        self._taken: list[tuple[ToolCall, str]] = []
        """Every call of the episode, in order, with the key of the prefix that it ends."""
        self._played = 0
        """How many of them the real environment has seen."""
        self._broken = False
        self._turn = asyncio.Lock()

    async def reset(self) -> str:
        """The first observation."""
        entry = self._cassette.read(_START)
        if entry is None:
            await self.real()
            entry = self._cassette.read(_START)
            assert entry is not None
        return str(json.loads(entry.body)[0])

    async def step(self, call: ToolCall) -> ToolResult:
        """The recorded result, or the real one. Calls made at once are taken in the order of asking."""
        link = f"{self._prefix}\n{call.name}\n{canonical_json(dict(call.arguments))}"
        key = hashlib.blake2b(link.encode(), digest_size=12).hexdigest()
        self._taken.append((call, key))
        entry = self._cassette.read(key)
        if entry is None:
            await self._catch_up(len(self._taken))
            entry = self._cassette.read(key)
            assert entry is not None
        return ToolResult(*json.loads(entry.body))

    async def real(self) -> Environment:
        """The real environment, brought to the current state."""
        await self._catch_up(len(self._taken))
        assert self._real is not None
        return self._real

    async def close(self) -> None:
        """Release the real environment, if one was needed."""
        if self._real is not None:
            await self._real.close()

    async def _catch_up(self, count: int) -> None:
        """Play the first ``count`` calls in the real environment, as far as it has not seen them."""
        async with self._turn:
            if self._broken:
                raise Failure(Source.ENVIRONMENT, "the world broke before")
            self._broken = True  # until this is over: a step that was cut off leaves no known state
            if self._real is None:
                self._real = self._make()
                self._agree(_START, [redact(await self._real.reset())])
            while self._played < count:
                call, key = self._taken[self._played]
                try:
                    result = await self._real.step(call)
                except ToolError as error:
                    result = ToolResult(str(error), is_error=True)
                self._agree(key, [redact(result.content), result.is_error, result.done])
                self._played += 1
            self._broken = False

    def _agree(self, key: str, seen: list[str | bool]) -> None:
        """Record what the real world said, or hold it to what it said before."""
        entry = self._cassette.read(key)
        if entry is None:
            self._cassette.write(key, "", seen)
        elif json.loads(entry.body) != seen:
            when = f"after {self._played} calls" if key != _START else "at the start"
            raise Failure(Source.ENVIRONMENT, f"{when} the world says {seen[0]!r:.200}, not what was recorded")

    @property
    def _prefix(self) -> str:
        return self._taken[-1][1] if self._taken else _START

    def recorded_score(self, answer: str) -> Score | None:
        """The score of this final prefix and answer, if it is known."""
        entry = self._cassette.read(self._score_key(answer))
        return None if entry is None else Score(**json.loads(entry.body))

    def record_score(self, answer: str, score: Score) -> None:
        """Keep a score."""
        judged = {"passed": score.passed, "reward": score.reward, "explanation": score.explanation}
        self._cassette.write(self._score_key(answer), "", judged)

    def _score_key(self, answer: str) -> str:
        return f"score:{self._prefix}:{hashlib.blake2b(answer.encode(), digest_size=8).hexdigest()}"


class RecordedVerifier:
    """A verifier over a `RecordedWorld`: asks the real one only about final states never seen."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        """The recorded score, or the real verifier's."""
        assert isinstance(environment, RecordedWorld)
        known = environment.recorded_score(answer)
        if known is None:
            known = await self._verifier.score(task, answer, await environment.real(), record)
            environment.record_score(answer, known)
        return known
