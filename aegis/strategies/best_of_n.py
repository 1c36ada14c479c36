"""Best of N, as the field has it: N proposals on H_0 at once, the best by a cheap score, one test of that one.

None of the N learns from another, and only the winner of the screening is confirmed: what rounds of evolution, which
read their own failures, are worth beyond sampling. At the same gate it takes one of the run's planned decisions;
``gate.decisions=1`` gives it the whole α. N = rounds × candidates draws as many proposals as the other strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aegis.evaluator import EVOLVE
from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.round import Engine, run_round
from aegis.settings import whole
from aegis.strategies.base import Result, Schedule
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


@dataclass(frozen=True)
class BestOfN:
    """One round of ``n`` proposals, of which the best screened is confirmed.

    Raises:
        UserError: ``n`` is no whole number of at least 1.
    """

    n: int = 24
    name = "best_of_n"

    def __post_init__(self) -> None:
        whole("strategy.n", self.n)

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Any tasks will do."""

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Sample, screen, confirm one."""
        gate = engine.gate.trying(1)
        this = await run_round(replace(engine, candidates=self.n, gate=gate), baseline, 1)
        journal.close_round(this)
        stopped = schedule.spent() or f"the best of {self.n} proposals is decided"
        final = await engine.evaluator.evaluate(this.successor, EVOLVE, engine.attempts)
        peak = this.successor if final.mean > this.baseline.mean else baseline
        return Result(this.successor, peak, stopped)
