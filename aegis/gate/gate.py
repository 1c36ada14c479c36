"""The deterministic gate: the checks in order, the first failure stops (paper §3, DESIGN §4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aegis.allowance import BudgetSpent
from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.approval import Approval, Risk
from aegis.gate.base import Check, Finding
from aegis.gate.canonical import Canonical
from aegis.gate.complete import ManifestComplete
from aegis.gate.confirmation import Confirmation, Trial
from aegis.gate.policy import StaticPolicy
from aegis.gate.screen import CostMatched, Effect, Screening, screen
from aegis.gate.seesaw import seesaw
from aegis.gate.smoke import Smoke
from aegis.record import ArmCalls, Decision
from aegis.statistics import ByTask
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig


@dataclass(frozen=True, slots=True)
class GateConfig:
    """The gate's settings (config group ``gate``)."""

    rule: str = "paired"
    alpha: float = 0.05
    ledger: str = "spending"
    cap: int = 480
    batch: int = 32
    run_cap: int = 4000
    mei: float = 0.03
    slack: float = 0.3
    max_trials: int = 3
    """Candidates that may be confirmed at once; the best screened go first."""
    smoke_s: float = 30.0
    """Seconds that the smoke test of a candidate may take."""
    screen_attempts: int = 1
    veto: int = 1
    """A net loss of this many cached attempts vetoes a candidate."""
    max_token_ratio: float = 1.5
    allow_budget: bool = False
    approval: str = "auto"
    risk_threshold: str = "code"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate says of one candidate; ``differences`` are its pairs', candidate minus incumbent, by task."""

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


@dataclass(frozen=True, slots=True)
class GateReport:
    """One round at the gate: a ruling per candidate, and the harness that leaves it."""

    rulings: tuple[Ruling, ...]
    incumbent: HarnessConfig

    @property
    def shipped(self) -> tuple[Ruling, ...]:
        """Rulings that shipped, in order of shipping."""
        return tuple(r for r in self.rulings if r.decision is Decision.SHIP)


