"""A lane: a trusted process that runs jobs for a `Pool`, several at a time.

``python -m harnessx.runner.lane FD``. It holds models, environments and verifier; evolved code runs
in the worker processes it forks. It streams new recordings and finished rollouts to the pool, which
owns the store, and dies with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import socket
import sys
import traceback
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harnessx.errors import Failure, Outcome, ProviderDown, Source, StopReason, UserError, boundary
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig, Models
from harnessx.models.identity import Identity
from harnessx.models.patience import Patience
from harnessx.permissions import Effect
from harnessx.redaction import redact
from harnessx.runner.beside import served
from harnessx.runner.broker import Broker
from harnessx.runner.cassette import Cassette, Entry, Freshness, RecordedVerifier, RecordedWorld, ResponseTape
from harnessx.runner.gateway import FetchTape, Web
from harnessx.runner.host import Recorder
from harnessx.runner.isolation import Workers
from harnessx.runner.jobs import RolloutResult
from harnessx.runner.mcp import walled
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.runner.tellers import LaneTeller
from harnessx.runner.wire import Channel, Frame
from harnessx.sandbox.kernel import die_with_parent
from harnessx.servers import Listing
from harnessx.tasks import Benchmark, Environment, Task, Verifier
from harnessx.trajectory import Trajectory
from harnessx.web import WebRules

FLUSH_S = 0.05
INFRA_RETRIES = 2
"""Further attempts at a rollout that the world broke."""
MAX_LANE_FRAME = 1 << 30
"""Bytes of one frame between pool and lane: a job brings all that was recorded of its task."""


def create_benchmark(spec: Mapping[str, Any]) -> Benchmark:
    """The benchmark behind a ``{_target_: …}`` mapping.

    Raises:
        UserError: no such target, or wrong parameters.
    """
    module, _, name = str(spec["_target_"]).rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
        benchmark: Benchmark = factory(**{k: v for k, v in spec.items() if k != "_target_"})
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"benchmark {spec['_target_']}: {error}") from error
    return benchmark


@dataclass(slots=True)
class _Turn:
    """Whose turn it is in a scope, and how many jobs there are of it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    jobs: int = 0


