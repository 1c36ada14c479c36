"""Open-ended search: every child that builds and runs stays, and parents are drawn by score × novelty.

A stepping stone need not be an improvement. A parent is drawn with weight 1 / (1 + e^(−10·(score − ½))), score its
mean rate on the evolve attempts that screen, times 1 / (1 + n), n how often it was a parent before. Source: Zhang et
al., "Darwin Gödel Machine: Open-Ended Evolution of Self-Improving Agents" (2025), where the best of the archive is
the result; here nothing is believed for its place in the archive, and what ships went through the gate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.round import Engine
from aegis.strategies.base import Result, Schedule
from aegis.strategies.population import Member, Population, explore
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task

SHARPNESS, MIDDLE = 10.0, 0.5


class Archive:
    """One open-ended search."""

    name = "archive"

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Any tasks will do."""

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Evolve ``baseline``."""
        return await explore(self, engine, journal, baseline, schedule)

    def parent(self, population: Population, rng: random.Random) -> Member:
        """A member by score × novelty."""
        weights = {d: weight(rates, population.children.get(d, 0)) for d, rates in population.rates.items()}
        return population.members[rng.choices(list(weights), list(weights.values()))[0]]

    def merged(self, population: Population, parent: Member, ident: str, rng: random.Random) -> Member | None:
        """None: every child has one parent."""
        return None


def weight(rates: Mapping[str, float], children: int) -> float:
    """Score × novelty, in (0, 1)."""
    score = sum(rates.values()) / len(rates) if rates else 0.0
    return 1 / (1 + math.exp(-SHARPNESS * (score - MIDDLE))) / (1 + children)
