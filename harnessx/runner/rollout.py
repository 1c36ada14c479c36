"""One rollout from start to verified record. Whatever goes wrong ends in the record."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harnessx.canonical import canonical_json
from harnessx.errors import (
    Failure,
    HarnessxError,
    LimitReached,
    Outcome,
    Source,
    StopReason,
    WorkerLost,
    boundary,
)
from harnessx.harness import HarnessConfig
from harnessx.loop import Ending, Episode, RunLoop
from harnessx.model_config import Models
from harnessx.models.base import Tape
from harnessx.permissions import Effect, Permissions, refusal
from harnessx.redaction import redact, redactor
from harnessx.runner.beside import Beside
from harnessx.runner.gateway import Web
from harnessx.runner.host import Host, Recorder
from harnessx.runner.workspace import Workspace
from harnessx.tasks import Environment, Task, Verifier
from harnessx.trajectory import Trajectory

Execute: TypeAlias = Callable[[HarnessConfig, Episode, Host], Awaitable[Ending]]
"""How the untrusted side is run: in this process, or in a worker."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What to run: one harness on one task, once.

    ``seed`` fixes the randomness of processors and offline models; ``key`` is the digest that `rollout_key`
    gives, ``model`` that of the `ModelConfig`, for the record.
    """

    harness: HarnessConfig
    task: Task
    attempt: int = 0
    seed: int = 0
    key: str = ""
    model: str = ""


class Watch:
    """The wall time of a rollout: a deadline that is moved by the time that does not count."""

    def __init__(self, deadline: asyncio.Timeout) -> None:
        self._deadline, self._stops = deadline, 0
        self._left = self._charged = 0.0
        self._limited = deadline.when() is not None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """No time passes inside; calls made at once stop it together."""
        loop = asyncio.get_running_loop()
        when = self._deadline.when()
        if self._stops == 0 and when is not None and not self._deadline.expired():
            self._left, self._charged = when - loop.time(), 0.0
            self._deadline.reschedule(None)
        self._stops += 1
        try:
            yield
        finally:
            self._stops -= 1
            if self._limited and self._stops == 0 and not self._deadline.expired():
                self._deadline.reschedule(loop.time() + self._left - self._charged)

    def charge(self, seconds: float) -> None:
        """So much of the stopped time counts all the same; of calls made at once, the longest."""
        self._charged = max(self._charged, seconds)


async def inprocess(harness: HarnessConfig, episode: Episode, host: Host) -> Ending:
    """Run the loop beside the host: for harnesses made of built-in parts only."""
    return await RunLoop(harness, episode, host).run()


async def run_rollout(
    rollout: Rollout,
    models: Models,
    environment: Environment | None,
    verifier: Verifier | None,
    *,
    execute: Execute = inprocess,
    tape: Tape | None = None,
    recorder: Recorder | None = None,
    granted: frozenset[Effect] | None = None,
    web: Web | None = None,
    servers: Sequence[Environment] = (),
    isolation: str = "inprocess",
) -> Trajectory:
    """Run, verify and record one rollout. Closes the environment and the ``servers``.

    ``granted`` is what its tools may do; None: what the harness's rule and the default one for a user grant.
    ``web`` is the network, for a harness that may use it; None: nobody is asked. ``servers`` bring tools besides
    those of the environment, and ``isolation`` (a resolved name) is that of commands in the harness's workspace.

    Returns:
        The record; it never raises for what happened inside the rollout (cancellation excepted).
    """
    record = Trajectory(rollout.task.id, rollout.attempt, rollout.harness.digest, rollout.model)
    limits = rollout.harness.slots.limits
    recorder = recorder or Recorder(contents=rollout.harness.slots.tracer == "full")
    allowed = _granted(rollout.harness, granted)
    world = _world(rollout.harness, environment, servers, isolation)
    host = Host(
        record,
        models,
        world,
        limits,
        seed=rollout.seed,
        tape=tape,
        origin=rollout.key,
        recorder=recorder,
        granted=allowed,
        web=web,
        closed=_closed(rollout.harness, allowed),
    )
    started = time.monotonic()
    try:
        await _run(rollout, models, world, execute, host)
        host.finish()
        if verifier is None:
            record.outcome = Outcome.UNSCORED if not record.error else record.outcome
        elif record.stop_reason is not StopReason.ERROR:
            with boundary(Source.VERIFIER):
                score = await verifier.score(rollout.task, record.answer, environment, record)
            record.outcome = Outcome.PASSED if score.passed else Outcome.FAILED
            record.reward = score.reward
    except Failure as failure:
        _fail(record, failure.outcome, failure)
    finally:
        record.wall_s = time.monotonic() - started
        if world is not None:
            await _close(world, record)
    host.write_ending()
    return record


def _world(
    harness: HarnessConfig, environment: Environment | None, servers: Sequence[Environment], isolation: str
) -> Environment | None:
    """The task's environment, with what the harness and the user put beside it."""
    others = list(servers)
    if harness.slots.workspace != "scratch":
        others.append(Workspace(isolation if harness.slots.workspace == "shell" else ""))
    return Beside(environment, others) if others else environment