class Lane:
    """Serves jobs from one channel."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.channel: Channel | None = None
        self._harnesses: dict[str, HarnessConfig] = {}
        self._granted: dict[str, frozenset[Effect]] = {}
        self._tapes: dict[str, Cassette] = {}
        self._worlds: dict[str, Cassette] = {}
        self._fresh: list[tuple[str, Entry]] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._turns: defaultdict[str, _Turn] = defaultdict(_Turn)
        """Jobs of one scope run one after the other: what a later one replays does not depend on luck."""
        self._persist = True
        self._teller: LaneTeller | None = None
        self._freshness = Freshness()

    def on_frame(self, frame: Frame) -> None:
        """Take an order from the pool."""
        match frame["t"]:
            case "init":
                self._init(frame)
            case "harness":
                self._harnesses[frame["digest"]] = HarnessConfig.from_json(frame["harness"])
                self._granted[frame["digest"]] = frozenset(map(Effect, frame["granted"]))
            case "granted":
                assert self._teller is not None
                self._teller.answered(frame["ticket"], frame["refused"])
            case "job":
                task = asyncio.ensure_future(self._job(frame))
                self._jobs.add(task)
                task.add_done_callback(lambda done: self._ended(frame["id"], done))

    def on_close(self, reason: str) -> None:
        """The pool is gone, or does not speak our language."""
        if reason:
            sys.stderr.write(f"harnessx.runner.lane: {reason}\n")
        self.closed.set()

    def _init(self, frame: Frame) -> None:
        """Make benchmark and models. What cannot be made here cannot be made at a second try either."""
        assert self.channel is not None
        try:
            self._benchmark = create_benchmark(frame["benchmark"])
            config = ModelConfig.from_json(frame["model"])
            self._teller = LaneTeller(self.channel.send) if frame["metered"] else None
            patience = Patience(**frame["patience"])
            self._models = Models(config, patience, frame["share"], self._teller, self._answered)
            self._model_digest = config.digest
        except Exception as error:  # noqa: BLE001  (the boundary of the process: the pool is told)
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.channel.send({"t": "unable", "error": redact(said)})
            return
        self._workers, self._isolation = Workers(frame["isolation"]), frame["isolation"]
        self._listings = [Listing.from_json(row) for row in frame["servers"]]
        self._broker = Broker(WebRules.from_json(frame["web"]))
        self._seed, self._persist = frame["seed"], frame["persist"]
        self._freshness = Freshness(frame["window_s"])

    def _answered(self, identity: Identity) -> None:
        """Somebody new answers to a model's name."""
        if self.channel is not None:
            self.channel.send({"t": "served", "identity": identity.to_json()})

    def _ended(self, ident: int, job: asyncio.Task[None]) -> None:
        """A job that raised is a defect of ours, and ends the run instead of hanging it."""
        self._jobs.discard(job)
        if job.cancelled() or self.channel is None:
            return
        error = job.exception()
        if error is None:
            self.channel.send({"t": "done", "id": ident})
        else:
            text = "".join(traceback.format_exception(error)).encode(errors="replace").decode()
            self.channel.send({"t": "broken", "id": ident, "error": redact(text)})

    async def _job(self, frame: Frame) -> None:
        scope = frame["scope"]
        tape = self._cassette(self._tapes, scope, frame["tape"])
        turn = self._turns[scope]
        turn.jobs += 1
        async with turn.lock:
            await self._arms(frame, tape)
        turn.jobs -= 1
        if not turn.jobs:
            del self._turns[scope]
        if not frame["keep_tape"]:
            self._tapes.pop(scope, None)

    async def _arms(self, frame: Frame, tape: Cassette) -> None:
        assert self.channel is not None
        task = Task(frame["task"]["prompt"], frame["task"]["id"], frame["task"]["cluster"])
        for index, arm in enumerate(frame["arms"]):
            rollout = Rollout(
                self._harnesses[arm["harness"]],
                task,
                frame["attempt"],
                self._seed,
                arm["key"],
                self._model_digest,
            )
            record = await self._rollout(rollout, tape, frame)
            self._flush()
            if record.halt is not None:  # what was cut off is no data
                if isinstance(record.halt, ProviderDown):  # of a refused call the pool knows
                    self.channel.send({"t": "down", "reason": record.halt.reason})
                return
            result = summarize(record, arm["key"])
            text = redact(record.to_jsonl()) if frame["trajectories"] else None
            self.channel.send(
                {
                    "t": "arm",
                    "id": frame["id"],
                    "index": index,
                    "result": result.to_json(),
                    "trajectory": text,
                }
            )

    async def _rollout(self, rollout: Rollout, tape: Cassette, frame: Frame) -> Trajectory:
        """One rollout; what the world broke is tried again, and once what lost its worker.

        A worker may have been killed by somebody, or have killed itself to be dealt a second time. So the second
        time only counts where it does all again that was done the first time.
        """
        lost: Trajectory | None = None
        for _ in range(1 + INFRA_RETRIES):
            record = await self._once(rollout, tape, frame)
            if record.lost and lost is None:
                lost = record
            elif record.outcome is not Outcome.INFRA_ERROR or record.halt is not None:
                break
        if lost is None or record.outcome is Outcome.INFRA_ERROR or record.trail[: len(lost.trail)] == lost.trail:
            return record
        return lost

    async def _once(self, rollout: Rollout, tape: Cassette, frame: Frame) -> Trajectory:
        try:
            with boundary(Source.ENVIRONMENT):
                environment, verifier = self._world(rollout, frame.get("world", ()))
        except Failure as failure:
            return Trajectory(rollout.task.id, rollout.attempt, rollout.harness.digest, error=str(failure))
        strict = frame["confirming"]
        return await run_rollout(
            rollout,
            self._models,
            environment,
            verifier,
            execute=self._workers.execute,
            tape=ResponseTape(tape, self._freshness, strict=strict),
            recorder=Recorder(),
            granted=self._granted[rollout.harness.digest],
            web=Web(self._broker, FetchTape(tape, self._freshness, strict=strict)),
            servers=[self._served(listing, tape, rollout.key, strict=strict) for listing in self._listings],
            isolation=self._isolation,
        )

    def _served(self, listing: Listing, tape: Cassette, key: str, *, strict: bool) -> Environment:
        wall = walled(listing.server, self._isolation)
        return served(listing, tape, key, self._freshness, wall, strict=strict)

    def _world(self, rollout: Rollout, stored: Any) -> tuple[Environment | None, Verifier]:
        benchmark, task = self._benchmark, rollout.task

        def make() -> Environment:
            environment = benchmark.environment(task, rollout.attempt)
            if environment is None:
                raise Failure(Source.ENVIRONMENT, f"{benchmark.name} has no environment for {task.id}")
            return environment

        if not benchmark.recorded:
            return benchmark.environment(task, rollout.attempt), benchmark.verifier
        cassette = self._cassette(self._worlds, f"world/{task.id}", stored)
        return RecordedWorld(make, benchmark.tools, cassette), RecordedVerifier(benchmark.verifier)

    def _cassette(self, shelf: dict[str, Cassette], scope: str, stored: Any) -> Cassette:
        if scope not in shelf:
            shelf[scope] = Cassette(scope, self._recorded if self._persist else None)
        shelf[scope].load(Entry(*entry) for entry in stored)
        return shelf[scope]

    def _recorded(self, scope: str, entry: Entry) -> None:
        self._fresh.append((scope, entry))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._fresh and self.channel is not None:
            by_scope: dict[str, list[tuple[str, str, str]]] = {}
            for scope, entry in self._fresh:
                by_scope.setdefault(scope, []).append((entry.key, entry.origin, entry.body))
            self.channel.send({"t": "recorded", "scopes": by_scope})
            self._fresh.clear()

    def close(self) -> None:
        """End the worker processes."""
        if hasattr(self, "_workers"):
            self._workers.close()


