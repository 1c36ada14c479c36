"""How much error each decision of a run may spend, so that the run as a whole keeps its promise.

A gate that gives every decision α = .05 ships something false in 82–87 % of runs of 60 decisions. A
ledger gives each decision its own level α_t before its first pair is seen; a decision may ship once
its e-value reaches 1/α_t. Bundles and restarts are decisions too, and so are the forks and routes of a
pool. Seeds are separate families; rollback and ablation have budgets of their own (STATISTICS rule 5).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from harnessx.errors import UserError


class LedgerSpent(UserError):
    """Every planned decision has been taken."""


class Ledger(Protocol):
    """Hands out levels in the order in which decisions are opened."""

    @property
    def guarantee(self) -> str:
        """What holds for the run, in one sentence for the report."""
        ...

    @property
    def remaining(self) -> int:
        """How many decisions may still be opened."""
        ...

    def open(self) -> float:
        """The level α_t of the next decision, in (0, 1).

        Raises:
            LedgerSpent: no decision is left.
        """
        ...

    def ship(self) -> None:
        """Record that one of the opened decisions ended in a ship."""
        ...


class _Planned(ABC):
    """A level for each of ``planned`` decisions; ``alpha`` is the run's."""

    def __init__(self, alpha: float, planned: int) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"an error level lies in (0, 1), not {alpha}")
        if planned < 1:
            raise ValueError(f"a ledger plans at least one decision, not {planned}")
        self.alpha, self.planned = alpha, planned
        self.opened = self.shipped = 0

    @property
    def remaining(self) -> int:
        """How many decisions may still be opened."""
        return self.planned - self.opened

    def open(self) -> float:
        """The level of the next decision; see `Ledger.open`."""
        if not self.remaining:
            raise LedgerSpent(f"all {self.planned} planned decisions are taken; plan more in a new run")
        self.opened += 1
        return self._level()

    def ship(self) -> None:
        """Record a ship; see `Ledger.ship`."""
        if self.shipped == self.opened:
            raise ValueError(f"{self.opened} decisions were opened and all have shipped")
        self.shipped += 1

    @abstractmethod
    def _level(self) -> float: ...


class Spending(_Planned):
    """α_t = α/N: P(the run ever ships something false) ≤ α, whatever else is true (Bonferroni)."""

    def _level(self) -> float:
        return self.alpha / self.planned

    @property
    def guarantee(self) -> str:
        """What holds for the run."""
        return f"P(any false ship in the run) ≤ {self.alpha:g}, over {self.planned} planned decisions"


class Elond(_Planned):
    """e-LOND: α_t = (α/N)(1 + ships so far): false discovery *rate* ≤ α, under any dependence.

    Weaker than `Spending` once something real ships: with five real ships a run at α = .05 ships
    something false in 7.5–11 % of runs. If nothing is real, the two promise the same.

    Source: Xu & Ramdas, "Online multiple testing with e-values" (2024), with uniform γ.
    """

    def _level(self) -> float:
        return self.alpha / self.planned * (1 + self.shipped)

    @property
    def guarantee(self) -> str:
        """What holds for the run."""
        return (
            f"expected share of false ships ≤ {self.alpha:g} (FDR), over {self.planned} planned decisions; "
            "not a bound on any false ship"
        )
