"""A strategy decides what a run does with its rounds; proposer and gate are the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.round import Engine
from aegis.routing import System
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a run ends: ``rounds`` at most, ``patience`` rounds without a ship, or a spent budget.

    The first ``recorded`` rounds have happened: a resumed run goes through them under tighter limits too.
    """

    rounds: int
    patience: int
    spent: Callable[[], str]
    """Why the budget ends the run now, or ''."""
    recorded: int = 0

    def ends(self, number: int, idle: int) -> str:
        """Why the run ends after round ``number``, the last ``idle`` rounds without a ship; '' to go on."""
        if number < self.recorded:
            return ""
        if spent := self.spent():
            return spent
        if idle >= self.patience:
            return f"{self.patience} rounds without a ship"
        return f"all {number} rounds" if number >= self.rounds else ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a strategy leaves: the final harness or pool, the peak on evolve, and why it stopped."""

    final: System
    peak: System
    stopped: str


class Strategy(Protocol):
    """Runs rounds."""

    @property
    def name(self) -> str: ...

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Refuse what cannot work on these tasks (by split), before anything is written or run.

        Raises:
            UserError: what is wrong, and what to do about it.
        """
        ...

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Evolve ``baseline``."""
        ...
