"""The same rounds, gate and budget, with proposals drawn at random: what direction is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.meta.catalog import Catalog
from aegis.round import Engine
from aegis.strategies.base import Result, Schedule
from aegis.strategies.global_ import Global
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


class RandomSearch:
    """`Global` with an undirected catalog."""

    name = "random_search"

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Refuse a meta-agent that has no undirected form."""
        if not isinstance(meta, Catalog):
            raise UserError(f"strategy=random_search draws from the catalog; meta={meta.name} has none to draw from")

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Evolve ``baseline`` without looking at what failed."""
        assert isinstance(engine.meta, Catalog)
        return await Global().run(replace(engine, meta=engine.meta.undirected()), journal, baseline, schedule)
