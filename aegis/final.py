"""What is measured when the rounds are over, and the summary of it all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from aegis.accounts import Measured, costs, gaps
from aegis.evaluator import CANARY, EVOLVE, SEALED, SPLITS, Evaluation, Evaluator
from aegis.gate.traps import passes
from aegis.journal import Journal
from aegis.provenance import versions
from aegis.record import CanaryScores, CandidateOutcome, Digests, MetaCost, SealedRates, SplitScores, Summary
from aegis.record_session import SessionRecord
from aegis.sealed import frozen_entry
from aegis.settings import Settings
from aegis.statistics import paired_difference
from aegis.store import RunStore
from aegis.strategies.base import Result
from aegis.watch import Watch
from harnessx.errors import BudgetSpent
from harnessx.harness import HarnessConfig
from harnessx.runner.pool import Pool


@dataclass(frozen=True, slots=True)
class Final:
    """The scores of baseline, final and peak on each split, what is behind them, and what they do on canaries."""

    splits: dict[str, SplitScores]
    measured: Measured
    canaries: CanaryScores
    unscored: dict[str, str]
    """Splits without scores, and why."""


async def measure(
    settings: Settings, evaluator: Evaluator, store: RunStore, benchmark: str, baseline: HarnessConfig, result: Result
) -> Final:
    """Baseline, final and peak on every split; sealed is read here, once, after its audit entry (STATISTICS rule 10).

    The entry freezes which harnesses are read on which ``benchmark`` (its digest). A resumed run completes that
    reading; for any other the audit trail refuses the run, whatever is asked for: further harnesses are another run's.

    Where the budget ends, or too much is missing of an arm, a split has no scores: part of its tasks would be another
    measurement, and a harness could choose the part by running out of time.
    """
    harnesses = {"baseline": baseline, "final": result.final, "peak": result.peak}
    splits: dict[str, SplitScores] = {}
    by_split: dict[str, dict[str, Evaluation]] = {}
    unscored: dict[str, str] = {}
    for split in SPLITS:
        attempts = settings.attempts if split == EVOLVE else settings.sealed_attempts
        try:
            evaluator.allowance.check()
            if split == SEALED:
                store.audit(frozen_entry(benchmark, {name: h.digest for name, h in harnesses.items()}))
            measured: dict[str, Evaluation] = {
                name: await evaluator.evaluate(harness, split, attempts) for name, harness in harnesses.items()
            }
        except BudgetSpent:
            splits[split], unscored[split] = SplitScores(), evaluator.allowance.refused
            continue
        if holes := [f"{name}: {found.incomplete}" for name, found in measured.items() if found.incomplete]:
            splits[split], unscored[split] = SplitScores(), "; ".join(holes)
            continue
        by_split[split] = measured
        outcomes = {name: evaluation.outcomes for name, evaluation in measured.items()}
        shared = outcomes["baseline"].keys() & outcomes["final"].keys()
        before, after = ({t: o for t, o in outcomes[n].items() if t in shared} for n in ("baseline", "final"))
        splits[split] = SplitScores(
            measured["baseline"].interval(settings.seed),
            measured["final"].interval(settings.seed),
            measured["peak"].interval(settings.seed),
            paired_difference(before, after, settings.seed) if shared else None,
        )
        if split == SEALED:
            rates = SealedRates(*(measured[name].rates for name in ("baseline", "final", "peak")))
            store.write_text("data/sealed.json", json.dumps(rates.to_json(), sort_keys=True) + "\n")
    return Final(splits, by_split, await _canaries(evaluator, baseline, result), unscored)


async def _canaries(evaluator: Evaluator, baseline: HarnessConfig, result: Result) -> CanaryScores:
    """What the first and the last harness do on tasks that only cheating passes."""
    tasks = len(evaluator.tasks.get(CANARY, ()))
    if not tasks:
        return CanaryScores(0)
    try:
        return CanaryScores(tasks, await passes(evaluator, baseline), await passes(evaluator, result.final))
    except BudgetSpent:
        return CanaryScores(tasks)


def _meta(sessions: Sequence[SessionRecord]) -> MetaCost | None:
    if not sessions:
        return None
    known = [s.usd for s in sessions if s.usd is not None]
    dollars = sum(known) if len(known) == len(sessions) else None
    return MetaCost(len(sessions), sum(s.tokens for s in sessions), dollars)


def summarize(
    settings: Settings,
    pool: Pool,
    journal: Journal,
    evaluator: Evaluator,
    watch: Watch,
    baseline: HarnessConfig,
    result: Result,
    final: Final,
) -> Summary:
    """What a run comes to, for its files and for other people's scripts."""
    paired = settings.gate.rule == "paired"
    meter = evaluator.meter
    unscored = final.unscored
    return Summary(
        splits=final.splits,
        rounds=len(journal.rounds),
        candidates=tuple(
            CandidateOutcome(c.id, c.round, c.bucket, c.title, c.verdict, c.reason, c.flagged)
            for c in journal.candidates
        ),
        rollouts=meter.rollouts,
        model_calls=meter.calls,
        tokens=meter.tokens,
        dollars=meter.dollars,
        seconds={name: round(value, 3) for name, value in watch.seconds.items()},
        seeds=(settings.seed,),
        digests=Digests(
            pool.benchmark.digest,
            settings.pool.model.digest,
            baseline.digest,
            result.final.digest,
            result.peak.digest if unscored.keys() < final.splits.keys() else None,
        ),
        isolation=pool.isolation,
        gate=settings.gate.rule,
        ledger=settings.gate.ledger if paired else "none",
        alpha=settings.gate.alpha if paired else None,
        versions=versions(),
        stopped=result.stopped,
        drift=tuple(journal.drift),
        costs=costs(final.measured),
        gaps=gaps(final.measured, settings.seed),
        predictions={bucket.value: score for bucket, score in journal.predictions.items()},
        canaries=final.canaries,
        missing=meter.missing,
        unscored=unscored,
        hosts=pool.config.web.allow_hosts,
        meta=_meta(journal.sessions),
    )
