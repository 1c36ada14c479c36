"""No evolution: the baseline every claim is measured against."""

from __future__ import annotations

from aegis.journal import Journal
from aegis.round import Engine
from aegis.strategies.base import Result, Schedule
from harnessx.harness import HarnessConfig


class Static:
    """Leaves H_0 as it is."""

    name = "static"

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Nothing."""
        journal.write()
        return Result(baseline, baseline, "the strategy is static")
