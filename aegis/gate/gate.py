"""The deterministic gate: the checks in order, the first failure stops (paper §3, DESIGN §4)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from aegis.approvals import Desk
from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.approval import Approval, Risk
from aegis.gate.base import Check, Finding
from aegis.gate.bundle import bundle
from aegis.gate.canonical import Canonical
from aegis.gate.complete import ManifestComplete
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Trial
from aegis.gate.cost import CostMatched, Matched, Tolerance, arm_costs, bought, widened
from aegis.gate.evidence import EvidenceKept
from aegis.gate.leak import Corpus, LeakScan
from aegis.gate.permitted import Consent, Permitted
from aegis.gate.policy import StaticPolicy
from aegis.gate.routes import RouteRuling, confirm_routes
from aegis.gate.ruling import GateReport, Ruling
from aegis.gate.screen import Effect, Screening, screen
from aegis.gate.seesaw import seesaw
from aegis.gate.sieve import rebased, sieve
from aegis.gate.smoke import Smoke
from aegis.gate.traps import Canaries
from aegis.record import Decision
from aegis.routing import RoutedPool
from harnessx.errors import BudgetSpent
from harnessx.harness import HarnessConfig
from harnessx.tasks import Benchmark, HasSecrets
from harnessx.trajectory import Trajectory


class Gate:
    """Checks a ranking of candidates against the incumbent.

    Args:
        benchmark: asked for what it can tell its host: the secrets and milestones of tasks.
        consent: who permits what; None: the usual rules, and nobody to ask.
        origin: H_0, whose use of budgets bounds that of everything which grows from it; None: nothing does.
    """

    def __init__(
        self,
        config: GateConfig,
        evaluator: Evaluator,
        confirmation: Confirmation | None,
        benchmark: Benchmark | None = None,
        consent: Consent | None = None,
        origin: HarnessConfig | None = None,
    ) -> None:
        self.config, self._evaluator, self._confirmation = config, evaluator, confirmation
        self._benchmark, self._origin = benchmark, origin
        self._consent = consent or Consent(Desk(config.approval))
        secrets = benchmark.secrets if isinstance(benchmark, HasSecrets) else lambda task: ()
        self._corpus = Corpus(evaluator.tasks, secrets)

    async def check(
        self,
        ranking: Sequence[Candidate],
        baseline: Evaluation,
        incumbent: HarnessConfig,
        anchors: frozenset[str],
        trajectories: Sequence[Trajectory] = (),
    ) -> GateReport:
        """Every candidate's ruling. After a ship, the others are rebased on it and tested against it.

        ``anchors`` are what manifests may cite, ``trajectories`` what the stages have read.
        """
        self._corpus.observe(trajectories)
        config, rulings = self.config, dict[str, Ruling]()
        checks = [*self._static(anchors), Canaries(self._evaluator)]
        standing, screenings = await self._sift(ranking, baseline, checks[:-1], rulings, trajectories)
        if config.rule == "seesaw":
            standing = await sieve(standing, checks[-1:], rulings, screenings)
            incumbent = await self._seesaw(standing, baseline, incumbent, rulings, screenings)
        else:
            promising = self._promising(standing, rulings, screenings)
            chosen = await sieve(promising, checks[-1:], rulings, screenings, most=config.max_trials)
            self._late(promising, chosen, rulings, screenings)
            incumbent = await self._confirm(chosen, incumbent, rulings, screenings, checks)
            if config.bundle:
                incumbent = await self._together(baseline, incumbent, rulings, checks, trajectories)
        for ruling in rulings.values():
            wider = tuple(self._matched.widened(ruling.candidate, ruling.screening))
            said = self._consent.said(ruling.candidate)
            rulings[ruling.candidate.id] = replace(ruling, wider=wider, approval=said)
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

    async def admits(
        self, candidate: Candidate, baseline: Evaluation, anchors: frozenset[str], trajectories: Sequence[Trajectory]
    ) -> Finding | None:
        """Every check but the confirmation and the veto: a fork may lose where it will not serve.

        ``baseline`` is its parent on this gate's evolve tasks, ``trajectories`` those of the round's incumbent.
        """
        attempts = self.config.screen_attempts
        screenings = await screen(self._evaluator, baseline, [candidate], attempts, origin=self._origin)
        rulings: dict[str, Ruling] = {}
        checks = [
            *self._static(anchors),
            *self._replayed(screenings, veto=screenings[candidate.id].attempts + 1),
            EvidenceKept(screenings, self._evaluator, trajectories, attempts, self._benchmark),
            Canaries(self._evaluator),
        ]
        if not await sieve([candidate], checks, rulings, screenings):
            found = rulings[candidate.id]
            return Finding(found.check, found.reason, found.flagged)
        return await self._approve(candidate)

    async def confirm_routes(self, before: RoutedPool, after: RoutedPool) -> RouteRuling:
        """Whether a changed pool ships: as one candidate, at a level of its own (STATISTICS rule 13)."""
        if self.config.rule == "seesaw":
            return RouteRuling(before, after, Decision.SHIP, "in-sample, as the paper's rule has it: not confirmed")
        assert self._confirmation is not None
        ruling = await confirm_routes(self._confirmation, self._evaluator, before, after)
        wider = self._tolerance.exceeded(ruling.costs) if ruling.costs is not None else []
        if ruling.ships and wider and not self.config.allow_budget:
            reason = bought(wider, ruling.costs, "confirming pairs").reason
            ruling = replace(ruling, decision=Decision.REJECT, reason=reason)
        if ruling.ships:
            self._confirmation.ship()
        return ruling

    def instant(self, anchors: frozenset[str]) -> list[Check]:
        """The checks that a proposer may make itself, as often as it likes, before it hands a candidate over.

        They say nothing of what the stages may not know. The leak scan stays here: it knows the other splits, and
        who may ask it again and again could guess at them.
        """
        return [check for check in self._static(anchors) if not isinstance(check, LeakScan | Approval)]

    def forget(self) -> None:
        """Drop the evidence of undecided candidates: the world has changed under it."""
        if self._confirmation is not None:
            self._confirmation.forget()

    async def _sift(
        self,
        candidates: Sequence[Candidate],
        baseline: Evaluation,
        checks: Sequence[Check],
        rulings: dict[str, Ruling],
        trajectories: Sequence[Trajectory],
    ) -> tuple[list[Candidate], dict[str, Screening]]:
        """Everything that reads cached attempts: who is still standing, and what was seen."""
        attempts = self.config.screen_attempts
        standing = await sieve(candidates, checks, rulings, {})
        try:
            screenings = await screen(
                self._evaluator, baseline, standing, attempts, finalists=self.config.finalists, origin=self._origin
            )
        except BudgetSpent as spent:
            rulings |= {c.id: Ruling(c, Decision.NOT_TESTED, "effect", str(spent)) for c in standing}
            return [], {}
        standing = await self._screened(standing, screenings, rulings)
        kept = EvidenceKept(screenings, self._evaluator, trajectories, attempts, self._benchmark)
        return await sieve(standing, [kept], rulings, screenings), screenings

    async def _together(
        self,
        baseline: Evaluation,
        incumbent: HarnessConfig,
        rulings: dict[str, Ruling],
        checks: Sequence[Check],
        trajectories: Sequence[Trajectory],
    ) -> HarnessConfig:
        """The round's undecided edits as one more candidate; after a ship they were tested on another incumbent."""
        if any(r.decision is Decision.SHIP for r in rulings.values()):
            return incumbent
        undecided = [r for r in rulings.values() if r.decision is Decision.UNDECIDED]
        made = bundle([(r.candidate, r.e_value or 0.0) for r in undecided], incumbent)
        if made is None:
            return incumbent
        standing, screenings = await self._sift([made], baseline, checks, rulings, trajectories)
        return await self._confirm(standing, incumbent, rulings, screenings, checks)

    def _static(self, anchors: frozenset[str]) -> list[Check]:
        tasks = [task.id for task in self._evaluator.tasks[EVOLVE]]
        literals = [*tasks, *(task.prompt for task in self._evaluator.tasks[EVOLVE])]
        return [
            ManifestComplete(anchors, tasks),
            Canonical(),
            StaticPolicy(literals),
            LeakScan(self._corpus, self.config.demonstrations),
            Permitted(self._consent),
            Approval(self._consent, self._threshold, early=True),
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
        return await sieve(standing, self._replayed(screenings, self.config.veto), rulings, screenings)

    def _replayed(self, screenings: dict[str, Screening], veto: int) -> list[Check]:
        """The checks that read a screening."""
        return [
            Effect(screenings, veto=veto),
            CostMatched(screenings, self._matched, allow_budget=self.config.allow_budget),
        ]

    def _promising(
        self, standing: Sequence[Candidate], rulings: dict[str, Ruling], screenings: dict[str, Screening]
    ) -> list[Candidate]:
        """Those whose screened gain is worth a confirmation, the best first."""
        chosen = []
        for candidate in sorted(standing, key=lambda c: list(screenings).index(c.id)):
            seen = screenings[candidate.id]
            if seen.net >= self.config.promise:
                chosen.append(candidate)
            else:
                reason = f"screened {seen.net:+d} of {seen.attempts} attempts, too little for a confirmation"
                rulings[candidate.id] = Ruling(candidate, Decision.NOT_TESTED, "confirmation", reason, seen)
        return chosen

    def _late(
        self,
        standing: Sequence[Candidate],
        chosen: Sequence[Candidate],
        rulings: dict[str, Ruling],
        screenings: dict[str, Screening],
    ) -> None:
        """Those for whom there is no place among the trials of this round."""
        reason = f"screened behind the best {self.config.max_trials}"
        for late in standing:
            if late not in chosen and late.id not in rulings:
                rulings[late.id] = Ruling(late, Decision.NOT_TESTED, "confirmation", reason, screenings[late.id])

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
        waiting = standing
        while waiting:
            trials: list[Trial] = []
            for candidate in waiting:
                refused = self._confirmation.refuses(candidate)
                if refused:
                    rulings[candidate.id] = Ruling(
                        candidate, Decision.NOT_TESTED, "confirmation", refused, screenings[candidate.id]
                    )
                else:
                    trials.append(self._confirmation.open(candidate))
            shipped = await self._run(incumbent, trials, rulings, screenings)
            if shipped is None:
                break
            self._confirmation.ship()
            incumbent = shipped.candidate.harness
            rulings[shipped.candidate.id] = rulings.pop(shipped.candidate.id)  # rulings keep the order of ships
            waiting = await sieve(rebased(trials, incumbent, rulings, screenings), checks, rulings, screenings)
        return incumbent

    async def _run(
        self,
        incumbent: HarnessConfig,
        trials: list[Trial],
        rulings: dict[str, Ruling],
        screenings: dict[str, Screening],
    ) -> Trial | None:
        """The first trial that ships and may; one that may not is ruled out, and the others go on as they stand."""
        assert self._confirmation is not None
        while trials:
            shipped = await self._confirmation.run(incumbent, trials)
            for trial in trials:
                self._confirmation.suspend(trial)
                rulings[trial.candidate.id] = self._ruling(trial, screenings)
            if shipped is None:
                return None
            finding = self._bought(shipped) or await self._approve(shipped.candidate)
            if finding is None:
                return shipped
            ruling = rulings[shipped.candidate.id]
            rulings[ruling.candidate.id] = replace(
                ruling, decision=Decision.REJECT, check=finding.check, reason=finding.reason
            )
            trials.remove(shipped)
        return None

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

    @property
    def _tolerance(self) -> Tolerance:
        return Tolerance(self.config.max_token_ratio, self.config.max_call_ratio)

    @property
    def _matched(self) -> Matched:
        return Matched(self._tolerance, self.config.max_total_ratio)

    def _bought(self, trial: Trial) -> Finding | None:
        """Whether the pairs that confirm it cost more than is matched."""
        costs = arm_costs(trial.results)
        wider = widened(trial.candidate, costs, self._tolerance)
        return bought(wider, costs, "confirming pairs") if wider and not self.config.allow_budget else None

    async def _approve(self, candidate: Candidate) -> Finding | None:
        return await Approval(self._consent, self._threshold)(candidate)

    @property
    def _threshold(self) -> Risk:
        return Risk[self.config.risk_threshold.upper()]

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
