"""Leave-one-out ablation: does each shipped edit still earn its place in the final harness?

What an edit brought when it shipped, it brought to the harness of that day. So each is left out of the
final harness in turn, the later ones applied again, and the final harness is held against the rest with
the gate's own test (STATISTICS rules 1, 2, 6), on validation draws of a stream of their own that no gate
of the run has used; all left-out arms in lockstep, each on the same draws as the final harness. What could not be
run is treated as in the gate: redrawn before the arms differ, missing after (rule 15), and never tried twice; where
nothing can be run the ablation ends with the cause.

Guaranteed: P(any edit without an effect is said to earn its place) ≤ alpha, as its ledger spends alpha /
edits on each (rule 5: an ablation's budget is its own). An edit that does bring the minimum effect of
interest is said not to earn its place with probability at most 1/10, each. Unlike the gate, no test is
given up because it lags behind (no slack): here the proof that an edit is idle is worth its pairs too.

Edits that are idle one by one may be needed together: two that cure the same failure. So a removal of
several is proposed only once the same futility test has passed it as one; else the idlest goes alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aegis.approvals import Filed
from aegis.evaluator import VALIDATION, Evaluator
from aegis.gate.approval import Risk, reopen
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Draws, Trial
from aegis.gate.pairs import run_pairs
from aegis.gate.permitted import Consent
from aegis.lineage import ShippedEdit, regrown, shipped_edits
from aegis.lock import RunLock
from aegis.provenance import versions
from aegis.record_ablation import Ablation, LeftOut, Place
from aegis.run import arm_order, draining
from aegis.settings import Settings, load_harness
from aegis.statistics import PairedTest, Spending, Verdict, bootstrap_mean
from aegis.store import RunStore
from aegis.views.ablation import markdown
from aegis.views.folder import RunFolder
from aegis.views.progress import Progress
from aegis.watch import Watch
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.runner.pool import Pool

FIRST_ATTEMPT, FIRST_JOINT_ATTEMPT = 10**9, 2 * 10**9
"""No gate draws that far: its attempts are counted up to ``gate.run_cap``."""

PLACES = {Verdict.SHIP: Place.EARNS, Verdict.REJECT: Place.NO_LONGER, Verdict.UNDECIDED: Place.UNDECIDED}


SETTINGS = ("alpha", "cap", "batch")
"""What may be set: the error level of the whole ablation, pairs for each edit, pairs between barriers."""


@dataclass(slots=True)
class Absence:
    """The final harness against one that lacks something, ``harness``: the incumbent of the ``trial``."""

    candidates: tuple[str, ...]
    title: str
    harness: HarnessConfig
    fallen: tuple[str, ...]
    trial: Trial

    def record(self, seed: int) -> LeftOut:
        """What was found."""
        trial, test = self.trial, self.trial.test
        return LeftOut(
            candidates=self.candidates,
            title=self.title,
            harness=self.harness.digest,
            fallen=self.fallen,
            verdict=PLACES[test.verdict or Verdict.UNDECIDED],
            reason=test.reason,
            alpha=test.alpha,
            e_value=test.e_value,
            pairs=trial.pairs,
            diverged=trial.diverged,
            effect=bootstrap_mean(trial.differences, seed) if trial.differences else None,
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """What an ablation works with; ``gate`` holds the run's gate settings, changed by what was asked for."""

    run: RunFolder
    settings: Settings
    gate: GateConfig
    pool: Pool
    baseline: HarnessConfig
    edits: tuple[ShippedEdit, ...]
    order: int | None = None
    """Seed of the arms' random order, see `run_pairs`."""
    hosts: tuple[str, ...] = ()
    """What evolved code may ask."""

    @property
    def final(self) -> HarnessConfig:
        """The final harness, whole."""
        return regrown(self.baseline, self.edits, ())[0]

    @property
    def identity(self) -> dict[str, object]:
        """What must be the same for a second sitting to continue the first. A higher cap only draws on."""
        edits = [shipped.id for shipped in self.edits]
        return {"alpha": self.gate.alpha, "edits": edits, "run": self.settings.identity}

    def without(self, *candidates: str, level: float) -> Absence:
        """The arm that lacks ``candidates``, tested at ``level``."""
        harness, fallen = regrown(self.baseline, self.edits, candidates)
        title = "; ".join(shipped.record.title for shipped in self.edits if shipped.id in candidates)
        test = PairedTest(level, cap=self.gate.cap, mei=self.gate.mei)
        return Absence(candidates, title, harness, fallen, Trial(self.final, test))


