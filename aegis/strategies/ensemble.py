"""Variant isolation (paper §3): a pool of up to K variants, a router, and a gate scoped to who is routed where.

Each round works on one variant: the stages read its tasks, the gate screens and confirms on its tasks. A candidate
that helps some clusters and harms others is not lost: it forks, and the clusters it helps go to the fork.

What the run's bound is made of. Every confirmation opens the next level of the one ledger, whatever it is about:

* a scoped ship: the variant's successor against the variant, drawn uniformly from the validation tasks of the
  clusters routed to it; the claim is about the mean over those tasks;
* a fork: cluster by cluster, the fork against who serves the cluster, on fresh draws of it; the claim is about the
  mean over that cluster's tasks, and a cluster that is not confirmed stays where it is;
* a fork into a full pool: the pool with the fork and without its weakest variant against the pool as it is, on the
  tasks that move; the claim is about the mean over those;
* other routes after a refit: likewise.

Where nothing moves, both sides are the same harness on the same attempt, so each claim is that the pool gains in the
mean over all validation tasks. With ``ledger=spending`` the union over all of them gives P(any false ship in the run)
≤ α, as with one incumbent. Routes are fitted on evolve attempts alone and change through the gate only. Every cluster
has evolve and validation tasks; clusters that first appear in deployment go to the variant with the best overall rate.
Drift is watched for the pool as one, against the pool whose every change was confirmed. A round whose canary alarms
keeps what its scoped gate shipped and forks nothing: the attempts that promise a fork are of another provider.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aegis.evaluator import EVOLVE, VALIDATION, Evaluation
from aegis.gate.drift import confirmed
from aegis.gate.routes import RouteRuling
from aegis.gate.ruling import GateReport, Ruling
from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.record import ArmCalls, Calls, Decision
from aegis.round import Engine, Round, anchors, run_round
from aegis.routing import RoutedPool
from aegis.settings import whole
from aegis.strategies.base import Result, Schedule
from aegis.strategies.router import Fit
from harnessx.errors import BudgetSpent, HarnessInvalid, UserError
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task

FORKABLE = ("screen", "confirmation", "seesaw")
"""Checks that refuse a candidate for what it does to all tasks together; a fork answers to some of them."""


@dataclass(frozen=True)
class Ensemble:
    """At most ``variants`` harnesses, each for the clusters it is best on.

    Raises:
        UserError: ``variants`` is no whole number of at least 1.
    """

    variants: int = 4
    name = "ensemble"

    def __post_init__(self) -> None:
        whole("strategy.variants", self.variants)

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Refuse clusters that cannot be fitted or cannot be confirmed.

        Raises:
            UserError: one cluster only, or one without evolve or without validation tasks.
        """
        evolve, validation = ({task.cluster for task in tasks[split]} for split in (EVOLVE, VALIDATION))
        if len(evolve) < 2:
            raise UserError("strategy=ensemble: all evolve tasks are of one cluster; use strategy=global_")
        for split, missing in ((VALIDATION, evolve - validation), (EVOLVE, validation - evolve)):
            if missing:
                why = "confirmed" if split == VALIDATION else "fitted"
                raise UserError(
                    f"strategy=ensemble: no {split} task is of cluster {min(missing)!r}, so its route cannot be "
                    f"{why}; set benchmark.splits.{split} higher than {len(tasks[split])}"
                )

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Evolve a pool that begins as ``baseline`` alone; the peak is the pool with the best evolve rate."""
        fit = Fit.over(engine.evaluator.tasks[EVOLVE])
        isolation = _Isolation(engine, self.variants, fit, RoutedPool((baseline,), dict.fromkeys(fit.clusters, 0)))
        peak, best = isolation.pool, -1.0
        for number in itertools.count(1):
            before = isolation.pool
            this = await isolation.round(number)
            if this.baseline.mean > best:
                peak, best = before, this.baseline.mean
            journal.close_round(this)
            engine.history.idle = 0 if isolation.pool.digest != before.digest else engine.history.idle + 1
            if stopped := schedule.ends(number, engine.history.idle):
                final = isolation.pool
                measured = await engine.evaluator.evaluate(final.system, EVOLVE, engine.attempts)
                return Result(final.system, (final if measured.mean > best else peak).system, stopped)
        raise AssertionError("unreachable")


@dataclass(slots=True)
class _Isolation:
    """The pool as it goes through the rounds."""

    engine: Engine
    limit: int
    fit: Fit
    pool: RoutedPool
    waited: dict[str, int] = field(default_factory=dict)
    """Rounds in a row that were about a variant and did not change it, by digest."""
    refused: set[tuple[str, str]] = field(default_factory=set)
    """Pools, before and after, between which the gate did not ship though it had all its pairs.

    A change that could not be measured is asked for again, from E = 1 at a level of its own; one that was, and stayed
    undecided, is not: its cap was its price (STATISTICS rule 6).
    """

    async def round(self, number: int) -> Round:
        """Improve one variant; then fork what divides its clusters, and route anew if that promises enough."""
        pool, target = self.pool, self._target()
        variant, engine = pool.variants[target], self._scoped(target)
        this = await run_round(engine, variant, number)
        scoped, this.began = this.baseline, pool.system
        if this.successor != variant:  # what the scoped gate let through takes the variant's place, whatever follows
            self.pool = pool.swapped(target, this.successor)
            self._follow(pool, target, this)
        try:
            this.baseline = await self.engine.evaluator.evaluate(pool.system, EVOLVE, self.engine.attempts)
            self.engine.history.restate(pool.digest, this.baseline.rates)
            alarmed = this.canary is not None and this.canary.alarmed
            if alarmed:
                self.refused.clear()
            if this.report is not None:
                await self._settle()
                if not alarmed:
                    await self._fork(this, scoped, engine)
                    await self._refit(this)
            await self._watch(this, alarmed)
        except BudgetSpent as spent:
            this.stop = this.stop or str(spent)
        self.waited[variant.digest] = self.waited.get(variant.digest, 0) + 1
        this.left = self.pool.system
        return this

    def _target(self) -> int:
        """The variant with the most unsolved tasks, less so the longer nothing has come of it."""
        pool = self.pool
        if len(pool.variants) == 1:
            return 0
        serving = [i for i in range(len(pool.variants)) if pool.clusters(i)]
        return max(serving, key=lambda i: self.fit.failing(pool, i) / (1 + self.waited.get(pool.variants[i].digest, 0)))

    def _scoped(self, target: int) -> Engine:
        """The engine on the tasks routed to one variant."""
        clusters = self.pool.clusters(target)
        evaluator = self.engine.evaluator.within(lambda task: task.cluster in clusters)
        gate = self.engine.gate.within(evaluator)
        return replace(self.engine, evaluator=evaluator, gate=gate, drift=None)  # the pool is watched, as one

    async def _measure(self, *harnesses: HarnessConfig) -> None:
        for harness in harnesses:
            if not self.fit.knows(harness):
                self.fit.add(await self.engine.evaluator.evaluate(harness, EVOLVE, self.engine.attempts))

    async def _settle(self) -> None:
        """Unseen tasks go to the variant with the best overall rate; routes stay."""
        if len(self.pool.variants) > 1:
            await self._measure(*self.pool.variants)
            self.pool = self.fit.settled(self.pool)

    async def _fork(self, this: Round, scoped: Evaluation, engine: Engine) -> None:
        """Fork the candidate that divides the variant's clusters most, if evolve attempts promise enough."""
        assert this.report is not None
        ruling = most_divided(this.report.rulings, self.fit.clusters) if self.limit > 1 else None
        if ruling is None:
            return
        candidate, parent = ruling.candidate, this.successor
        if candidate.parent != parent:
            try:
                candidate = candidate.rebased(parent)
            except HarnessInvalid:
                return
            scoped = await engine.evaluator.evaluate(parent, EVOLVE, engine.attempts)
        finding = await engine.gate.admits(candidate, scoped, anchors(this.trajectories), this.trajectories)
        if finding is not None:
            reason = f"{ruling.reason}; as a fork, {finding.check}: {finding.reason}"
            refused = replace(ruling, reason=reason, flagged=ruling.flagged or finding.flagged)
            this.report = _amended(this.report, ruling, refused)
        if finding is not None or candidate.harness in self.pool.variants:
            return
        await self._measure(*self.pool.variants, candidate.harness)
        helped = self.fit.helped(self.pool, candidate.harness)
        if sum(helped.values()) < engine.gate.config.mei * sum(map(len, self.fit.clusters.values())):
            return
        routes = await self._admit(candidate.harness, list(helped))
        this.routes = (*this.routes, *routes)
        shipped = [r for r in routes if r.ships]
        if shipped:
            forked = _forked(replace(ruling, candidate=candidate), shipped, routes)
            this.report = _amended(this.report, ruling, forked)

    async def _admit(self, fork: HarnessConfig, helped: Sequence[str]) -> list[RouteRuling]:
        """Confirm a fork: cluster by cluster where there is room, else all at once with the weakest gone."""
        pool = self._with_room()
        place = len(pool.variants)
        if place == self.limit:
            crowded = pool.grown(fork).routed(helped, place)
            return await self._confirm(pool, self.fit.retired(crowded, keep=place))
        rulings: list[RouteRuling] = []
        for cluster in helped:
            grown = pool if fork in pool.variants else pool.grown(fork)
            rulings += await self._confirm(pool, grown.routed([cluster], place))
            pool = self.pool if rulings and rulings[-1].ships else pool
        return rulings

    def _with_room(self) -> RoutedPool:
        """The pool; if it is full, without a variant that serves nothing, whose retirement changes nothing."""
        pool = self.fit.settled(self.pool)
        idle = [i for i in range(len(pool.variants)) if not pool.clusters(i) and i != pool.default]
        return pool.without(idle[0]) if idle and len(pool.variants) == self.limit else pool

    async def _confirm(self, before: RoutedPool, after: RoutedPool) -> list[RouteRuling]:
        """The gate's ruling on a change, adopted if it ships; none on a change that was refused before."""
        if (before.digest, after.digest) in self.refused:
            return []
        ruling = await self.engine.gate.confirm_routes(before, after)
        if ruling.ships:
            self.pool = self.fit.settled(after)
            if self.engine.drift is not None and confirmed(ruling.decision, ruling.e_value, ruling.alpha):
                self.engine.drift.confirm(before, self.pool)
        elif not ruling.broke:
            self.refused.add((before.digest, after.digest))
        return [ruling]

    def _follow(self, pool: RoutedPool, target: int, this: Round) -> None:
        """Tell the watch which changes of the variant at ``target`` were confirmed."""
        watch = self.engine.drift
        for ruling in this.report.shipped if this.report is not None else ():
            after = pool.swapped(target, ruling.candidate.harness)
            if watch is not None and confirmed(ruling.decision, ruling.e_value, ruling.alpha):
                watch.confirm(pool, after)
            pool = after

    async def _watch(self, this: Round, alarmed: bool) -> None:
        """Hold the pool against the best confirmed one, which comes back if it is better (STATISTICS rule 9)."""
        watch = self.engine.drift
        if watch is None:
            return
        if alarmed:
            watch.restart()
        this.drift = await watch.check(self.pool)
        if this.drift is not None:
            kept = this.drift.harness
            alone = dict.fromkeys(self.fit.clusters, 0)
            self.pool = kept if isinstance(kept, RoutedPool) else RoutedPool((kept,), alone)

    async def _refit(self, this: Round) -> None:
        """Route anew where that promises at least the minimum effect of interest over all evolve tasks."""
        if len(self.pool.variants) == 1:
            return
        before, after = self.pool, self.fit.fitted(self.pool)
        if self.fit.gain(before, after) >= self.engine.gate.config.mei:
            this.routes = (*this.routes, *await self._confirm(before, after))