def summarize(record: Trajectory, key: str) -> RolloutResult:
    """The summary of a record; ``requests`` hashes its exchange keys in order.

    How fast this machine was is no property of a harness: what ran into its wall-time limit is an infra
    error here, though the record keeps what the verifier said (STATISTICS rule 16).
    """
    late = record.stop_reason is StopReason.WALL_LIMIT
    made = hashlib.blake2b(digest_size=16)
    for step in record.steps:
        for exchange in step.all_exchanges:
            made.update(exchange.key.encode())
    return RolloutResult(
        key=key,
        task_id=record.task_id,
        attempt=record.attempt,
        harness=record.harness,
        outcome=Outcome.INFRA_ERROR if late else record.outcome,
        stop_reason=record.stop_reason,
        reward=0.0 if late else record.reward,
        steps=len(record.steps),
        tokens=record.usage.total_tokens,
        cost_usd=record.usage.cost_usd,
        model_calls=record.model_calls,
        replayed_calls=record.replayed_calls,
        requests=made.hexdigest(),
        error=record.error or ("the wall-time limit was reached" if late else ""),
        wall_s=record.wall_s,
        trail="".join(record.trail),
        side_calls=sum(not e.path.startswith("main") for step in record.steps for e in step.all_exchanges),
        tool_calls=sum(len(step.all_calls) for step in record.steps),
        paid=record.paid,
    )


async def serve(sock: socket.socket) -> None:
    """Serve jobs until the pool closes the socket."""
    lane = Lane()
    lane.channel = await Channel.over(sock, lane.on_frame, lane.on_close, MAX_LANE_FRAME)
    try:
        await lane.closed.wait()
    finally:
        lane.close()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
    os._exit(0)
