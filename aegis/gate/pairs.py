"""Pairs: several harnesses on the same fresh draws, and which of their results are missing.

What broke before the arms differed cannot be the edit's doing, so such a pair is redrawn; what broke
later may be, so it stays in, as missing (STATISTICS rule 15).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from aegis.evaluator import VALIDATION
from aegis.outage import BY_CHANCE, check_some_ran
from aegis.routing import System, serving
from harnessx.errors import Outage, StopReason
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task


class Arena(Protocol):
    """Runs jobs and meters them: an `Evaluator`, or a testbed whose rates are known."""

    async def run(self, jobs: Sequence[Job]) -> list[list[RolloutResult]]:
        """One list of results (an arm each) per job, in the order given."""
        ...

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drop what is stored of ``jobs``: they will be run anew."""
        ...


async def run_pairs(
    arena: Arena,
    drawn: Sequence[tuple[Task, int]],
    arms: Sequence[System],
    order: int | None = None,
) -> list[list[RolloutResult]]:
    """Every arm on every draw, results in the order of ``drawn`` and ``arms``.

    The arms of a draw share a tape: whoever runs first is recorded, whoever follows replays it up to the
    first difference. That couples them in any order; the order decides who pays for what they share, and
    who meets the provider first. ``order`` is the seed of a random one for each draw, for models that are
    not deterministic (STATISTICS rule 14); None runs them as given, the incumbent first.

    Raises:
        Outage: the first arm could not be run on any of them.
    """
    places = [_places(len(arms), attempt, order) for _, attempt in drawn]
    jobs = [
        Job(VALIDATION, task, attempt, tuple(serving(arms[place], task) for place in taken), confirming=True)
        for (task, attempt), taken in zip(drawn, places, strict=True)
    ]
    measured = [
        [results[taken.index(arm)] for arm in range(len(arms))]
        for results, taken in zip(await arena.run(jobs), places, strict=True)
    ]
    if len(jobs) >= BY_CHANCE:
        try:
            check_some_ran([results[0] for results in measured], VALIDATION)
        except Outage:  # a resumed run asks again
            arena.forget(jobs)
            raise
    return measured


def _places(count: int, attempt: int, order: int | None) -> list[int]:
    places = list(range(count))
    if order is not None:
        random.Random(f"order/{order}/{attempt}").shuffle(places)
    return places


def redrawn(incumbent: RolloutResult, candidate: RolloutResult) -> bool:
    """Whether an arm broke before the first difference between the two.

    Compared is what the world saw: requests (the one that failed included) and actions. The edit can
    then have had no part in it, with one exception: evolved code that idles can run its arm into the
    wall-time limit, and would choose the pairs that count. So a candidate's own wall-time limit stays in.
    """
    if candidate.missing and candidate.stop_reason is StopReason.WALL_LIMIT:
        return False
    broke = [(a, b) for a, b in ((incumbent, candidate), (candidate, incumbent)) if a.missing]
    return any(other.trail.startswith(broken.trail) for broken, other in broke)


def outcome(result: RolloutResult) -> bool | None:
    """Passed or not; None where the world broke."""
    return None if result.missing else result.passed


def worst_case(a: bool | None, b: bool | None) -> int:
    """b − a in {−1, 0, 1}, what is missing taken to be the worst for b: a passed, b failed."""
    return int(bool(b)) - int(a is None or a)
