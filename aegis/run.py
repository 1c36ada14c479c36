"""A run from settings to summary: open the store, evolve, measure, report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aegis import phrases
from aegis.allowance import Allowance
from aegis.approvals import Desk
from aegis.calibration import calibrate, check_power
from aegis.estimate import confirm, estimate
from aegis.evaluator import CANARY, EVOLVE, SEALED, VALIDATION, Evaluator
from aegis.final import measure, summarize
from aegis.gate.canary import Canary
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.drift import DriftConfig, DriftWatch
from aegis.gate.gate import Gate
from aegis.gate.permitted import Consent
from aegis.history import History
from aegis.journal import Journal
from aegis.meta.base import MetaAgent, NeedsWorkbench
from aegis.meta.workbench import Workbench
from aegis.record import Summary
from aegis.record_calibration import Calibration
from aegis.round import Engine
from aegis.sealed import said
from aegis.settings import Settings, instantiate, load_harness
from aegis.statistics import Elond, Ledger, Spending
from aegis.store import RunStore
from aegis.strategies.base import Result, Schedule, Strategy
from aegis.views.notation import reachable, served
from aegis.views.progress import Progress
from aegis.watch import Watch
from harnessx.errors import BudgetSpent, UserError
from harnessx.harness import HarnessConfig
from harnessx.runner.pool import Drained, Pool
from harnessx.runner.purse import Purse
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
    if isinstance(meta, NeedsWorkbench):
        meta.prepare(settings.pool.model)
    strategy: Strategy = instantiate(settings.raw["strategy"], "strategy")
    strategy.check(tasks, meta)
    expected = estimate(settings, baseline, tasks)
    if not (folder / "run.db").exists():
        confirm(expected, settings.budget)
    with RunStore.open(folder, settings.identity, resume=resume) as store, progress:
        progress.note(expected.line)
        done = _Done.of(store)
        if not done.sealed:
            _write_config(store, settings)
        pool.attach(store)
        pool.say = watch.note
        purse = Purse(settings.budget.caps, store.paid(), store.put_paid)
        pool.charge(purse)
        async with pool:
            with draining(pool, progress):
                evaluator = Evaluator(pool, tasks, watch, settings.budget, purse)
                history = History(attempts=settings.attempts)
                journal = Journal(store, evaluator, history, settings.seed)
                _publish(settings, journal, baseline, progress, tasks)

                def on_stage(number: int, name: str) -> None:
                    done.check(number)
                    evaluator.allowance.waived = number <= done.rounds
                    watch.stage(number, name)

                consent = _consent(settings, store, pool, progress)
                await consent.settle(baseline)
                engine = _engine(settings, evaluator, pool.benchmark, meta, history, baseline, on_stage, consent)
                _attach(settings, engine, store, purse, journal)
                result = await _evolved(settings, engine, strategy, journal, baseline, done, watch)
                on_stage(len(journal.rounds), "final evaluation")
                evaluator.allowance.waived = (folder / "data/sealed.json").exists()
                final = await measure(settings, evaluator, store, pool.benchmark.digest, baseline, result)
                journal.close_run(tuple(final.measured.get(EVOLVE, {}).values()))
        watch.enter("report")
        summary = summarize(settings, pool, journal, evaluator, watch, baseline, result, final)
        _write_config(store, settings)
        if pool.served:
            rows = sorted((identity.to_json() for identity in pool.served), key=json.dumps)
            store.write_text("data/models.json", json.dumps(rows, indent=1) + "\n")
        store.write_text("summary.json", json.dumps(summary.to_json(), indent=1, sort_keys=True) + "\n")
        journal.close_index()
        if SEALED not in summary.unscored and (counted := said(folder, pool.benchmark.digest)):
            progress.note(counted)
        return summary


async def _evolved(
    settings: Settings,
    engine: Engine,
    strategy: Strategy,
    journal: Journal,
    baseline: HarnessConfig,
    done: _Done,
    watch: Watch,
) -> Result:
    """Calibrate, then go round by round; what there is where the budget ends."""
    allowance = engine.evaluator.allowance
    schedule = Schedule(settings.rounds, settings.patience, lambda: done.spent(allowance), done.rounds)
    try:
        if settings.gate.rule == "paired" and settings.gate.calibration:
            watch.stage(None, "calibration")
            allowance.waived = done.rounds > 0
            found = await _calibrated(settings, engine.evaluator, baseline)
            journal.calibrated(found)
            watch.note(estimate(settings, baseline, engine.evaluator.tasks, found.tokens_per_rollout).line)
        return await strategy.run(engine, journal, baseline, schedule)
    except BudgetSpent as spent:  # nothing more is measured, so nothing is known of a peak
        return Result(journal.best, journal.best, str(spent))


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

    def spent(self, allowance: Allowance) -> str:
        """Why the budget ends the run now, or ''. Asked once the recorded rounds are replayed.

        What follows them (the final harness on evolve first) is held to the budget again, as in a run without a
        break; unless sealed was read, for then all of it was already measured.
        """
        allowance.waived = self.sealed
        return allowance.exhausted

    def check(self, number: int) -> None:
        """Refuse a further round once sealed was read: a harness may not be chosen after that (STATISTICS rule 10)."""
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
        Gate(settings.gate, evaluator, _confirmation(settings, evaluator, draws), benchmark, consent, baseline),
        history,
        settings.attempts,
        settings.candidates,
        settings.actionability,
        settings.seed,
        on_stage,
        drift=_drift(settings, evaluator, draws, baseline),
        canary=_canary(settings, evaluator, draws),
    )


def _attach(settings: Settings, engine: Engine, store: RunStore, purse: Purse, journal: Journal) -> None:
    """Give a meta-agent that asks anybody its bench; its models take as many calls at once as those of rollouts."""
    if isinstance(engine.meta, NeedsWorkbench):
        pool = settings.pool
        bench = Workbench(engine.evaluator, engine.gate, store, purse, pool.patience, pool.concurrency, settings.seed)
        engine.meta.attach(bench)
        journal.sessions = bench.sessions


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
        order=arm_order(settings),
    )
    return DriftWatch(evaluator, draws, baseline, caps)


def _canary(settings: Settings, evaluator: Evaluator, draws: Draws) -> Canary | None:
    """None too where it would get the same answers twice."""
    pairs = settings.gate.canary
    return Canary(evaluator, draws, pairs, settings.gate.drift_rounds) if pairs and not settings.steady else None


def arm_order(settings: Settings) -> int | None:
    """The seed of the order of arms: a world that answers the same whenever asked needs none."""
    return None if settings.steady else settings.seed


def _confirmation(settings: Settings, evaluator: Evaluator, draws: Draws) -> Confirmation:
    gate = settings.gate
    return Confirmation(
        evaluator,
        _ledger(settings),
        draws,
        cap=gate.cap,
        batch=gate.batch,
        run_cap=gate.run_cap,
        mei=gate.mei,
        slack=gate.slack,
        cluster_alpha=gate.cluster_alpha,
        prove_ni=gate.prove_ni,
        order=arm_order(settings),
    )


def _publish(
    settings: Settings,
    journal: Journal,
    baseline: HarnessConfig,
    progress: Progress,
    tasks: Mapping[str, Sequence[Task]],
) -> None:
    """Say what the run may draw, and what it promises, before its first rollout."""
    hosts = settings.pool.web.allow_hosts
    evolve, validation = ({task.cluster for task in tasks[split]} for split in (EVOLVE, VALIDATION))
    promise = phrases.promise(settings.gate, _ledger(settings).guarantee, sorted(evolve - validation))
    if hosts:
        promise = f"{promise} {reachable(hosts)}"
    if settings.pool.servers:
        promise = f"{promise} {served([server.name for server in settings.pool.servers])}"
    journal.begin(baseline, promise)
    progress.note(promise)


def _ledger(settings: Settings) -> Ledger:
    """One that nothing has been spent of."""
    kind = Spending if settings.gate.ledger == "spending" else Elond
    return kind(settings.gate.alpha, settings.decisions)


async def _calibrated(settings: Settings, evaluator: Evaluator, baseline: HarnessConfig) -> Calibration:
    order = arm_order(settings)
    return await calibrate(evaluator, baseline, settings.gate, settings.decisions, settings.seed, order)


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
