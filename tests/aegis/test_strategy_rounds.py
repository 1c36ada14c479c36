"""What a round owes its run, whatever the strategy: ships are kept, the parent is read, slides are noticed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from simulated import H0, Bench, World, holding, levers, proposing, tasks

from aegis.evaluator import CANARY, EVOLVE, VALIDATION, Evaluator
from aegis.gate.canary import Canary
from aegis.gate.drift import DriftConfig, DriftWatch
from aegis.gate.traps import Canaries
from aegis.meta.base import Brief
from aegis.meta.scripted import ScriptedMeta
from aegis.outage import Outage
from aegis.round import propose
from aegis.routing import RoutedPool, changed
from aegis.settings import load_system
from aegis.strategies.archive import Archive
from aegis.strategies.base import Strategy
from aegis.strategies.ensemble import Ensemble
from aegis.strategies.global_ import Global
from aegis.strategies.pareto import Pareto
from harnessx.errors import BudgetSpent, Outcome
from harnessx.harness import HarnessConfig
from harnessx.messages import Message, ModelResponse, ToolCall
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task
from harnessx.trajectory import Exchange, Step, ToolExchange, Trajectory

GAIN = {"good": {"a": 0.4, "b": 0.4}, "left": {"a": 0.4, "b": -0.5}}
LINES: list[Strategy] = [Global(), Ensemble(2), Pareto(), Archive()]


def named(value: object) -> str | None:
    return getattr(value, "name", None)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    file = folder / "data" / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# --- budgets --------------------------------------------------------------------------------------------


def bench(offered: str, budget: int | None = None) -> Bench:
    """With a canary, whose second arms are what a round pays for last."""
    run = Bench(World(GAIN), tasks("ab", 15, 20), proposing([offered]), budget=budget)
    run.engine = replace(run.engine, canary=Canary(run.engine.evaluator, run.draws, 8))
    return run


@pytest.mark.parametrize(
    ("strategy", "offered"), [*((line, "good") for line in LINES), (Ensemble(2), "left")], ids=named
)
async def test_a_ship_is_kept_when_the_budget_ends_right_after_it(tmp_path, strategy, offered):
    """In journal, best/, and what the summary calls final (`Journal.best`); also if it ends a little later."""
    paid: list[int] = []
    free = bench(offered)
    free.ledger.ship = lambda: paid.append(free.engine.evaluator.meter.rollouts)  # type: ignore[method-assign]
    whole = await free.run(strategy, tmp_path / "whole", rounds=1)
    for further in (0, 9):
        run, folder = bench(offered, paid[0] + further), tmp_path / str(further)
        with contextlib.suppress(BudgetSpent):
            await run.run(strategy, folder, rounds=1)
        assert further or run.engine.evaluator.allowance.refused
        assert [r["verdict"] for r in lines(folder, "candidates.jsonl")] == ["ship"]
        assert "C-R1-01" in (folder / "journal.md").read_text()
        assert run.journal.best == load_system(str(folder / "best"), benchmark=None)
        assert run.journal.best.digest == whole.final.digest != H0.digest


# --- outages ----------------------------------------------------------------------------------------------


class Dead(World):
    """Nothing can be run."""

    def __init__(self) -> None:
        super().__init__({})
        self.forgotten: list[Job] = []

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        return replace(super()._play(job, harness), outcome=Outcome.INFRA_ERROR)

    def forget(self, jobs: Sequence[Job]) -> None:
        self.forgotten += jobs


async def test_of_an_outage_nothing_is_remembered_so_that_a_resumed_run_asks_again():
    world = Dead()
    evaluator = Evaluator(world, {**tasks("ab", 2, 2), CANARY: [Task("cheat", "trap")]})
    candidate: Any = SimpleNamespace(parent=H0, harness=holding("x"))
    for asking in (evaluator.evaluate(H0, VALIDATION, 2), evaluator.record(H0, 1), Canaries(evaluator)(candidate)):
        with pytest.raises(Outage):
            await asking
        assert world.forgotten == world.jobs
    assert {job.split for job in world.jobs} == {VALIDATION, EVOLVE, CANARY}


# --- what the proposer reads ------------------------------------------------------------------------------


class Told(World):
    """Rollouts whose steps name the harness: a malformed call, which the digester finds."""

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        return [[(result, _told(result)) for result in arms] for arms in await self.run(jobs, on_result)]


def _told(result: RolloutResult) -> str:
    call = ToolCall("c1", "act", {"command": "look"})
    asked = Exchange("main", 0, (Message("user", "go"),), ModelResponse("", (call,)))
    steps = [Step(n, [asked], [ToolExchange(call, "Nothing happens.", is_error=True)]) for n in (1, 2, 3)]
    return Trajectory(result.task_id, result.attempt, result.harness, steps=steps, outcome=result.outcome).to_jsonl()


class Reader(ScriptedMeta):
    """Notes what it is given to read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read: list[tuple[str, set[str]]] = []

    async def propose(self, brief: Brief) -> Any:
        self.read.append((brief.incumbent.digest, {t.harness for t in brief.trajectories}))
        return await super().propose(brief)


