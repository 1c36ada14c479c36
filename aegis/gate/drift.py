"""Drift: whether the harness at work has slid below the best one that was ever confirmed (STATISTICS rule 9).

A harness is *confirmed* when a paired confirmation shipped it over the best confirmed one; H_0 is where
that begins. Under ``gate=paired`` the incumbent is the best confirmed harness and nothing is drawn. After
a ship that was not confirmed so (``gate=seesaw``, or an edit that was forced) each round draws fresh pairs,
current against best:

1. `DriftDetector` alarms when the current harness is worse, whenever the slide began: at most 5 % of runs
   in which it never is (the first alarm; each alarm is followed by a new detector, with its own 5 %).
2. An alarm alone moves nothing. A fresh `PairedTest` of best against current, with a budget of its own
   (``alpha`` spread over the planned rounds, apart from the gate's ledger), confirms and rolls back, or not.
3. The same pairs can prove the current harness better; it then is the best confirmed one. This e-process
   goes on from round to round as long as both harnesses stay the same, and has a budget like the other.

What is watched is one harness, or a pool of variants as one: a pool is best confirmed when each of its changes was,
and two pools are the same here if they play every validation task with the same harness.

So in a run at most ``alpha`` ever rolls back a harness that is no worse, and at most ``alpha`` ever
confirms one that is no better.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis.gate.confirmation import Draws
from aegis.gate.pairs import Arena, outcome, redrawn, run_pairs, worst_case
from aegis.record import Decision, DriftAction
from aegis.routing import System, changed
from aegis.statistics import MEI, ByTask, DriftDetector, PairedTest, Spending, Superiority, Verdict


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """What drift may cost.

    ``pairs`` a round, ``check`` for the paired check after an alarm, ``cap`` in the whole run; ``rounds``
    are planned for the alarm's and the checks' guarantees; ``batch`` pairs are run between barriers.
    """

    pairs: int
    rounds: int
    check: int
    cap: int
    batch: int = 32
    alpha: float = 0.05
    mei: float = MEI
    order: int | None = None
    """Seed of the arms' random order, see `run_pairs`."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One round's watch: what was seen, and the ``harness`` that leaves it."""

    action: DriftAction
    reason: str
    harness: System
    current: System
    best: System
    """The best confirmed harness that the current one was held against."""
    pairs: int
    check_pairs: int
    e_value: float
    alarmed: bool
    differences: ByTask = field(default_factory=dict)
    """Current minus best on this round's pairs, by task; those of a check are not among them."""


class _Standing:
    """The evidence that ``current`` is better than ``best``, for as long as both stay."""

    def __init__(self, current: System, best: System, level: float | None) -> None:
        self.current, self.best, self._level = current, best, level
        self._process = Superiority()
        self.pairs = 0

    def update(self, best: bool | None, current: bool | None) -> None:
        self.pairs += 1
        self._process.update(worst_case(best, current))

    @property
    def proved(self) -> bool:
        return self._level is not None and self._process.e_value >= 1 / self._level

    @property
    def reason(self) -> str:
        return f"better than the best confirmed harness: E = {self._process.e_value:.4g} after {self.pairs} pairs"


