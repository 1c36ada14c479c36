"""Planner: digests and history -> the adaptation landscape (paper §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aegis.history import History
from aegis.meta.base import MetaAgent, Survey
from aegis.record import Bucket, Decision
from aegis.stages.digester import Digest
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Region:
    """One failure category: which tasks fail so, in which clusters, and where it can be seen."""

    category: str
    tasks: tuple[str, ...]
    clusters: tuple[str, ...]
    anchors: tuple[str, ...]
    advice: str = ""
    """What the Planner would try."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """Where the harness could be improved, and what is known about trying.

    The computed duties: failing regions, persistent failures, regressions, hit rate and tally per
    bucket, neglected buckets, streaks (three ships or more in a row in one bucket: drift is rarely seen in a
    single one of them), and the strategy concern the Critic left last round.
    """

    round: int
    regions: tuple[Region, ...]
    persistent: tuple[str, ...]
    regressions: tuple[str, ...]
    hit_rates: tuple[tuple[Bucket, float], ...]
    tally: tuple[tuple[Bucket, Decision, int], ...]
    neglected: tuple[Bucket, ...]
    forbidden_levers: tuple[str, ...]
    strategy_concern: str
    streaks: tuple[tuple[Bucket, int], ...] = ()
    brier_scores: tuple[tuple[Bucket, float], ...] = ()
    """Of the buckets' predictions; the lower, the better calibrated."""
    chances: tuple[tuple[Bucket, float], ...] = ()
    """What the buckets' hit rates would be without any change."""
    reason: str = ""
    """Why it is empty, where the Planner said so."""

    @property
    def empty(self) -> bool:
        """Nothing to work on."""
        return not self.regions

    def to_markdown(self) -> str:
        """The landscape as people read it."""
        lines = [f"# Landscape of round {self.round}", ""]
        lines += [
            f"* {r.category}: {len(r.tasks)} tasks ({', '.join(r.tasks[:6])}{'…' if len(r.tasks) > 6 else ''}); "
            f"clusters {', '.join(r.clusters)}; see {', '.join(f'`{a}`' for a in r.anchors[:3])}"
            for r in self.regions
        ]
        lines += [f"* advice on {r.category}: {r.advice}" for r in self.regions if r.advice]
        by_chance = {b: f" ({chance:.2f} by chance)" for b, chance in self.chances}
        rates = ", ".join(f"{b} {rate:.2f}{by_chance.get(b, '')}" for b, rate in self.hit_rates)
        errors = ", ".join(f"{b} {error:.2f}" for b, error in self.brier_scores)
        lines += [
            "",
            f"* persistent failures: {', '.join(self.persistent) or 'none'}",
            f"* regressions since the last round: {', '.join(self.regressions) or 'none'}",
            f"* hit rates: {rates or 'none scored'}",
            f"* Brier scores: {errors or 'none scored'}",
            f"* tried: {', '.join(f'{b} {d} {n}' for b, d, n in self.tally) or 'nothing'}",
            f"* neglected buckets: {', '.join(self.neglected) or 'none'}",
            f"* ships in a row in one bucket: {', '.join(f'{b} {n}' for b, n in self.streaks) or 'no streak'}",
            f"* levers that must rest: {', '.join(self.forbidden_levers) or 'none'}",
            f"* the critic's concern: {self.strategy_concern or 'none'}",
        ]
        return "\n".join(lines) + "\n"


async def plan(
    digest: Digest,
    history: History,
    meta: MetaAgent,
    incumbent: HarnessConfig,
    trajectories: Sequence[Trajectory] = (),
) -> Landscape:
    """Survey, then let the meta-agent put the regions in order; regions it leaves out are dropped.

    Whatever the order, regions with a regression of the last ship come first.
    """
    regions = {}
    counts = digest.categories()
    for category in sorted(counts, key=lambda c: (-counts[c], c)):
        tasks = [t for t in digest.failing if t.category == category]
        regions[category] = Region(
            category,
            tuple(t.task for t in tasks),
            tuple(sorted({t.cluster for t in tasks if t.cluster})),
            tuple(e.anchor for t in tasks for e in t.excerpts),
        )
    scores = sorted(history.prediction_scores().items())
    landscape = Landscape(
        round=digest.round,
        regions=tuple(regions.values()),
        persistent=history.persistent_failures(),
        regressions=history.regressions(),
        hit_rates=tuple(sorted(history.hit_rates().items())),
        tally=tuple((b, d, n) for (b, d), n in sorted(history.tally().items())),
        neglected=history.neglected(),
        forbidden_levers=history.forbidden_levers(),
        strategy_concern=history.strategy_concern,
        streaks=history.streaks(),
        brier_scores=tuple((b, score.brier) for b, score in scores),
        chances=tuple((b, score.chance) for b, score in scores if score.chance is not None),
    )
    chosen = await meta.prioritize(Survey(landscape, digest, incumbent, history.told(), trajectories))
    kept = [replace(regions[c], advice=chosen.advice.get(c, "")) for c in dict.fromkeys(chosen.order) if c in regions]
    regressed = set(landscape.regressions)
    kept.sort(key=lambda region: not regressed & set(region.tasks))
    return replace(landscape, regions=tuple(kept), reason="" if kept else chosen.reason)
