"""A pool's end of a lane: the process, its queue, and what happens when it dies."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harnessx.errors import HarnessxError, UserError
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.runner.lane import MAX_LANE_FRAME
from harnessx.runner.tellers import PoolTeller
from harnessx.runner.wire import Channel, Frame

if TYPE_CHECKING:
    from harnessx.runner.pool import Pool

MAX_LANE_DEATHS = 3
"""A lane may die this often without finishing a job in between."""
EXIT_S = 2.0


class Drained(HarnessxError):
    """The pool was asked to stop; what was running has finished."""


@dataclass(slots=True)
class Pending:
    job: Job
    keys: list[str]
    results: list[RolloutResult | None]
    trajectories: list[str | None]
    finished: asyncio.Future[None]
    lane: int
    misses: list[str]
    """Under which key each arm is kept if it is missing."""
    sent: list[int] = field(default_factory=list)
    """Which arms were sent (the others were in the shelf)."""


class LaneProcess:
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
        self._teller: PoolTeller | None = None
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
                "persist": self._pool.persistent,
                "window_s": config.window_s,
                "patience": dataclasses.asdict(config.patience),
                "web": config.web.to_json(),
                "servers": [listing.to_json() for listing in self._pool.listings],
                "share": self._share,
                "metered": self._pool.purse is not None,
            }
        )
        if self._pool.purse is not None:
            self._teller = PoolTeller(self._pool.purse, channel.send, self._pool.halt)
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
        if frame["t"] in ("ask", "settle"):
            assert self._teller is not None
            if frame["t"] == "ask":
                self._teller.ask(frame["ticket"], frame["account"])
            else:
                self._teller.settle(frame["ticket"], frame["spend"])
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
        if self._teller is not None:
            self._teller.close()
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
        self.dismiss(error)
        self.close()

    def dismiss(self, error: BaseException) -> None:
        """What waits for this lane ends with ``error``."""
        waiting = [*self._running.values(), *(entry for _, entry in self._queue)]
        self._running.clear()
        self._queue.clear()
        for entry in waiting:
            if not entry.finished.done():
                entry.finished.set_exception(error)

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