def _granted(harness: HarnessConfig, granted: frozenset[Effect] | None) -> frozenset[Effect]:
    return _usually(harness.slots.permissions) if granted is None else granted


@functools.cache
def _usually(rule: Permissions) -> frozenset[Effect]:
    return (Permissions() & rule).granted()


def _closed(harness: HarnessConfig, granted: frozenset[Effect]) -> str:
    """Why the code of ``harness`` may not use the network; '' where it may. What it does not declare it may not do."""
    if not any(Effect.NETWORK in effects for effects in harness.own_effects.values()):
        return "no tool or processor of the harness declares effects = frozenset({Effect.NETWORK})"
    return refusal((Effect.NETWORK,), granted)


def _check_own_tools(harness: HarnessConfig, granted: frozenset[Effect]) -> None:
    """Refuse a harness whose own parts declare more than is granted: their calls would not cross the seam."""
    for name, effects in harness.own_effects.items():
        reason = refusal(effects, granted)
        if reason:
            raise Failure(Source.TOOL, f"{name}: {reason}")


async def _run(rollout: Rollout, models: Models, environment: Environment | None, execute: Execute, host: Host) -> None:
    """Run the loop and settle stop reason and answer; what broke, and whose fault it is.

    Raises:
        Failure: the environment could not begin.
    """
    record = host.record
    with boundary(Source.ENVIRONMENT):
        first = await environment.reset() if environment is not None else ""
        tools = environment.tools if environment is not None else ()
    task = rollout.task
    prompt = redact(f"{task.prompt}\n\n{first}" if first else task.prompt)
    episode = Episode(task.id, prompt, rollout.attempt, rollout.seed, tools, models.roles)
    try:
        async with asyncio.timeout(rollout.harness.slots.limits.wall_s) as deadline:
            host.watch = Watch(deadline)
            _check_own_tools(rollout.harness, host.granted)
            with boundary(Source.WORKER):
                ending = await execute(rollout.harness, episode, host)
        record.stop_reason = _stop_reason(ending, host)
        with boundary(Source.WORKER, "answer and claims"):
            canonical_json([ending.answer, dict(ending.claims)]).encode()
        record.answer, record.claims = redact(ending.answer), redactor().value(ending.claims)
    except TimeoutError:
        record.stop_reason = StopReason.WALL_LIMIT
    except Failure as failure:  # only what this side saw break is the world's fault
        own = host.failure
        if isinstance(own, Failure):
            _fail(record, own.outcome, own)
        else:
            record.lost = isinstance(failure, WorkerLost)
            _fail(record, Outcome.HARNESS_ERROR, failure)
    except HarnessxError as error:
        _fail(record, Outcome.HARNESS_ERROR, error)


def _stop_reason(ending: Ending, host: Host) -> StopReason:
    """Why the run ended: what this side knows, then what the other side may say of itself.

    Raises:
        Failure: the world broke, or the other side says what cannot be.
    """
    if host.failure is not None and host.world_lost:
        raise host.failure
    if host.done:
        return StopReason.ENVIRONMENT_DONE
    if isinstance(host.failure, LimitReached):
        return host.failure.reason
    said = ending.stop_reason
    if said not in _SAYABLE:
        raise Failure(Source.WORKER, f"the loop says it ended by {said.value}, which did not happen")
    return said


_SAYABLE = (
    *(StopReason.FINISHED, StopReason.STEP_LIMIT, StopReason.INTERRUPTED, StopReason.INTERCEPTED),
    StopReason.STUCK,
)


async def _close(environment: Environment, record: Trajectory) -> None:
    try:
        with boundary(Source.ENVIRONMENT, "close"):
            await environment.close()
    except Failure as failure:  # what was scored before stands
        record.error = record.error or redact(str(failure))


def _fail(record: Trajectory, outcome: Outcome, error: Exception) -> None:
    record.outcome, record.stop_reason, record.reward = outcome, StopReason.ERROR, 0.0
    record.error = redact(f"{type(error).__name__}: {error}")