class DriftWatch:
    """Watches one run. Needs no folder: an arena to run pairs in, the run's draws, and where it starts.

    Args:
        arena: runs both arms of a pair.
        draws: the run's stream of fresh attempts; what is taken from it is never used again.
        best: the harness that counts as confirmed at the start.
    """

    def __init__(self, arena: Arena, draws: Draws, best: System, config: DriftConfig) -> None:
        self.best, self.config = best, config
        self._arena, self._draws = arena, draws
        self._detector, self._started = DriftDetector(config.rounds), 0
        self._checks = Spending(config.alpha, config.rounds)
        self._promotions = Spending(config.alpha, config.rounds)
        self._standing: _Standing | None = None
        self._drawn = 0
        self._round_pairs = self._check_pairs = 0
        self._differences: dict[str, list[float]] = {}

    def confirm(self, parent: System, harness: System) -> None:
        """``harness`` was confirmed over ``parent``: it is the best one if ``parent`` was."""
        if self._same(parent, self.best):
            self.best = harness

    def restart(self) -> None:
        """Forget all evidence gathered so far: it no longer speaks of the world as it is."""
        self._renew()
        self._standing = None

    async def check(self, current: System) -> DriftReport | None:
        """Watch ``current`` for one round. None where there is nothing to watch; `UNWATCHED` where no pair is left."""
        if self._same(current, self.best):
            return None
        if not self._left(self.config.pairs):
            spent = f"the run's cap of {self.config.cap} pairs for drift is reached"
            e_value = self._detector.e_value
            return DriftReport(DriftAction.UNWATCHED, spent, current, current, self.best, 0, 0, e_value, False)
        self._round_pairs, self._check_pairs, self._differences = 0, 0, {}
        if not self._stands(current):
            level = self._promotions.open() if self._promotions.remaining else None
            self._standing = _Standing(current, self.best, level)
        if self._started < self.config.rounds:
            self._detector.start_round()
            self._started += 1
        assert self._standing is not None
        await self._watch(self._standing)
        e_value, alarmed = self._detector.e_value, self._detector.alarmed
        action, reason = await self._settle(self._standing)
        best = self.best
        if action is DriftAction.CONFIRMED:
            self.best = current
        harness = best if action is DriftAction.ROLLED_BACK else current
        pairs, checked, seen = self._round_pairs, self._check_pairs, self._differences
        return DriftReport(action, reason, harness, current, best, pairs, checked, e_value, alarmed, seen)

    async def _watch(self, standing: _Standing) -> None:
        """This round's pairs, until the alarm, or until the current harness proves better."""
        drawn = 0
        while size := min(self.config.batch, self._left(self.config.pairs - drawn)):
            drawn += size
            for task, best, current in await self._pairs(standing, size):
                self._round_pairs += 1
                if best is not None and current is not None:
                    self._differences.setdefault(task, []).append(float(current) - float(best))
                # What is missing speaks for the current harness: it takes more to raise the alarm.
                self._detector.update(-worst_case(current, best))
                standing.update(best, current)
                if self._detector.alarmed or standing.proved:
                    return

    async def _settle(self, standing: _Standing) -> tuple[DriftAction, str]:
        """What this round's pairs, and a check where they raised the alarm, come to."""
        if standing.proved:
            self._renew()
            return DriftAction.CONFIRMED, standing.reason
        if not self._detector.alarmed:
            return DriftAction.WATCHED, f"E = {self._detector.e_value:.4g} of 20 after {standing.pairs} pairs"
        self._renew()
        if not self._checks.remaining:
            return DriftAction.KEPT, "alarm, but every planned check is spent"
        test = PairedTest(self._checks.open(), cap=self.config.check, mei=self.config.mei)
        await self._confront(standing, test)
        if standing.proved:
            return DriftAction.CONFIRMED, standing.reason
        if test.verdict is Verdict.SHIP:
            return DriftAction.ROLLED_BACK, f"the best confirmed harness is better: {test.reason}"
        ended = test.reason or f"{self._check_pairs} pairs are too few, and no more may be drawn"
        return DriftAction.KEPT, f"alarm, but the check does not confirm it: {ended}"

    async def _confront(self, standing: _Standing, test: PairedTest) -> None:
        drawn = 0
        while size := min(self.config.batch, self._left(2 * self.config.check - drawn)):
            drawn += size
            for _, best, current in await self._pairs(standing, size):
                self._check_pairs += 1
                test.update(current, best)
                standing.update(best, current)
                if standing.proved or test.verdict is not None:
                    return

    async def _pairs(self, standing: _Standing, size: int) -> list[tuple[str, bool | None, bool | None]]:
        """Draw and run: (task, best, current) of every pair that did not break before the arms differed."""
        self._drawn += size
        drawn = self._draws.take(size)
        results = await run_pairs(self._arena, drawn, (standing.best, standing.current), self.config.order)
        return [(best.task_id, outcome(best), outcome(current)) for best, current in results
                if not redrawn(best, current)]  # fmt: skip

    def _same(self, one: System, other: System) -> bool:
        return not any(map(changed(one, other), self._draws.tasks))

    def _stands(self, current: System) -> bool:
        """Whether the evidence that is there speaks of ``current`` and the best one."""
        known = self._standing
        return known is not None and self._same(known.current, current) and self._same(known.best, self.best)

    def _left(self, wanted: int) -> int:
        """How many of ``wanted`` pairs the run's cap still allows."""
        return max(0, min(wanted, self.config.cap - self._drawn))

    def _renew(self) -> None:
        self._detector, self._started = DriftDetector(self.config.rounds), 0


def confirmed(decision: Decision, e_value: float | None, alpha: float | None) -> bool:
    """Whether a ship rests on the evidence of a paired confirmation."""
    return decision is Decision.SHIP and e_value is not None and alpha is not None and e_value >= 1 / alpha
