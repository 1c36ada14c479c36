"""Forks meet every check that other candidates meet, and keep what they won when a round ends badly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated import H0, Bench, World, levers, proposing, tasks

from aegis.evaluator import CANARY, VALIDATION
from aegis.gate.canary import Canary
from aegis.record import Decision, RouteRecord
from aegis.round import Engine, Round
from aegis.routing import RoutedPool
from aegis.strategies.archive import Archive
from aegis.strategies.ensemble import Ensemble
from aegis.strategies.global_ import Global
from aegis.strategies.pareto import Pareto
from harnessx.errors import Outcome
from harnessx.harness import HarnessConfig
from harnessx.messages import ToolCall
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task
from harnessx.trajectory import Step, ToolExchange, Trajectory

DIVIDING = {"left": {"a": 0.4, "b": -0.5}}
"""Vetoed by its screening, and a variant for cluster a."""


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data/candidates.jsonl").read_text().splitlines()]


def routes(folder: Path) -> list[RouteRecord]:
    lines = (folder / "data/routes.jsonl").read_text().splitlines()
    return [RouteRecord.from_json(json.loads(line)) for line in lines]


# --- every check ----------------------------------------------------------------------------------------


class Trapped(World):
    """The edit passes the canaries too."""

    def rate(self, harness: HarnessConfig, cluster: str) -> float:
        return float("left" in levers(harness)) if cluster == "trap" else super().rate(harness, cluster)


async def test_a_fork_that_passes_a_canary_is_refused_and_flagged_before_it_is_confirmed(tmp_path):
    split = {**tasks("ab", 15, 20), CANARY: tuple(Task("cheat", f"trap-{n}", "trap") for n in range(3))}
    bench = Bench(Trapped(DIVIDING), split, proposing(["left"]))
    assert (await bench.run(Ensemble(2), tmp_path, rounds=1)).final == H0
    (record,) = records(tmp_path)
    assert "; as a fork, canary: passes 3 of 3 canary tasks, which nothing but" in record["reason"]
    assert (record["verdict"], record["flagged"], bench.ledger.opened) == ("reject", True, 0)


class Telling(World):
    """Attempts show three acts each, but those of the edit, which show none, where ``hollow``."""

    hollow = True

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        return [[(result, self._told(result, arm)) for result, arm in zip(arms, job.arms, strict=True)]
                for job, arms in zip(jobs, await self.run(jobs), strict=True)]  # fmt: skip

    def _told(self, result: RolloutResult, harness: HarnessConfig) -> str:
        acts = 0 if self.hollow and "left" in levers(harness) else 3
        calls = [ToolExchange(ToolCall(str(n), "act", {}), f"saw {n}") for n in range(acts)]
        steps = [Step(1, calls=calls)]
        return Trajectory(
            result.task_id, result.attempt, result.harness, steps=steps, outcome=result.outcome
        ).to_jsonl()


def reading(*script: Sequence[str]) -> Callable[[Engine, HarnessConfig, int], Any]:
    """`proposing`, on the incumbent's trajectories."""
    inner: Any = proposing(*script)

    async def propose(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
        this: Round = await inner(engine, incumbent, number)
        _, this.trajectories = await engine.evaluator.record(incumbent, engine.attempts)
        return this

    return propose


@pytest.mark.parametrize("hollow", [True, False])
async def test_a_fork_that_gains_without_what_passing_takes_is_refused_and_flagged(tmp_path, hollow):
    world = Telling(DIVIDING)
    world.hollow = hollow
    bench = Bench(world, tasks("ab", 15, 20), reading(["left"]))
    result = await bench.run(Ensemble(2), tmp_path, rounds=1)
    (record,) = records(tmp_path)
    assert isinstance(result.final, RoutedPool) is not hollow
    assert record["flagged"] is hollow
    assert ("; as a fork, evidence: " in record["reason"]) is hollow
    assert (bench.ledger.opened > 0) is not hollow


class Dear(World):
    """On validation tasks the edit spends twice as much; its screening shows nothing of it."""

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        played = super()._play(job, harness)
        return replace(played, tokens=2 if job.split == VALIDATION and "left" in levers(harness) else 1)


async def test_a_fork_that_buys_its_gain_on_the_confirming_pairs_is_refused(tmp_path):
    bench = Bench(Dear(DIVIDING), tasks("ab", 15, 20), proposing(["left"]))
    assert (await bench.run(Ensemble(2), tmp_path, rounds=1)).final == H0
    (route,) = routes(tmp_path)
    assert route.verdict is Decision.REJECT
    assert route.reason.startswith("buys its gain with a wider budget: 2.00 times the tokens (at most 1.5)")
    assert route.reason.endswith("confirming pairs pass")
    assert (bench.ledger.opened, bench.ledger.shipped) == (1, 0)


# --- what was not heard ----------------------------------------------------------------------------------


class Failing(World):
    """While ``down``, validation rollouts of the edit cannot be run."""

    down = True

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        played = super()._play(job, harness)
        lost = self.down and job.split == VALIDATION and "left" in levers(harness)
        return replace(played, outcome=Outcome.INFRA_ERROR, trail="1" if lost else "2") if lost else played


async def test_a_route_that_could_not_be_measured_is_asked_for_again_from_nothing(tmp_path):
    world = Failing(DIVIDING)
    again: Any = proposing(["left"])

    async def propose(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
        world.down = number < 2
        return await again(engine, incumbent, number)

    bench = Bench(world, tasks("ab", 15, 20), propose)
    result = await bench.run(Ensemble(2), tmp_path, rounds=2)
    assert isinstance(result.final, RoutedPool)
    assert [(r.round, r.verdict) for r in routes(tmp_path)] == [(1, Decision.UNDECIDED), (2, Decision.SHIP)]
    assert bench.ledger.opened == 2


async def test_a_route_that_had_its_pairs_and_stayed_undecided_is_not_asked_for_again(tmp_path):
    bench = Bench(World(DIVIDING), tasks("ab", 15, 20), proposing(["left"]), cap=12)
    assert (await bench.run(Ensemble(2), tmp_path, rounds=3)).final == H0
    assert [(r.round, r.verdict, r.pairs) for r in routes(tmp_path)] == [(1, Decision.UNDECIDED, 12)]


# --- a provider that changes -----------------------------------------------------------------------------


class Sliding(World):
    """Everything passes as a round begins, and nothing as it ends, on the canary's pairs."""

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        played = super()._play(job, harness)
        if not job.split.startswith("canary/"):
            return played
        return replace(played, outcome=Outcome.PASSED if job.split.endswith("before") else Outcome.FAILED)


@pytest.mark.parametrize("strategy", [Global(), Ensemble(2), Pareto(), Archive()], ids=lambda s: s.name)
async def test_ships_of_a_round_whose_provider_changed_stand_and_open_evidence_does_not(tmp_path, strategy):
    effects = {"good": {"a": 0.4, "b": 0.4}, "weak": {"a": 0.1}, **DIVIDING}
    bench = Bench(Sliding(effects, base=0.4), tasks("ab", 15, 20), proposing(["good", "weak", "left"]), cap=100)
    canary = Canary(bench.engine.evaluator, bench.draws, 40)
    bench.engine = replace(bench.engine, canary=canary)
    result = await bench.run(strategy, tmp_path, rounds=1)
    (entry,) = [e for e in map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines()) if "canary" in e]
    assert entry["canary"][-1] is True
    assert result.final != H0
    assert levers(result.final) == ("good",)  # the ensemble forks nothing
    good, weak = (next(r for r in records(tmp_path) if r["title"] == title) for title in ("good", "weak"))
    assert good["verdict"] == "ship"
    assert (weak["verdict"], weak["e_value"]) == ("undecided", None)
    assert "its evidence is discarded" in weak["reason"]
    assert not (tmp_path / "data/routes.jsonl").exists()
