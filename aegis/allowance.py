"""What a run may spend, and what it has: asked before every batch of rollouts, and before every model call.

Two hold a run to its budget. The purse refuses a model call once the cap is reached, whoever asks; it goes by
what was paid. The allowance decides what counts, by results in scheduled order, so that a resumed run ends
where it ended: a batch within which a cap is reached is used for nothing, whether a call of it was refused or
the last one just fitted. Its finished rollouts are stored, and serve a run that goes on with a larger budget.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from harnessx.errors import BudgetSpent, UserError
from harnessx.models.spend import Spend
from harnessx.runner.jobs import RolloutResult
from harnessx.runner.purse import TOTAL, Cap, Purse, spent, unpriced

J = TypeVar("J")

SLICE = 16
"""Jobs between two looks at a budget of rollouts, and what a budget of tokens or money may leave unused."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend, its final evaluation included; None is unlimited.

    Counted are the rollouts of the run's folder, each once, whether this process ran it or an earlier one, and
    the model calls they made. ``roles`` are caps of single accounts, besides the total. A run that may cost
    more than ``confirm_above`` dollars needs a yes: at the terminal, or ``confirm``.
    """

    rollouts: int | None = None
    tokens: int | None = None
    usd: float | None = None
    roles: Mapping[str, Cap] = field(default_factory=dict)
    confirm_above: float | None = None
    confirm: str = "ask"

    @property
    def caps(self) -> dict[str, Cap]:
        """By account, the total first."""
        return {TOTAL: Cap(self.tokens, self.usd), **self.roles}

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.rollouts is not None or any(cap.limited for cap in self.caps.values())


class Spending(Protocol):
    """What was spent so far, counted in scheduled order (`aegis.evaluator.Meter`)."""

    rollouts: int
    paid: dict[str, Spend]


class Allowance:
    """Holds a run to its budget. Decides by results in scheduled order, so a resumed run ends where it ended.

    ``waived`` while rounds are replayed that an earlier sitting has finished: a tighter budget takes none back. What
    follows them is held to it.
    ``refused`` is why the first batch was not run, or not used, '' while none was; what was refused stays so.
    """

    def __init__(self, budget: Budget, spent: Spending, purse: Purse | None = None) -> None:
        self._budget, self._spent, self._purse = budget, spent, purse
        self._waived = False
        self.refused = ""

    @property
    def waived(self) -> bool:
        """Whether nothing is refused."""
        return self._waived

    @waived.setter
    def waived(self, waived: bool) -> None:
        self._waived = waived
        if self._purse is not None:
            self._purse.waived = waived

    @property
    def exhausted(self) -> str:
        """Which limit is reached, or ''."""
        limit = self._budget.rollouts
        if limit is not None and self._spent.rollouts >= limit:
            return f"the budget of {limit} rollouts is spent"
        return self._paid_up()

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

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around the run of a batch: remembers why it was refused."""
        try:
            yield
        except BudgetSpent as reason:
            self.refused = self.refused or str(reason)
            raise

    def settle(self) -> None:
        """A batch was run and counted.

        Raises:
            BudgetSpent: a cap on tokens or money is reached with it, so it must not be used.
        """
        if not self.waived and (reason := self._paid_up()):
            raise BudgetSpent(reason)

    def priced(self, results: Iterable[RolloutResult]) -> None:
        """Refuse rollouts without a price where money is what limits the run.

        Raises:
            UserError: names the remedy.
        """
        for name, cap in self._budget.caps.items():
            for result in results if cap.usd is not None else ():
                spends = result.paid.values() if name == TOTAL else [result.paid.get(name, Spend())]
                if any(spend.usd is None for spend in spends):
                    assert cap.usd is not None
                    raise UserError(unpriced(name, cap.usd))

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

    def _paid_up(self) -> str:
        paid = self._spent.paid
        for name, cap in self._budget.caps.items():
            known = sum(paid.values(), Spend()) if name == TOTAL else paid.get(name, Spend())
            if reached := cap.reached(known):
                return spent(name, reached)
        return ""

    def _size(self, arms: int) -> int:
        """Jobs until the next look; of rollouts, none beyond the budget but for the last job's further arms."""
        limit = self._budget.rollouts
        if limit is None or self.waived:
            return SLICE
        left = limit - self._spent.rollouts
        return max(1, min(SLICE, left // max(1, arms)))