class Gate:
    """Checks a ranking of candidates against the incumbent.

    Args:
        anchors, literals: what manifests may cite, and what evolved source may not contain.
    """

    def __init__(self, config: GateConfig, evaluator: Evaluator, confirmation: Confirmation | None) -> None:
        self.config, self._evaluator, self._confirmation = config, evaluator, confirmation

    async def check(
        self,
        ranking: Sequence[Candidate],
        baseline: Evaluation,
        incumbent: HarnessConfig,
        anchors: frozenset[str],
    ) -> GateReport:
        """Every candidate's ruling. After a ship, the others are rebased on it and tested against it."""
        rulings: dict[str, Ruling] = {}
        checks = self._static(anchors)
        standing = await _sieve(ranking, checks, rulings, {})
        try:
            screenings = await screen(self._evaluator, baseline, standing, self.config.screen_attempts)
        except BudgetSpent as spent:
            rulings |= {c.id: Ruling(c, Decision.NOT_TESTED, "effect", str(spent)) for c in standing}
            standing, screenings = [], {}
        standing = await self._screened(standing, screenings, rulings)
        if self.config.rule == "seesaw":
            incumbent = await self._seesaw(standing, baseline, incumbent, rulings, screenings)
        else:
            standing.sort(key=lambda c: -screenings[c.id].net)
            incumbent = await self._confirm(standing, incumbent, rulings, screenings, checks)
        shipped = [r for r in rulings.values() if r.decision is Decision.SHIP]
        others = [rulings[c.id] for c in ranking if rulings[c.id].decision is not Decision.SHIP]
        return GateReport((*shipped, *others), incumbent)

    def _static(self, anchors: frozenset[str]) -> list[Check]:
        tasks = [task.id for task in self._evaluator.tasks[EVOLVE]]
        literals = [*tasks, *(task.prompt for task in self._evaluator.tasks[EVOLVE])]
        return [
            ManifestComplete(anchors, tasks),
            Canonical(),
            StaticPolicy(literals),
            Smoke(self._evaluator.pool.isolation, self.config.smoke_s),
        ]

    async def _screened(
        self, standing: list[Candidate], screenings: dict[str, Screening], rulings: dict[str, Ruling]
    ) -> list[Candidate]:
        config = self.config
        for candidate in standing:
            seen = screenings[candidate.id]
            if not seen.attempts:
                reason = f"none of its screened attempts could be run: {seen.error}"
                rulings[candidate.id] = Ruling(candidate, Decision.NOT_TESTED, "effect", reason, seen)
        standing = [c for c in standing if screenings[c.id].attempts]
        checks: list[Check] = [
            Effect(screenings, veto=config.veto),
            CostMatched(screenings, max_token_ratio=config.max_token_ratio, allow_budget=config.allow_budget),
        ]
        return await _sieve(standing, checks, rulings, screenings)

    async def _confirm(
        self,
        standing: list[Candidate],
        incumbent: HarnessConfig,
        rulings: dict[str, Ruling],
        screenings: dict[str, Screening],
        checks: Sequence[Check],
    ) -> HarnessConfig:
        """Lockstep trials; a ship changes the incumbent and the rest start over against it, E = 1.

        A rebased candidate is another harness, so it passes ``checks`` again (STATISTICS rule 7).
        """
        assert self._confirmation is not None
        for late in standing[self.config.max_trials :]:
            reason = f"screened behind the best {self.config.max_trials}"
            rulings[late.id] = Ruling(late, Decision.NOT_TESTED, "confirmation", reason, screenings[late.id])
        waiting = standing[: self.config.max_trials]
        while waiting:
            trials: list[Trial] = []
            for candidate in waiting:
                exhausted = self._confirmation.exhausted
                if exhausted:
                    rulings[candidate.id] = Ruling(
                        candidate, Decision.NOT_TESTED, "confirmation", exhausted, screenings[candidate.id]
                    )
                else:
                    trials.append(self._confirmation.open(candidate))
            shipped = await self._confirmation.run(incumbent, trials) if trials else None
            for trial in trials:
                rulings[trial.candidate.id] = self._ruling(trial, screenings)
            if shipped is None:
                break
            finding = await self._approve(shipped.candidate)
            if finding is not None:
                rulings[shipped.candidate.id] = replace(
                    rulings[shipped.candidate.id],
                    decision=Decision.REJECT,
                    check=finding.check,
                    reason=finding.reason,
                )
            else:
                incumbent = shipped.candidate.harness
                rulings[shipped.candidate.id] = rulings.pop(shipped.candidate.id)  # rulings keep the order of ships
            waiting = await _sieve(_rebased(trials, incumbent, rulings, screenings), checks, rulings, screenings)
        return incumbent

    def _ruling(self, trial: Trial, screenings: dict[str, Screening]) -> Ruling:
        test = trial.test
        return Ruling(
            trial.candidate,
            trial.decision,
            "confirmation",
            test.reason or (self._confirmation.exhausted if self._confirmation is not None else ""),
            screenings[trial.candidate.id],
            test.e_value,
            test.alpha,
            trial.pairs,
            trial.diverged,
            trial.differences,
            trial.calls,
        )

    async def _approve(self, candidate: Candidate) -> Finding | None:
        return await Approval(self.config.approval, Risk[self.config.risk_threshold.upper()])(candidate)

    async def _seesaw(
        self,
        standing: list[Candidate],
        baseline: Evaluation,
        incumbent: HarnessConfig,
        rulings: dict[str, Ruling],
        screenings: dict[str, Screening],
    ) -> HarnessConfig:
        """The first candidate in the ranking that breaks nothing ships; the others wait."""
        attempts = len(baseline.results) // max(1, len(self._evaluator.tasks[EVOLVE]))
        shipped = False
        for candidate in standing:
            seen = screenings[candidate.id]
            if shipped:
                reason = "an earlier candidate shipped"
                rulings[candidate.id] = Ruling(candidate, Decision.NOT_TESTED, "seesaw", reason, seen)
                continue
            try:
                measured = await self._evaluator.evaluate(candidate.harness, EVOLVE, attempts)
            except BudgetSpent as spent:
                rulings[candidate.id] = Ruling(candidate, Decision.NOT_TESTED, "seesaw", str(spent), seen)
                continue
            finding = seesaw(baseline, measured) or await self._approve(candidate)
            if finding is None:
                shipped, incumbent = True, candidate.harness
                reason = "no solved task regresses"
                rulings[candidate.id] = Ruling(candidate, Decision.SHIP, "seesaw", reason, seen)
            else:
                rulings[candidate.id] = Ruling(candidate, Decision.REJECT, finding.check, finding.reason, seen)
        return incumbent


async def _sieve(
    candidates: Sequence[Candidate],
    checks: Sequence[Check],
    rulings: dict[str, Ruling],
    screenings: dict[str, Screening],
) -> list[Candidate]:
    """The candidates that pass every check; the first finding rules on the others."""
    passed = []
    for candidate in candidates:
        for check in checks:
            finding = await check(candidate)
            if finding is not None:
                seen = screenings.get(candidate.id)
                rulings[candidate.id] = Ruling(candidate, Decision.REJECT, finding.check, finding.reason, seen)
                break
        else:
            passed.append(candidate)
    return passed


def _rebased(
    trials: Sequence[Trial],
    incumbent: HarnessConfig,
    rulings: dict[str, Ruling],
    screenings: dict[str, Screening],
) -> list[Candidate]:
    """The undecided trials' candidates on the new incumbent; what does not apply there is rejected."""
    waiting = []
    for trial in trials:
        if trial.test.verdict is not None:
            continue
        candidate = trial.candidate
        try:
            moved = candidate.rebased(incumbent)
        except HarnessInvalid as error:
            reason = f"does not apply to the new incumbent: {error}"
            rulings[candidate.id] = Ruling(candidate, Decision.REJECT, "rebase", reason, screenings[candidate.id])
            continue
        if moved.harness == incumbent:
            reason = "changes nothing on the new incumbent"
            rulings[candidate.id] = Ruling(moved, Decision.REJECT, "rebase", reason, screenings[candidate.id])
            continue
        waiting.append(moved)
    return waiting
