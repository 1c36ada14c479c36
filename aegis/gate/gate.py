"""The deterministic gate: the checks in order, the first failure stops (paper §3, DESIGN §4)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.approval import Approval, Risk
from aegis.gate.base import Check, Finding
from aegis.gate.bundle import bundle
from aegis.gate.canonical import Canonical
from aegis.gate.complete import ManifestComplete
from aegis.gate.confirmation import Confirmation, Trial
from aegis.gate.policy import StaticPolicy
from aegis.gate.routes import RouteRuling, confirm_routes
from aegis.gate.screen import CostMatched, Effect, Screening, screen
from aegis.gate.seesaw import seesaw
from aegis.gate.smoke import Smoke
from aegis.record import ArmCalls, Decision
from aegis.routing import RoutedPool
from aegis.statistics import ByTask
from aegis.statistics.power import PlannedTest
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
    cluster_alpha: float = 0.05
    """Chance that a candidate harmless to every cluster is rejected as harmful to one; 0 watches none."""
    drift_pairs: int = 206
    """Fresh pairs a round, current against best confirmed harness, where they differ; 0 watches no drift."""
    drift_rounds: int = 15
    """Rounds over which the alarms of drift and canary each keep their 5 %."""
    drift_check: int = 1000
    """Pairs of one paired check after an alarm, at most."""
    drift_cap: int = 8000
    """Pairs that drift may draw in the whole run, checks included."""
    canary: int = 16
    """A/A pairs of the incumbent a round, which watch the provider; 0, or a deterministic model: none."""
    max_trials: int = 3
    """Candidates that may be confirmed at once; the best screened go first."""
    bundle: bool = False
    """Test a round's undecided edits once more, together."""
    smoke_s: float = 30.0
    """Seconds that the smoke test of a candidate may take."""
    screen_attempts: int = 1
    veto: int = 1
    """A net loss of this many cached attempts vetoes a candidate."""
    max_token_ratio: float = 1.5
    allow_budget: bool = False
    approval: str = "auto"
    risk_threshold: str = "code"
    calibration: int = 128
    """Pairs of copies of H_0 that are run before round 1; 0 leaves the calibration out."""
    power: float | None = None
    effect: float = 0.1
    """A run is refused whose settings do not show a gain of ``effect`` with power ``power``."""

    def test(self, decisions: int) -> PlannedTest:
        """One confirmation as a run of ``decisions`` plans it."""
        return PlannedTest(self.alpha / decisions, self.cap, self.mei, self.slack)


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
        standing, screenings = await self._sift(ranking, baseline, checks, rulings)
        if self.config.rule == "seesaw":
            incumbent = await self._seesaw(standing, baseline, incumbent, rulings, screenings)
        else:
            standing.sort(key=lambda c: -screenings[c.id].net)
            incumbent = await self._confirm(standing, incumbent, rulings, screenings, checks)
            if self.config.bundle:
                incumbent = await self._together(baseline, incumbent, rulings, checks)
        shipped = [r for r in rulings.values() if r.decision is Decision.SHIP]
        places = {c.id: place for place, c in enumerate(ranking)}
        others = [r for r in rulings.values() if r.decision is not Decision.SHIP]
        others.sort(key=lambda r: places.get(r.candidate.id, len(places)))
        return GateReport((*shipped, *others), incumbent)

    def within(self, evaluator: Evaluator) -> Gate:
        """The same gate on the tasks of ``evaluator``, under the same ledger (paper §3: scoped to routed tasks).

        Its evolve tasks screen, its validation tasks confirm: a ship claims a gain in the mean over those.
        """
        scoped = copy.copy(self)
        scoped._evaluator = evaluator
        scoped._confirmation = self._confirmation.within(evaluator) if self._confirmation is not None else None
        return scoped

    def trying(self, trials: int) -> Gate:
        """The same gate with at most ``trials`` candidates confirmed a round."""
        narrowed = copy.copy(self)
        narrowed.config = replace(self.config, max_trials=trials)
        return narrowed

    async def admits(self, candidate: Candidate, baseline: Evaluation, anchors: frozenset[str]) -> Finding | None:
        """Every check but the confirmation and the veto: a fork may lose where it will not serve.

        ``baseline`` is its parent on this gate's evolve tasks.
        """
        screenings = await screen(self._evaluator, baseline, [candidate], self.config.screen_attempts)
        rulings: dict[str, Ruling] = {}
        checks = [*self._static(anchors), *self._replayed(screenings, veto=screenings[candidate.id].attempts + 1)]
        if not await _sieve([candidate], checks, rulings, screenings):
            return Finding(rulings[candidate.id].check, rulings[candidate.id].reason)
        return await self._approve(candidate)

    async def confirm_routes(self, before: RoutedPool, after: RoutedPool) -> RouteRuling:
        """Whether a changed pool ships: as one candidate, at a level of its own (STATISTICS rule 13)."""
        if self.config.rule == "seesaw":
            return RouteRuling(before, after, Decision.SHIP, "in-sample, as the paper's rule has it: not confirmed")
        assert self._confirmation is not None
        return await confirm_routes(self._confirmation, self._evaluator, before, after)

    async def _sift(
        self,
        candidates: Sequence[Candidate],
        baseline: Evaluation,
        checks: Sequence[Check],
        rulings: dict[str, Ruling],
    ) -> tuple[list[Candidate], dict[str, Screening]]:
        """Everything before the confirmation: who is still standing, and what was seen on cached attempts."""
        standing = await _sieve(candidates, checks, rulings, {})
        screenings = await screen(self._evaluator, baseline, standing, self.config.screen_attempts)
        return await self._screened(standing, screenings, rulings), screenings

    async def _together(
        self, baseline: Evaluation, incumbent: HarnessConfig, rulings: dict[str, Ruling], checks: Sequence[Check]
    ) -> HarnessConfig:
        """The round's undecided edits as one more candidate; after a ship they were tested on another incumbent."""
        if any(r.decision is Decision.SHIP for r in rulings.values()):
            return incumbent
        undecided = [r for r in rulings.values() if r.decision is Decision.UNDECIDED]
        made = bundle([(r.candidate, r.e_value or 0.0) for r in undecided], incumbent)
        if made is None:
            return incumbent
        standing, screenings = await self._sift([made], baseline, checks, rulings)
        return await self._confirm(standing, incumbent, rulings, screenings, checks)

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
        for candidate in standing:
            seen = screenings[candidate.id]
            if not seen.attempts:
                reason = f"none of its screened attempts could be run: {seen.error}"
                rulings[candidate.id] = Ruling(candidate, Decision.NOT_TESTED, "effect", reason, seen)
        standing = [c for c in standing if screenings[c.id].attempts]
        return await _sieve(standing, self._replayed(screenings, self.config.veto), rulings, screenings)

    def _replayed(self, screenings: dict[str, Screening], veto: int) -> list[Check]:
        """The checks that read a screening."""
        config = self.config
        return [
            Effect(screenings, veto=veto),
            CostMatched(screenings, max_token_ratio=config.max_token_ratio, allow_budget=config.allow_budget),
        ]

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
                self._confirmation.suspend(trial)
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
            measured = await self._evaluator.evaluate(candidate.harness, EVOLVE, attempts)
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