def prepare(folder: Path, given: Sequence[str]) -> Bench:
    """Read a finished run and rebuild its final harness; nothing is run or written.

    Raises:
        UserError: no run, an unfinished one, nothing shipped, a setting out of range, a harness that
            cannot be rebuilt, or a benchmark or model that is not the run's any more.
    """
    run = RunFolder.read(folder)
    summary = run.summary
    if summary is None or summary.digests.final is None:
        raise UserError(f"{folder} is not finished: it has no summary.json; let it end, or resume it, first")
    settings = Settings.of({**run.config, "run": {"dir": None, "resume": False}})
    gate = _changed(settings, given)
    pool = Pool(settings.pool)
    for name, now in (("benchmark", pool.benchmark.digest), ("model", settings.pool.model.digest)):
        then = getattr(summary.digests, name)
        if then != now:
            raise UserError(f"the {name} is not the one of {folder} any more: digest {now[:8]}, then {then[:8]}")
    baseline = load_harness(settings.harness, pool.benchmark)
    edits = shipped_edits(run, baseline, summary.digests.final)
    if not edits:
        raise UserError(f"nothing shipped in {folder}: its final harness has no edit to leave out")
    return Bench(run, settings, gate, pool, baseline, edits, arm_order(settings), settings.pool.web.allow_hosts)


def _changed(settings: Settings, given: Sequence[str]) -> GateConfig:
    """The run's gate settings with ``given``, each ``name=value``."""
    import yaml

    values: dict[str, object] = {}
    for setting in given:
        name, is_set, text = setting.partition("=")
        if not is_set or name not in SETTINGS:
            raise UserError(f"no setting is called {name}; valid: {', '.join(f'{valid}=…' for valid in SETTINGS)}")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"cannot read {setting}: {' '.join(str(error).split())}") from error
    return Settings.of({**settings.raw, "gate": {**settings.raw["gate"], **values}}).gate


async def ablate(folder: Path, given: Sequence[str]) -> Ablation:
    """Run the ablation and write ``RUN/ablation/``; what an earlier sitting ran is not run again.

    Raises:
        UserError: see `prepare`; or another process owns the run.
        Drained: interrupted; what was running has finished and is stored.
    """
    bench = prepare(folder, given)
    settings, target = bench.settings, bench.run.path / "ablation"
    await _reopen(bench)
    with _owned(bench.run.path), Progress() as progress:
        _same_ablation(target, bench)
        with RunStore.open(target, bench.identity, resume=True) as store:
            bench.pool.attach(store)
            tasks = bench.pool.benchmark.tasks(VALIDATION, settings.splits[VALIDATION])
            watch = Watch(progress)
            async with bench.pool as pool:
                with draining(pool, progress):
                    evaluator = Evaluator(pool, {VALIDATION: tasks}, watch)
                    found, proposed = await _examine(bench, evaluator, watch)
            _write(store, found, proposed)
            return found


async def _reopen(bench: Bench) -> None:
    """Let the tools of the final harness do what they were allowed to in its run; nobody is asked again."""
    pool, settings = bench.pool, bench.settings
    desk = Filed(settings.gate.approval, bench.run.path)
    consent = Consent(desk, settings.pool.permissions, pool.benchmark.tools, pool.approved.update)
    threshold = Risk[settings.gate.risk_threshold.upper()]
    await reopen(consent, threshold, bench.baseline, (shipped.edit for shipped in bench.edits))


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold the run's own lock: nobody resumes a run while it is being ablated."""
    try:
        lock = RunLock(folder / "run.lock")
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}; ablate a copy of it") from error
    try:
        yield
    finally:
        lock.release()


def _same_ablation(target: Path, bench: Bench) -> None:
    """Refuse another level than that of what is there: a second one, chosen after a look, would prove nothing."""
    if not (target / "run.db").exists():
        return
    with RunStore.read(target) as before:
        level = before.identity.get("alpha", bench.gate.alpha)
    if level != bench.gate.alpha:
        raise UserError(
            f"{target} was begun with alpha={level:g}, not {bench.gate.alpha:g}: give that, "
            "or remove the folder to begin anew"
        )