@pytest.mark.parametrize("search", [Pareto(), Archive()], ids=named)
async def test_the_proposer_reads_the_trajectories_of_the_rounds_parent_and_no_others(tmp_path, search):
    edits = [[{"op": "insert", "processor": {"_target_": "harnessx.processors.Instructions", "text": text}}]
             for text in ("stone", "next")]  # fmt: skip
    (tmp_path / "script.yaml").write_text(json.dumps([{"propose": [{"edit": edit}]} for edit in edits]))
    meta = Reader(str(tmp_path / "script.yaml"))
    run = Bench(Told({"stone": {"a": 0.1, "b": 0.1}}), tasks("ab", 6, 6), propose, cap=12)
    run.engine = replace(run.engine, meta=meta, actionability=0.0)
    parents = iter([holding("stone")])
    search.parent = lambda population, rng: population.members[next(parents).digest]
    await run.run(search, tmp_path / "run", rounds=2)
    stone = holding("stone").digest
    assert meta.read == [(H0.digest, {H0.digest}), (stone, {stone})]
    kept = (tmp_path / "run/R2/trajectories/evolve.jsonl").read_text()
    assert stone in kept
    assert H0.digest not in kept
    (first, second) = lines(tmp_path / "run", "candidates.jsonl")
    assert (first["parent"], second["parent"]) == (H0.digest, H0.digest)  # judged against what is deployed


# --- drift ------------------------------------------------------------------------------------------------


class Misleading(World):
    """The edit helps evolve tasks and harms validation tasks."""

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        played = super()._play(job, harness)
        if "bad" not in levers(harness):
            return played
        return replace(played, outcome=Outcome.PASSED if job.split == EVOLVE else Outcome.FAILED)


def watched(run: Bench) -> Bench:
    caps = DriftConfig(pairs=100, rounds=4, check=400, cap=4000)
    run.engine = replace(run.engine, drift=DriftWatch(run.engine.evaluator, run.draws, H0, caps))
    return run


@pytest.mark.parametrize("strategy", LINES, ids=named)
async def test_an_unconfirmed_ship_that_harms_is_rolled_back(tmp_path, strategy):
    run = watched(Bench(Misleading({}, base=0.5), tasks("ab", 15, 20), proposing(["bad"], []), rule="seesaw"))
    result = await run.run(strategy, tmp_path, rounds=2)
    assert [r["verdict"] for r in lines(tmp_path, "candidates.jsonl")] == ["ship"]
    (drift,) = lines(tmp_path, "drift.jsonl")
    assert (drift["action"], drift["best"], drift["harness"]) == ("rolled_back", H0.digest, H0.digest)
    assert result.final.digest == H0.digest
    assert load_system(str(tmp_path / "best"), benchmark=None) == H0


async def test_a_pool_whose_every_change_was_confirmed_costs_nothing_to_watch(tmp_path):
    effects = {"left": {"a": 0.4, "b": -0.5}, "right": {"a": -0.5, "b": 0.4}}
    run = watched(Bench(World(effects), tasks("ab", 15, 20), proposing(["left"], ["right"])))
    result = await run.run(Ensemble(2), tmp_path, rounds=3)
    assert isinstance(result.final, RoutedPool)
    assert not (tmp_path / "data/drift.jsonl").exists()
    watch = run.engine.drift
    assert watch is not None
    assert not any(map(changed(watch.best, result.final), run.engine.evaluator.tasks[VALIDATION]))


async def test_a_pool_that_slid_gives_way_to_the_pool_that_was_confirmed(tmp_path):
    """Variants and routes come back, not H_0: the first change was confirmed and the second was not."""
    run = watched(Bench(Misleading({"left": {"a": 0.4, "b": -0.5}}), tasks("ab", 15, 20), proposing(["left"], [])))
    pool = (await run.run(Ensemble(2), tmp_path / "first", rounds=1)).final
    assert isinstance(pool, RoutedPool)
    watch = run.engine.drift
    assert watch is not None
    place = pool.routes["a"]
    slid = pool.swapped(place, holding("left", "bad"))
    report = await watch.check(slid)
    assert report is not None
    assert (report.action, report.harness) == ("rolled_back", watch.best)
    assert watch.best.digest == pool.digest


# --- evidence that may go on ------------------------------------------------------------------------------


async def test_a_suspended_trial_goes_on_when_every_decision_is_spent_and_no_new_one_begins(tmp_path):
    run = Bench(World({}), tasks("ab", 5, 5), proposing(["idle", "other"], ["idle"]), cap=20, decisions=1, max_trials=1)
    await run.run(Global(), tmp_path, rounds=2)
    found = [(r["id"], r["verdict"], r["pairs"], r["reason"]) for r in lines(tmp_path, "candidates.jsonl")]
    assert [(f[0], f[1], f[2]) for f in found if f[2]] == [("C-R1-01", "undecided", 20), ("C-R2-01", "undecided", 40)]
    assert run.ledger.opened == 1
    fresh = Bench(World({}), tasks("ab", 5, 5), proposing(["idle"], ["other"]), cap=20, decisions=1)
    await fresh.run(Global(), tmp_path / "fresh", rounds=2)
    last = lines(tmp_path / "fresh", "candidates.jsonl")[-1]
    assert (last["verdict"], last["reason"], last["pairs"]) == ("not_tested", "every planned decision is spent", 0)
    assert not [j for j in fresh.world.jobs if j.split == VALIDATION and holding("other") in j.arms]
