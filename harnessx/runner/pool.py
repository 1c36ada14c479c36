"""The local runner: a pool of lanes, one trusted process each, with evolved code in workers below.

A task always goes to the same lane, so its tapes and recorded worlds are in memory there. Results
come back in scheduled order, whatever order they finished in; recordings and finished rollouts are
handed to the store as they happen, so a killed run repeats only what was unfinished.

What the world broke is asked for again when the same rollout is wanted a second time. Each asking is
numbered and keeps its miss, so that a run taken up again misses what it missed, and where it missed it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harnessx.errors import HarnessxError, UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.permissions import Effect, Permissions
from harnessx.runner.cassette import Entry
from harnessx.runner.isolation import resolve_isolation
from harnessx.runner.jobs import Job, Pending, RolloutResult, rollout_key
from harnessx.runner.lane import MAX_LANE_FRAME, create_benchmark
from harnessx.runner.shelf import Shelf, outdated
from harnessx.runner.wire import Channel, Frame
from harnessx.tasks import Benchmark

MAX_LANE_DEATHS = 3
"""A lane may die this often without finishing a job in between."""
EXIT_S = 2.0


class Drained(HarnessxError):
    """The pool was asked to stop; what was running has finished."""


class RunnerBroken(HarnessxError):
    """A defect of the runner itself, with the lane's traceback."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How a pool runs. ``lanes`` processes share ``concurrency`` rollouts in flight."""

    benchmark: Mapping[str, Any]
    model: ModelConfig
    seed: int = 0
    isolation: str = "auto"
    lanes: int = 0
    concurrency: int = 10
    persist: bool = True
    """Whether recordings are stored. A free and deterministic model can be asked again instead: outcomes
    stay the same, and a resumed run counts more calls as made."""
    window_s: float | None = None
    """A confirming pair starts within so many seconds, and replays nothing older. None: no limit, for models
    that do not change."""
    permissions: Permissions = Permissions()  # noqa: RUF009
    """The user's rule on what tools may do; each harness has its own beside it."""


