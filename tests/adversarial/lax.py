"""Checks of the host that need no wall, each switched off: what they stop bites only without them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator

from adversarial import smoked
from harnessx import loop
from harnessx.errors import Failure, Outcome, Source, StopReason
from harnessx.runner import budget, folder, host, isolation, rollout, tryout, wire, zygote
from harnessx.runner.wire import Channel
from harnessx.sandbox import view


class _Anything:
    def __ge__(self, other: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())


def _no_watchdog() -> None:
    isolation._Supervisor._look = lambda self: None


def _no_disk_watch() -> None:
    isolation.excess_of = lambda *args: ""


def _any_length() -> None:
    _any_amount()
    over = Channel.over
    Channel.over = classmethod(lambda cls, *args, **kwargs: over(*args, limit=1 << 31))


def _any_text() -> None:
    wire.unpack = lambda body: json.loads(body.decode())


def _any_depth() -> None:
    wire._fits = lambda *args: True


def _any_sampling() -> None:
    wire.SAMPLING = _Anything()


def _any_end() -> None:
    rollout._SAYABLE = tuple(StopReason)


def _any_blame() -> None:
    fail = rollout._fail

    def believing(record, outcome: Outcome, error: Exception) -> None:
        fail(record, error.source.outcome if isinstance(error, Failure) else outcome, error)

    isolation.failure_from = lambda frame: Failure(Source(frame["source"]), frame["message"])
    rollout._fail = believing


def _any_tool() -> None:
    host.Host._refused = lambda self, name: ""


def _any_number_of_requests() -> None:
    budget.Budget.check = lambda self, path: None


def _any_number_in_flight() -> None:
    isolation.MAX_IN_FLIGHT = 10**9


def _any_amount() -> None:
    isolation.MAX_SENT = 1 << 40


def _any_seed() -> None:
    zygote.environment = lambda: {**view.environment(), "PYTHONHASHSEED": "4711"}


def _any_number_of_paths() -> None:
    wire.MAX_PATHS = 10**9


def _names_told() -> None:
    loop.Episode.masked = lambda self: self


def _no_killing() -> None:
    isolation.os.killpg = lambda *args: None


def _any_environment() -> None:
    tryout.environment = lambda: {**os.environ, **view.environment()}


def _no_smoke_watch() -> None:
    tryout.excess_of = lambda *args: ""


def _plain_removal() -> None:
    _no_smoke_watch()
    folder.remove = lambda path: shutil.rmtree(path, ignore_errors=True)


def _all_patience() -> None:
    smoked.STALL_S = 3600.0


def _any_answer() -> None:
    tryout.MAX_ANSWER = 1 << 31


def _any_claim() -> None:
    def claimed(said: bytes) -> tryout.Tryout:
        return tryout.Tryout(**json.loads(said.rsplit(b"\n", 1)[-1]))

    tryout._claimed = claimed


def _no_replay() -> None:
    smoked.REPLAY = False


LAX: dict[str, Callable[[], None]] = {
    "the watchdog": _no_watchdog,
    "the watch over the scratch": _no_disk_watch,
    "the limit of a frame": _any_length,
    "the encoding of a frame": _any_text,
    "the depth of a frame": _any_depth,
    "the settings of a request": _any_sampling,
    "the reason of an ending": _any_end,
    "the source of a failure": _any_blame,
    "the permission of a call": _any_tool,
    "the limit of steps": _any_number_of_requests,
    "the limit of frames at once": _any_number_in_flight,
    "the limit of all that is sent": _any_amount,
    "the seed of hashes": _any_seed,
    "the limit of callers": _any_number_of_paths,
    "the mask over names": _names_told,
    "the end of its processes": _no_killing,
    "the empty environment of a smoke test": _any_environment,
    "the watch over a smoke test": _no_smoke_watch,
    "the removal of what a smoke test left": _plain_removal,
    "the patience with a smoke test": _all_patience,
    "the limit of what a smoke test says": _any_answer,
    "the reading of what a smoke test says": _any_claim,
    "the replay after a smoke test": _no_replay,
}
"""What each switches off, in a host that is thrown away."""
