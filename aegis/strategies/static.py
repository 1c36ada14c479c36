"""No evolution: the baseline every claim is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.round import Engine
from aegis.strategies.base import Result, Schedule
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


class Static:
    """Leaves H_0 as it is."""

    name = "static"

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Nothing can go wrong."""

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Nothing."""
        journal.write()
        return Result(baseline, baseline, "the strategy is static")