class Pool:
    """Runs jobs. An async context manager.

    Raises:
        UserError: the benchmark or model cannot be created, or the isolation is not available.
    """

    def __init__(self, config: PoolConfig, shelf: Shelf | None = None) -> None:
        self.config, self._shelf = config, shelf
        self.isolation = resolve_isolation(config.isolation)
        self.benchmark: Benchmark = create_benchmark(config.benchmark)
        self._model_digest = config.model.digest
        self._benchmark_digest = self.benchmark.digest
        self._lanes: list[_LaneProcess] = []
        self._pending: dict[int, Pending] = {}
        self._next_id = 0
        self.approved: set[Effect] = set()
        """What a person approved, where a rule says ``ask``."""
        self.draining = False
        self._asked: Counter[str] = Counter()

    def granted(self, harness: HarnessConfig) -> frozenset[Effect]:
        """What the tools of ``harness`` may do: what the user's rule and its own grant."""
        return (self.config.permissions & harness.slots.permissions).granted(self.approved)

    def attach(self, shelf: Shelf) -> None:
        """Keep results in ``shelf`` from now on."""
        self._shelf = shelf

    def drain(self) -> None:
        """Start nothing more; `run` raises `Drained` once what is in flight has finished."""
        self.draining = True
        for lane in self._lanes:
            lane.drain()

    async def __aenter__(self) -> Pool:
        count = self.config.lanes or os.cpu_count() or 1
        share = max(1, self.config.concurrency // count)
        self._lanes = [_LaneProcess(self, index, share) for index in range(count)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for lane in self._lanes:
            lane.close()

    def key(self, job: Job, harness: HarnessConfig) -> str:
        """The `rollout_key` of one arm."""
        return rollout_key(
            harness.digest,
            self._model_digest,
            self._benchmark_digest,
            job.split,
            job.task.id,
            job.attempt,
            self.config.seed,
        )

    async def run(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[RolloutResult]]:
        """Run all jobs; one list of results (an arm each) per job, in the order given."""
        records = await self.run_recorded(jobs, on_result)
        return [[result for result, _ in arms] for arms in records]

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        """Like `run`, each result with its trajectory (JSONL) where the job asks for it."""
        submitted = [self._submit(job, on_result) for job in jobs]
        try:
            done = await asyncio.gather(*(entry.finished for entry in submitted), return_exceptions=True)
            for outcome in done:
                if isinstance(outcome, BaseException):
                    raise outcome
        finally:
            for ident in [i for i, entry in self._pending.items() if entry in submitted]:
                del self._pending[ident]
        return [
            [(result, text) for result, text in zip(entry.results, entry.trajectories, strict=True) if result]
            for entry in submitted
        ]

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drop what the shelf has of ``jobs``, which will be run anew: pairs whole, of others what is missing."""
        if self._shelf is None:
            return
        for job in jobs:
            keys = [self.key(job, arm) for arm in job.arms]
            missed = [_missed(key, asking) for key in keys for asking in range(self._asked[key])]
            self._shelf.forget(*((keys, job.scope) if job.confirming else (missed, "")))

    def _submit(self, job: Job, on_result: Callable[[RolloutResult], None] | None) -> Pending:
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        count = len(job.arms)
        keys = [self.key(job, arm) for arm in job.arms]
        lane = self._lane_of(job)
        misses = keys if job.confirming else [_missed(key, self._asked[key]) for key in keys]
        self._asked.update(keys)
        entry = Pending(job, keys, [None] * count, [None] * count, finished, lane, misses)
        if on_result is not None:
            finished.add_done_callback(
                lambda f: None if f.cancelled() or f.exception() else [on_result(r) for r in entry.results if r]
            )
        for index, key in enumerate(keys):
            self._recall(entry, index, misses[index])
            if entry.results[index] is None:
                self._recall(entry, index, key)
        entry.sent = [i for i, result in enumerate(entry.results) if result is None]
        if job.confirming and entry.sent and outdated(self._shelf, keys, job.scope, self.config.window_s):
            self._start_anew(entry)
        if not entry.sent:
            finished.set_result(None)
            return entry
        ident, self._next_id = self._next_id, self._next_id + 1
        self._pending[ident] = entry
        self._lanes[lane].enqueue(ident, entry)
        return entry

    def _start_anew(self, entry: Pending) -> None:
        """All arms of a pair run within the window, or none of them counts."""
        assert self._shelf is not None
        self._shelf.forget(entry.keys, entry.job.scope)
        count = len(entry.keys)
        entry.results, entry.trajectories, entry.sent = [None] * count, [None] * count, list(range(count))

    def _lane_of(self, job: Job) -> int:
        """The task's own lane, where its tape or world is in memory; else the one with the least to do."""
        if job.keep_tape or self.benchmark.recorded:
            return zlib.crc32(job.task.id.encode()) % len(self._lanes)
        return min(range(len(self._lanes)), key=lambda index: self._lanes[index].load)

    def _recall(self, entry: Pending, index: int, key: str) -> None:
        body = self._shelf.rollout(key) if self._shelf is not None else None
        if body is None or self._shelf is None:
            return
        text = self._shelf.trajectory(key) if entry.job.trajectories else None
        if text is not None or not entry.job.trajectories:
            entry.results[index] = RolloutResult.from_json(json.loads(body))
            entry.trajectories[index] = text

    def harness_frame(self, harness: HarnessConfig) -> Frame:
        """What a lane is told of a harness, once."""
        granted = sorted(self.granted(harness))
        return {"t": "harness", "digest": harness.digest, "harness": harness.to_json(), "granted": granted}

    def job_frame(self, ident: int, entry: Pending, known: set[str]) -> Frame:
        """The order a lane gets; recordings travel with the first job of a scope."""
        job = entry.job
        arms = [{"harness": job.arms[i].digest, "key": entry.keys[i]} for i in entry.sent]
        frame: Frame = {
            "t": "job",
            "id": ident,
            "scope": job.scope,
            "task": {"prompt": job.task.prompt, "id": job.task.id, "cluster": job.task.cluster},
            "attempt": job.attempt,
            "arms": arms,
            "keep_tape": job.keep_tape,
            "trajectories": job.trajectories,
            "confirming": job.confirming,
            "tape": self._stored(job.scope, known, remember=job.keep_tape),
        }
        if self.benchmark.recorded:
            frame["world"] = self._stored(f"world/{job.task.id}", known, remember=True)
        return frame

    def _stored(self, scope: str, known: set[str], *, remember: bool) -> list[tuple[str, str, str]]:
        if self._shelf is None or scope in known:
            return []
        if remember:
            known.add(scope)
        else:
            known.discard(scope)
        return [(e.key, e.origin, e.body) for e in self._shelf.recordings(scope)]

    def on_frame(self, frame: Frame) -> int | None:
        """Take a lane's report; the id of the job that is over with it, if one is.

        Raises:
            HarnessxError: the shelf does not take what the lane has made.
        """
        match frame["t"]:
            case "recorded":
                if self._shelf is not None:
                    scopes = frame["scopes"].items()
                    self._shelf.put_recordings({scope: [Entry(*row) for row in rows] for scope, rows in scopes})
                return None
            case "arm":
                self._take(frame)
                return None
        ident = int(frame["id"])
        entry = self._pending.pop(ident, None)
        if entry is not None and not entry.finished.done():
            if frame["t"] == "broken":
                entry.finished.set_exception(RunnerBroken(f"a lane could not run its job:\n{frame['error']}"))
            else:
                entry.finished.set_result(None)
        return ident

    def _take(self, frame: Frame) -> None:
        """A finished rollout: kept, also if nobody waits for it any more."""
        result = RolloutResult.from_json(frame["result"])
        entry = self._pending.get(frame["id"])
        index = entry.sent[frame["index"]] if entry is not None else 0
        key = result.key if not result.missing else entry.misses[index] if entry is not None else ""
        if self._shelf is not None and key:
            body = json.dumps({**frame["result"], "at": round(time.time(), 3)}, sort_keys=True)
            self._shelf.put_rollout(key, body, frame["trajectory"])
        if entry is not None:
            entry.results[index], entry.trajectories[index] = result, frame["trajectory"]


def _missed(key: str, asking: int) -> str:
    """Where a rollout is kept that was missing when it was asked for, before which it was ``asking`` times."""
    return f"{key}/missing/{asking}"


class _LaneProcess:
    """One lane: its process, its queue, and what it has been told."""

    def __init__(self, pool: Pool, index: int, share: int) -> None:
        self._pool, self._index, self._share = pool, index, share
        self._queue: list[tuple[int, Pending]] = []
        self._running: dict[int, Pending] = {}
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self._known: set[str] = set()
        self._deaths = 0
        self._error: BaseException | None = None
        self._closed = False
        self._draining = False

    @property
    def load(self) -> int:
        """Jobs waiting or running."""
        return len(self._queue) + len(self._running)

    def enqueue(self, ident: int, entry: Pending) -> None:
        """Add a job; it starts when one of the lane's places is free."""
        if self._draining:
            entry.finished.set_exception(Drained("stopped on request"))
            return
        if self._error is not None:
            entry.finished.set_exception(self._error)
            return
        self._queue.append((ident, entry))
        if self._channel is not None:
            self._feed()
        elif self._starting is None:
            self._begin()

    def _begin(self) -> None:
        self._starting = asyncio.ensure_future(self._start())
        self._starting.add_done_callback(self._started)

    def _started(self, start: asyncio.Task[None]) -> None:
        if start is self._starting:
            self._starting = None
        error = None if start.cancelled() else start.exception()
        if isinstance(error, OSError):
            error = UserError(f"cannot start runner lane {self._index}: {error}")
        if error is not None:
            self._fail(error)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harnessx.runner.lane", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        channel = await Channel.over(ours, self._on_frame, self._on_close, MAX_LANE_FRAME)
        config = self._pool.config
        channel.send(
            {
                "t": "init",
                "benchmark": dict(config.benchmark),
                "model": config.model.to_json(),
                "isolation": self._pool.isolation,
                "seed": config.seed,
                "persist": config.persist and self._pool._shelf is not None,
                "window_s": config.window_s,
            }
        )
        self._told.clear()
        self._known.clear()
        self._channel = channel
        self._feed()

    def _feed(self) -> None:
        while self._channel is not None and self._queue and len(self._running) < self._share:
            ident, entry = self._queue.pop(0)
            if entry.finished.done():
                continue
            for index in entry.sent:
                harness = entry.job.arms[index]
                if harness.digest not in self._told:
                    self._told.add(harness.digest)
                    self._channel.send(self._pool.harness_frame(harness))
            self._running[ident] = entry
            self._channel.send(self._pool.job_frame(ident, entry, self._known))

    def _on_frame(self, frame: Frame) -> None:
        if frame["t"] == "unable":
            self._fail(UserError(f"a runner lane cannot start: {frame['error']}"))
            return
        try:
            finished = self._pool.on_frame(frame)
        except HarnessxError as error:
            self._fail(error)
            return
        if finished is not None:
            self._deaths = 0
            self._running.pop(finished, None)
            self._feed()

    def _on_close(self, reason: str) -> None:
        self._channel = None
        if self._closed:
            return
        code = self._reap()
        self._deaths += 1
        if self._deaths > MAX_LANE_DEATHS:
            how = f"exit {code}" if code >= 0 else signal.Signals(-code).name
            said = f", {reason}" if reason else ""
            self._fail(UserError(f"runner lane {self._index} died {self._deaths} times in a row ({how}{said})"))
            return
        for entry in self._running.values():
            entry.sent = [i for i in entry.sent if entry.results[i] is None]
        self._queue[:0] = self._running.items()
        self._running.clear()
        if self._queue:
            self._begin()

    def _fail(self, error: BaseException) -> None:
        """Nothing that waits for this lane can be had, now or later."""
        self._error = error
        waiting = [*self._running.values(), *(entry for _, entry in self._queue)]
        self._running.clear()
        self._queue.clear()
        for entry in waiting:
            if not entry.finished.done():
                entry.finished.set_exception(error)
        self.close()

    def _reap(self) -> int:
        """The exit code of the process, which is over or will be."""
        assert self._process is not None
        try:
            return self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def drain(self) -> None:
        """Drop the queue; jobs in flight finish."""
        self._draining = True
        for _, entry in self._queue:
            if not entry.finished.done():
                entry.finished.set_exception(Drained("stopped on request"))
        self._queue.clear()

    def close(self) -> None:
        """End the lane and everything below it."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
