"""One incumbent for all tasks: round after round until patience or the budget ends (paper §3)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from aegis.evaluator import EVOLVE
from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.round import Engine, run_round
from aegis.strategies.base import Result, Schedule
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


class Global:
    """H_{t+1} is what the gate lets through, else H_t."""

    name = "global_"

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Any tasks will do."""

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Evolve ``baseline``; the peak is the harness with the best evolve rate, the final one included."""
        incumbent, peak, best = baseline, baseline, -1.0
        for number in itertools.count(1):
            this = await run_round(engine, incumbent, number)
            if this.baseline.mean > best:
                peak, best = incumbent, this.baseline.mean
            journal.close_round(this)
            engine.history.idle = 0 if this.successor != incumbent else engine.history.idle + 1
            incumbent = this.successor
            if stopped := schedule.ends(number, engine.history.idle):
                final = await engine.evaluator.evaluate(incumbent, EVOLVE, engine.attempts)
                return Result(incumbent, incumbent if final.mean > best else peak, stopped)
        raise AssertionError("unreachable")
