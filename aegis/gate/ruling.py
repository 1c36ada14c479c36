"""What the gate says: a ruling per candidate, and the harness that leaves a round."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aegis.candidate import Candidate
from aegis.gate.screen import Screening
from aegis.record import ArmCalls, Decision
from aegis.statistics import ByTask
from harnessx.harness import HarnessConfig


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate says of one candidate; ``differences`` are its pairs', candidate minus incumbent, by task.

    ``flagged``: it was caught cheating.
    """

    candidate: Candidate
    decision: Decision
    check: str
    reason: str
    screening: Screening | None = None
    e_value: float | None = None
    alpha: float | None = None
    pairs: int = 0
    diverged: int = 0
    differences: ByTask = field(default_factory=dict)
    calls: ArmCalls = ArmCalls()  # noqa: RUF009
    flagged: bool = False
    wider: tuple[str, ...] = ()
    approval: str = ""
    """What a person said of it, where one was asked."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """One round at the gate: a ruling per candidate, and the harness that leaves it."""

    rulings: tuple[Ruling, ...]
    incumbent: HarnessConfig

    def discarding(self, reason: str) -> GateReport:
        """The report without the evidence of what is undecided: nothing may go on from it."""
        rulings = [
            replace(r, e_value=None, reason=f"{r.reason}; its evidence is discarded: {reason}")
            if r.decision is Decision.UNDECIDED
            else r
            for r in self.rulings
        ]
        return replace(self, rulings=tuple(rulings))

    @property
    def shipped(self) -> tuple[Ruling, ...]:
        """Rulings that shipped, in order of shipping."""
        return tuple(r for r in self.rulings if r.decision is Decision.SHIP)
