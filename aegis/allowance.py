"""What a run may spend, and what it has: asked before every batch of rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harnessx.errors import UserError
from harnessx.runner.jobs import RolloutResult

J = TypeVar("J")

SLICE = 16
"""Jobs between two looks at a budget: what a run may spend beyond it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend, its final evaluation included; None is unlimited.

    Counted are the rollouts of the run's folder, each once, whether this process ran it or an earlier one.
    """

    rollouts: int | None = None
    tokens: int | None = None
    usd: float | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return (self.rollouts, self.tokens, self.usd) != (None, None, None)


class BudgetSpent(UserError):
    """A batch of rollouts was not run, for the budget is spent."""


class Spending(Protocol):
    """What was spent so far (`aegis.evaluator.Meter`)."""

    rollouts: int
    tokens: int
    dollars: float | None


class Allowance:
    """Holds a run to its budget. Decides by results in scheduled order, so a resumed run ends where it ended.

    ``waived`` while rounds are replayed that an earlier sitting has finished: a tighter budget takes none back. What
    follows them is held to it.
    ``refused`` is why the first batch was not run, '' while none was; what was refused stays so.
    """

    def __init__(self, budget: Budget, spent: Spending) -> None:
        self._budget, self._spent = budget, spent
        self.waived = False
        self.refused = ""

    @property
    def exhausted(self) -> str:
        """Which limit is reached, or ''."""
        budget, spent = self._budget, self._spent
        if budget.rollouts is not None and spent.rollouts >= budget.rollouts:
            return f"the budget of {budget.rollouts} rollouts is spent"
        if budget.tokens is not None and spent.tokens >= budget.tokens:
            return f"the budget of {budget.tokens} tokens is spent"
        if budget.usd is not None and spent.dollars is not None and spent.dollars >= budget.usd:
            return f"the budget of {budget.usd:g} USD is spent"
        return ""

    def slices(self, jobs: Sequence[J], arms: int) -> Iterator[Sequence[J]]:
        """``jobs``, of ``arms`` rollouts each, in batches that may be run.

        Raises:
            BudgetSpent: before the first batch that may not.
        """
        if not self._budget.limited:
            yield jobs
            return
        start = 0
        while start < len(jobs):
            self.check()
            size = self._size(arms)
            yield jobs[start : start + size]
            start += size

    def priced(self, results: Iterable[RolloutResult]) -> None:
        """Refuse rollouts without a price where money is what limits the run.

        Raises:
            UserError: names the remedy.
        """
        if self._budget.usd is None:
            return
        if any(result.model_calls and result.cost_usd is None for result in results):
            raise UserError(
                f"budget.usd={self._budget.usd:g} cannot be kept: the price of this task_model is not known; "
                "set budget.usd=null, and budget.tokens or budget.rollouts instead"
            )

    def check(self) -> None:
        """Refuse anything more once the budget is spent.

        Raises:
            BudgetSpent: it is.
        """
        if self.waived:
            return
        self.refused = self.refused or self.exhausted
        if self.refused:
            raise BudgetSpent(self.refused)

    def _size(self, arms: int) -> int:
        """Jobs until the next look; of rollouts, none beyond the budget but for the last job's further arms."""
        limit = self._budget.rollouts
        if limit is None or self.waived:
            return SLICE
        left = limit - self._spent.rollouts
        return max(1, min(SLICE, left // max(1, arms)))