def most_divided(rulings: Sequence[Ruling], clusters: Mapping[str, Sequence[str]]) -> Ruling | None:
    """The refused candidate that gains most on some clusters while it loses on others, by its screening."""
    cluster_of = {task: cluster for cluster, tasks in clusters.items() for task in tasks}
    best, most = None, 0
    for ruling in rulings:
        if ruling.decision is Decision.SHIP or ruling.check not in FORKABLE or ruling.screening is None:
            continue
        net: dict[str, int] = {}
        for tasks, sign in ((ruling.screening.gained, 1), (ruling.screening.lost, -1)):
            for task in tasks:
                net[cluster_of[task]] = net.get(cluster_of[task], 0) + sign
        gained = sum(n for n in net.values() if n > 0)
        if min(net.values(), default=0) < 0 and gained > most:
            best, most = ruling, gained
    return best


def _amended(report: GateReport, old: Ruling, new: Ruling) -> GateReport:
    """The report with another ruling in the place of one that did not ship; ships come first."""
    rulings = [new if ruling is old else ruling for ruling in report.rulings]
    return replace(report, rulings=tuple(sorted(rulings, key=lambda ruling: ruling.decision is not Decision.SHIP)))


def _forked(ruling: Ruling, shipped: Sequence[RouteRuling], tested: Sequence[RouteRuling]) -> Ruling:
    """The candidate's ruling as a fork; E and its level are those of the least of its confirmed routes."""
    least = min(shipped, key=lambda r: (r.e_value or 0.0) * (r.alpha or 0.0))
    clusters = sorted({cluster for r in shipped for cluster in r.clusters})
    differences: dict[str, list[float]] = {}
    for r in shipped:
        for task, values in r.differences.items():
            differences.setdefault(task, []).extend(values)
    return replace(
        ruling,
        decision=Decision.SHIP,
        check="fork",
        reason=f"a variant of its own for {', '.join(clusters)}; before: {ruling.check}: {ruling.reason}",
        e_value=least.e_value,
        alpha=least.alpha,
        pairs=sum(r.pairs for r in shipped),
        diverged=sum(r.diverged for r in shipped),
        differences=differences,
        calls=ArmCalls(_sum([r.calls.incumbent for r in tested]), _sum([r.calls.candidate for r in tested])),
    )


def _sum(calls: Sequence[Calls]) -> Calls:
    return Calls(sum(c.made for c in calls), sum(c.replayed for c in calls))