async def _examine(bench: Bench, evaluator: Evaluator, watch: Watch) -> tuple[Ablation, HarnessConfig | None]:
    """Every verdict, and the harness that is proposed."""
    gate, seed, final = bench.gate, bench.settings.seed, bench.final
    tasks = evaluator.tasks[VALIDATION]
    ledger = Spending(gate.alpha, len(bench.edits))
    absences = [bench.without(shipped.id, level=ledger.open()) for shipped in bench.edits]
    watch.stage(None, f"leaving out {len(absences)} edits, one at a time")
    tested = [absence for absence in absences if absence.harness != final]
    draws = Draws(tasks, seed, name="ablation", first=FIRST_ATTEMPT)
    await compare(evaluator, draws, final, tested, gate, bench.order)
    edits = tuple(a.record(seed) if a in tested else _idle(a) for a in absences)

    idle = [found for found in edits if found.verdict is Place.NO_LONGER]
    together: LeftOut | None = None
    removed: tuple[str, ...] = tuple(name for found in idle for name in found.candidates)
    if removed:
        joint = bench.without(*removed, level=ledger.alpha / ledger.planned)
        if joint.harness not in (final, *(absence.harness for absence in absences)):
            watch.stage(None, f"leaving out {len(removed)} edits together")
            stream = f"ablation/{joint.harness.digest}"
            draws = Draws(tasks, seed, name=stream, first=FIRST_JOINT_ATTEMPT)
            await compare(evaluator, draws, final, [joint], gate, bench.order)
            together = joint.record(seed)
            if together.verdict is not Place.NO_LONGER:
                removed = _idlest(idle)
    harness, fallen = regrown(bench.baseline, bench.edits, removed)
    proposed = harness if harness != final else None
    found = Ablation(
        final=final.digest,
        edits=edits,
        together=together,
        removed=tuple(s.id for s in bench.edits if s.id in (*removed, *fallen)),
        proposed=proposed.digest if proposed is not None else None,
        alpha=gate.alpha,
        cap=gate.cap,
        mei=gate.mei,
        guarantee=f"P(any edit without an effect is said to earn its place) ≤ {gate.alpha:g}, over {len(edits)} edits",
        rollouts=evaluator.meter.rollouts,
        model_calls=evaluator.meter.calls,
        tokens=evaluator.meter.tokens,
        versions=versions(),
        hosts=bench.hosts,
    )
    return found, proposed


def _idlest(idle: Sequence[LeftOut]) -> tuple[str, ...]:
    """The one that brought least, of those that change the harness."""
    by_effect = sorted((found.effect.mean, found.candidates) for found in idle if found.effect is not None)
    return by_effect[0][1] if by_effect else ()


def _idle(absence: Absence) -> LeftOut:
    """An edit that later ones have undone: without it the final harness is the same."""
    return LeftOut(
        absence.candidates, absence.title, absence.harness.digest, absence.fallen, Place.NO_LONGER,
        "the final harness is the same without it",
    )  # fmt: skip


async def compare(
    evaluator: Evaluator,
    draws: Draws,
    final: HarnessConfig,
    absences: Sequence[Absence],
    gate: GateConfig,
    order: int | None = None,
) -> None:
    """Draw pairs until every test has its verdict; each has one after ``gate.cap`` pairs, redrawn ones apart.

    Raises:
        Outage: nothing could be run; a second sitting asks again.
    """
    while waiting := [absence for absence in absences if absence.trial.test.verdict is None]:
        drawn = draws.take(min(gate.batch, max(gate.cap - absence.trial.pairs for absence in waiting)))
        arms = (final, *(absence.harness for absence in waiting))
        for whole_harness, *without in await run_pairs(evaluator, drawn, arms, order):
            for absence, result in zip(waiting, without, strict=True):
                if absence.trial.test.verdict is None:
                    absence.trial.score(result, whole_harness)


def _write(store: RunStore, found: Ablation, proposed: HarnessConfig | None) -> None:
    """The record, its page, and the proposed bundle; one of an earlier sitting does not stay."""
    shutil.rmtree(store.path / "proposed", ignore_errors=True)
    if proposed is not None:
        for path, text in proposed.assets.items():
            store.write_text(f"proposed/{path}", text)
        store.write_text("proposed/harness.yaml", proposed.to_yaml())
    store.write_text("ablation.md", markdown(found))
    store.write_text("ablation.json", json.dumps(found.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
