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
import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harnessx.canonical import digest_of
from harnessx.errors import HarnessxError, Outage
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.models.identity import Identity, Register
from harnessx.models.patience import Patience
from harnessx.permissions import Effect, Permissions
from harnessx.runner.cassette import Entry
from harnessx.runner.isolation import resolve_isolation
from harnessx.runner.jobs import Job, RolloutResult, rollout_key
from harnessx.runner.lane import create_benchmark
from harnessx.runner.lanes import Drained as Drained
from harnessx.runner.lanes import LaneProcess, Pending
from harnessx.runner.listings import pinned
from harnessx.runner.purse import Purse
from harnessx.runner.shelf import Shelf, outdated
from harnessx.runner.wire import Frame
from harnessx.servers import Listing, ToolServer
from harnessx.tasks import Benchmark
from harnessx.web import WebRules

SERVED = "models"
"""The scope of a shelf that tells who answered."""


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
    patience: Patience = field(default_factory=Patience)
    """With models behind a network."""
    window_s: float | None = None
    """A confirming pair starts within so many seconds, and replays nothing older. None: no limit, for models
    that do not change."""
    permissions: Permissions = Permissions()  # noqa: RUF009
    """The user's rule on what tools may do; each harness has its own beside it."""
    web: WebRules = WebRules()  # noqa: RUF009
    """Which hosts evolved code may ask."""
    servers: tuple[ToolServer, ...] = ()
    """Whose tools every rollout has, besides those of its world."""


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
        if config.servers:
            self._benchmark_digest = digest_of([self.benchmark.digest, *(s.to_json() for s in config.servers)])
        self.listings: list[Listing] = []
        """What the servers offer; settled with the first job of a run, and the same when it is resumed."""
        self._lanes: list[LaneProcess] = []
        self._pending: dict[int, Pending] = {}
        self._next_id = 0
        self.purse: Purse | None = None
        self.approved: set[Effect] = set()
        """What a person approved, where a rule says ``ask``."""
        self.draining = False
        self.say: Callable[[str], None] = logging.getLogger("harnessx").warning
        """Told what a person should know of the models that answer, in one line."""
        self._register: Register | None = None
        self._asked: Counter[str] = Counter()

    def granted(self, harness: HarnessConfig) -> frozenset[Effect]:
        """What the tools of ``harness`` may do: what the user's rule and its own grant."""
        return (self.config.permissions & harness.slots.permissions).granted(self.approved)

    def attach(self, shelf: Shelf) -> None:
        """Keep results in ``shelf`` from now on."""
        self._shelf = shelf

    def charge(self, purse: Purse) -> None:
        """Ask ``purse`` before each model call from now on. To be said before the first job."""
        self.purse = purse if purse.limited else None

    @property
    def persistent(self) -> bool:
        """Whether recordings are kept."""
        return self.config.persist and self._shelf is not None

    def halt(self, error: BaseException) -> None:
        """Nothing that waits, in whatever lane, can be had now: it ends with ``error``. A later job is tried again."""
        for lane in self._lanes:
            lane.dismiss(error)

    def drain(self) -> None:
        """Start nothing more; `run` raises `Drained` once what is in flight has finished."""
        self.draining = True
        for lane in self._lanes:
            lane.drain()

    async def __aenter__(self) -> Pool:
        count = self.config.lanes or os.cpu_count() or 1
        share = max(1, self.config.concurrency // count)
        self._lanes = [LaneProcess(self, index, share) for index in range(count)]
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
        if len(self.listings) < len(self.config.servers):
            self.listings = await pinned(self.config.servers, self._shelf, self.isolation)
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
        if not job.confirming:  # each of those is a fresh attempt: to count them would take memory without end
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
            case "served":
                self._registered().note(Identity.from_json(frame["identity"]))
                return None
            case "down":
                self.halt(Outage(frame["reason"]))
                return None
        ident = int(frame["id"])
        entry = self._pending.pop(ident, None)
        if entry is not None and not entry.finished.done():
            if frame["t"] == "broken":
                entry.finished.set_exception(RunnerBroken(f"a lane could not run its job:\n{frame['error']}"))
            else:
                entry.finished.set_result(None)
        return ident

    @property
    def served(self) -> list[Identity]:
        """Who answered to the names of the models, in this sitting and those before."""
        return self._registered().known

    def _registered(self) -> Register:
        """Who answers to the names of the models; what earlier sittings saw is in the shelf."""
        if self._register is None:
            shelf = self._shelf
            rows = shelf.recordings(SERVED) if shelf is not None else ()
            known = [Identity.from_json(json.loads(row.body)) for row in rows]

            def keep(identity: Identity) -> None:
                if shelf is not None:
                    row = identity.to_json()
                    shelf.put_recordings({SERVED: [Entry(digest_of(row), "", json.dumps(row))]})

            self._register = Register(lambda line: self.say(line), known, keep)
        return self._register

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
