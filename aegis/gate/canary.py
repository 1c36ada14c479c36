"""The canary: whether the provider still is what it was when the round began (STATISTICS rule 14).

An A/A pair is the incumbent twice on one draw, each time asked anew: once as the round begins, once as it
ends. Nothing but the world can make the two differ, so evidence of a difference over rounds says that the
provider, or what stands in for it, has changed; and what was measured on both sides of a change is no
longer evidence about one thing.

The first arms are kept unread until their second ones are there. Else each pair would be bet on with half
of it known, and the e-process would be none. As for drift, a process starts in each planned round and their
mean counts, one for gains and one for losses: what quiet rounds have cost does not hide a later change.

A limit: some 16 pairs a round notice a collapse; a slide takes a hundred a round, for rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegis.gate.confirmation import Draws
from aegis.gate.pairs import Arena, outcome
from aegis.statistics import DriftDetector
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task

ALARM = 20.0


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """One round's A/A pairs: how many differed which way, and the e-value over all rounds since the last alarm."""

    pairs: int
    gained: int
    lost: int
    missing: int
    e_value: float

    @property
    def alarmed(self) -> bool:
        """Whether the provider is no longer what it was: false in at most 5 % of runs in which it is."""
        return self.e_value >= ALARM

    @property
    def reason(self) -> str:
        """The finding in a line."""
        return (
            f"the same harness passed {self.gained} and failed {self.lost} of {self.pairs} canary pairs otherwise than "
            f"when the round began (E = {self.e_value:.4g} of {ALARM:g})"
        )


class Canary:
    """Watches the provider of one run.

    Args:
        arena: runs the rollouts; draws: the run's stream of fresh attempts.
        pairs: A/A pairs a round; rounds: how many the 5 % of the alarm are planned for.
    """

    def __init__(self, arena: Arena, draws: Draws, pairs: int, rounds: int = 15) -> None:
        self._arena, self._draws, self._pairs, self._rounds = arena, draws, pairs, rounds
        self._renew()
        self._harness = HarnessConfig()
        self._drawn: Sequence[tuple[Task, int]] = ()
        self._before: list[RolloutResult] = []

    async def begin(self, incumbent: HarnessConfig, number: int) -> None:
        """The first arms of round ``number``."""
        self._harness, self._drawn = incumbent, self._draws.take(self._pairs)
        self._before = await self._run(f"canary/{number}/before")

    async def end(self, number: int) -> CanaryReport:
        """The second arms, and what the pairs say. After an alarm the watch begins anew."""
        after = await self._run(f"canary/{number}/after")
        self._start_round()
        gained = lost = missing = 0
        for first, second in zip(self._before, after, strict=True):
            then, now = outcome(first), outcome(second)
            if then is None or now is None:
                missing += 1
                continue
            gained, lost = gained + (now and not then), lost + (then and not now)
            self._losses.update(now - then)
            self._gains.update(then - now)
        report = CanaryReport(len(after), gained, lost, missing, self._e_value)
        if report.alarmed:
            self._renew()
        return report

    async def _run(self, namespace: str) -> list[RolloutResult]:
        """The harness on the draws, in a namespace of its own: neither arm replays, or serves, anything else."""
        jobs = [Job(namespace, task, attempt, (self._harness,), confirming=True) for task, attempt in self._drawn]
        return [arms[0] for arms in await self._arena.run(jobs)]

    @property
    def _e_value(self) -> float:
        """Two-sided: half of the capital bets on a gain, half on a loss."""
        return (self._losses.e_value + self._gains.e_value) / 2

    def _start_round(self) -> None:
        if self._started < self._rounds:
            self._losses.start_round()
            self._gains.start_round()
            self._started += 1

    def _renew(self) -> None:
        self._losses, self._gains, self._started = DriftDetector(self._rounds), DriftDetector(self._rounds), 0
