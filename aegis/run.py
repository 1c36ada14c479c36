"""A run from settings to summary: open the store, evolve, measure, report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aegis.accounts import Measured, costs, gaps
from aegis.allowance import BudgetSpent
from aegis.approvals import Desk
from aegis.calibration import calibrate, check_power
from aegis.evaluator import CANARY, EVOLVE, SEALED, SPLITS, VALIDATION, Evaluation, Evaluator
from aegis.gate.canary import Canary
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.drift import DriftConfig, DriftWatch
from aegis.gate.gate import Gate
from aegis.gate.permitted import Consent
from aegis.gate.traps import passes
from aegis.history import History
from aegis.journal import Journal
from aegis.meta.base import MetaAgent
from aegis.provenance import versions
from aegis.record import CanaryScores, CandidateOutcome, Digests, SealedRates, SplitScores, Summary
from aegis.round import Engine
from aegis.settings import Settings, instantiate, load_harness
from aegis.statistics import Elond, Ledger, Spending, paired_difference
from aegis.store import RunStore
from aegis.strategies.base import Result, Schedule, Strategy
from aegis.views.progress import Progress
from aegis.watch import Watch
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.runner.pool import Drained, Pool
from harnessx.tasks import Benchmark, HasCanaries, Task


async def run(settings: Settings, folder: Path, *, resume: bool) -> Summary:
    """Run to the end; the run folder then holds everything DESIGN §5 names.

    A resumed run replays: what is in the store is not run again, and every file comes out as it was.

    Raises:
        UserError: bad settings, an unusable folder, data that is not there, a run that cannot go on.
        Drained: interrupted; what was running has finished and is stored.
    """
    check_power(settings.gate, settings.decisions, settings.splits[SEALED])
    progress = Progress(settings.rounds)
    watch = Watch(progress)
    pool = Pool(settings.pool)
    baseline = load_harness(settings.harness, pool.benchmark, pool.isolation)
    tasks = _tasks(settings, pool.benchmark)
    meta: MetaAgent = instantiate(settings.raw["meta"], "meta")
    strategy: Strategy = instantiate(settings.raw["strategy"], "strategy")
    strategy.check(tasks, meta)
    with RunStore.open(folder, settings.identity, resume=resume) as store, progress:
        done = _Done.of(store)
        if not done.sealed:
            _write_config(store, settings)
        pool.attach(store)
        async with pool:
            with draining(pool, progress):
                evaluator = Evaluator(pool, tasks, watch, settings.budget)
                allowance = evaluator.allowance
                history = History()
                journal = Journal(store, evaluator, history, settings.seed)
                journal.begin(baseline)

                def on_stage(number: int, name: str) -> None:
                    done.check(number)
                    allowance.waived = number <= done.rounds
                    watch.stage(number, name)

                consent = _consent(settings, store, pool, progress)
                await consent.settle(baseline)
                engine = _engine(settings, evaluator, pool.benchmark, meta, history, baseline, on_stage, consent)
                schedule = Schedule(settings.rounds, settings.patience, lambda: allowance.exhausted, done.rounds)
                try:
                    if settings.gate.rule == "paired" and settings.gate.calibration:
                        watch.stage(None, "calibration")
                        allowance.waived = done.rounds > 0
                        found = await calibrate(evaluator, baseline, settings.gate, settings.decisions, settings.seed)
                        journal.calibrated(found)
                    result = await strategy.run(engine, journal, baseline, schedule)
                except BudgetSpent as spent:  # nothing more is measured, so nothing is known of a peak
                    result = Result(journal.best, journal.best, str(spent))
                on_stage(len(journal.rounds), "final evaluation")
                allowance.waived = (folder / "data/sealed.json").exists()
                splits, measured = await _final(settings, evaluator, store, baseline, result)
                journal.close_run(tuple(measured.get(EVOLVE, {}).values()))
                canaries = await _canaries(evaluator, baseline, result)
        watch.enter("report")
        summary = _summary(
            settings, pool, journal, evaluator, watch, baseline, result, splits, measured, canaries
        )
        _write_config(store, settings)
        store.write_text("summary.json", json.dumps(summary.to_json(), indent=1, sort_keys=True) + "\n")
        journal.close_index()
        return summary


@dataclass(frozen=True, slots=True)
class _Done:
    """What a resumed run has behind it."""

    folder: Path
    rounds: int
    sealed: bool

    @classmethod
    def of(cls, store: RunStore) -> _Done:
        events = [entry["event"] for entry in store.audit_entries()]
        return cls(store.path, events.count("round"), "sealed" in events)

    def check(self, number: int) -> None:
        """Refuse a further round once sealed was read: a harness may not be chosen after that (STATISTICS 10)."""
        if self.sealed and number > self.rounds:
            raise UserError(
                f"{self.folder} is finished: its sealed tasks were read after {self.rounds} rounds; "
                "for more rounds set another run.dir"
            )


def _tasks(settings: Settings, benchmark: Benchmark) -> dict[str, Sequence[Task]]:
    tasks = {split: benchmark.tasks(split, size) for split, size in settings.splits.items()}
    for split, size in settings.splits.items():
        if len(tasks[split]) < size:
            raise UserError(f"{split} has {len(tasks[split])} tasks; set benchmark.splits.{split} to at most that")
    if isinstance(benchmark, HasCanaries) and settings.gate.canaries:
        tasks[CANARY] = benchmark.canaries(settings.gate.canaries)
    return tasks


def _engine(
    settings: Settings,
    evaluator: Evaluator,
    benchmark: Benchmark,
    meta: MetaAgent,
    history: History,
    baseline: HarnessConfig,
    on_stage: Callable[[int, str], None],
    consent: Consent,
) -> Engine:
    draws = Draws(evaluator.tasks[VALIDATION], settings.seed)
    return Engine(
        evaluator,
        meta,
        Gate(settings.gate, evaluator, _confirmation(settings, evaluator, draws), benchmark, consent),
        history,
        settings.attempts,
        settings.candidates,
        settings.actionability,
        settings.seed,
        on_stage,
        drift=_drift(settings, evaluator, draws, baseline),
        canary=_canary(settings, evaluator, draws),
    )


def _consent(settings: Settings, store: RunStore, pool: Pool, progress: Progress) -> Consent:
    """The user's rule, the benchmark's tools, and the desk; Ctrl-C ends waiting for an answer."""

    def check() -> None:
        if pool.draining:
            raise Drained("stopped on request")

    desk = Desk(settings.gate.approval, store, progress.note, check)
    return Consent(desk, settings.pool.permissions, pool.benchmark.tools, pool.approved.update)


def _drift(settings: Settings, evaluator: Evaluator, draws: Draws, baseline: HarnessConfig) -> DriftWatch | None:
    gate = settings.gate
    if not gate.drift_pairs:
        return None
    caps = DriftConfig(
        gate.drift_pairs,
        gate.drift_rounds,
        gate.drift_check,
        gate.drift_cap,
        gate.batch,
        mei=gate.mei,
        order=_order(settings),
    )
    return DriftWatch(evaluator, draws, baseline, caps)


def _canary(settings: Settings, evaluator: Evaluator, draws: Draws) -> Canary | None:
    """None with a deterministic model too: it would give the same answers twice."""
    pairs = settings.gate.canary
    return (
        Canary(evaluator, draws, pairs, settings.gate.drift_rounds)
        if pairs and not settings.pool.model.deterministic
        else None
    )


def _order(settings: Settings) -> int | None:
    """The seed of the order of arms: a model that answers the same whenever asked needs none."""
    return None if settings.pool.model.deterministic else settings.seed


def _confirmation(settings: Settings, evaluator: Evaluator, draws: Draws) -> Confirmation:
    gate = settings.gate
    kind = Spending if gate.ledger == "spending" else Elond
    ledger: Ledger = kind(gate.alpha, settings.decisions)
    return Confirmation(
        evaluator,
        ledger,
        draws,
        cap=gate.cap,
        batch=gate.batch,
        run_cap=gate.run_cap,
        mei=gate.mei,
        slack=gate.slack,
        cluster_alpha=gate.cluster_alpha,
        order=_order(settings),
    )


async def _final(
    settings: Settings, evaluator: Evaluator, store: RunStore, baseline: HarnessConfig, result: Result
) -> tuple[dict[str, SplitScores], Measured]:
    """Baseline, final and peak on every split; sealed is read here, once, after its audit entry.

    Where the budget ends, a split has no scores: part of its tasks would be another measurement.
    """
    harnesses = {"baseline": baseline, "final": result.final, "peak": result.peak}
    splits: dict[str, SplitScores] = {}
    by_split: dict[str, dict[str, Evaluation]] = {}
    for split in SPLITS:
        attempts = settings.attempts if split == EVOLVE else settings.sealed_attempts
        try:
            evaluator.allowance.check()
            if split == SEALED:
                store.audit({"event": "sealed", **{name: h.digest for name, h in harnesses.items()}})
            measured: dict[str, Evaluation] = {
                name: await evaluator.evaluate(harness, split, attempts) for name, harness in harnesses.items()
            }
        except BudgetSpent:
            splits[split] = SplitScores()
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
    return splits, by_split


async def _canaries(evaluator: Evaluator, baseline: HarnessConfig, result: Result) -> CanaryScores:
    """What the first and the last harness do on tasks that only cheating passes."""
    tasks = len(evaluator.tasks.get(CANARY, ()))
    if not tasks:
        return CanaryScores(0)
    try:
        return CanaryScores(tasks, await passes(evaluator, baseline), await passes(evaluator, result.final))
    except BudgetSpent:
        return CanaryScores(tasks)


def _summary(
    settings: Settings,
    pool: Pool,
    journal: Journal,
    evaluator: Evaluator,
    watch: Watch,
    baseline: HarnessConfig,
    result: Result,
    splits: dict[str, SplitScores],
    measured: Measured,
    canaries: CanaryScores,
) -> Summary:
    paired = settings.gate.rule == "paired"
    meter = evaluator.meter
    unscored = {name: evaluator.allowance.refused for name, split in splits.items() if split == SplitScores()}
    return Summary(
        splits=splits,
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
            result.peak.digest if unscored.keys() < splits.keys() else None,
        ),
        isolation=pool.isolation,
        gate=settings.gate.rule,
        ledger=settings.gate.ledger if paired else "none",
        alpha=settings.gate.alpha if paired else None,
        versions=versions(),
        stopped=result.stopped,
        drift=tuple(journal.drift),
        costs=costs(measured),
        gaps=gaps(measured, settings.seed),
        predictions={bucket.value: score for bucket, score in journal.predictions.items()},
        canaries=canaries,
        missing=meter.missing,
        unscored=unscored,
    )


def _write_config(store: RunStore, settings: Settings) -> None:
    import yaml

    config = {name: value for name, value in settings.raw.items() if name != "run"}
    store.write_text("config.yaml", yaml.safe_dump(config, sort_keys=True, allow_unicode=True))


@contextlib.contextmanager
def draining(pool: Pool, progress: Progress) -> Iterator[None]:
    """The first Ctrl-C drains, a second one stops at once."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        progress.note("stopping: rollouts in flight will finish; Ctrl-C again stops at once")
        pool.drain()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
