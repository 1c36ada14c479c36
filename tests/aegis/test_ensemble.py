"""Variant isolation: forks, routes, retirement and the scoped gate, in a world whose rates are known."""

from __future__ import annotations

import json

import pytest
from evolve_drive import lasting
from simulated import H0, Bench, World, holding, levers, proposing, tasks

from aegis.evaluator import VALIDATION
from aegis.gate.confirmation import FIRST_FRESH_ATTEMPT
from aegis.record import Decision, RouteRecord
from aegis.routing import RoutedPool
from aegis.settings import load_harness, load_system
from aegis.strategies.ensemble import Ensemble, _Isolation
from aegis.strategies.global_ import Global
from aegis.strategies.router import Fit
from harnessx.errors import UserError

CONFLICT = {"left": {"a": 0.4, "b": -0.5}, "right": {"a": -0.5, "b": 0.4}}
"""Each edit gains on one cluster and loses more on the other: one incumbent can have neither."""


async def test_an_edit_that_helps_one_cluster_and_harms_another_becomes_a_variant_of_its_own(tmp_path):
    bench = Bench(World(CONFLICT), tasks("ab", 15, 20), proposing(["left"], ["right"]))
    result = await bench.run(Ensemble(2), tmp_path, rounds=3)
    pool = result.final
    assert isinstance(pool, RoutedPool)
    served = {cluster: levers(pool.variants[index]) for cluster, index in pool.routes.items()}
    assert served == {"a": ("left",), "b": ("right",)}
    rates = {c: bench.world.rate(pool.variants[i], c) for c, i in pool.routes.items()}
    assert rates == {"a": 0.9, "b": 0.9}


async def test_global_ships_neither(tmp_path):
    bench = Bench(World(CONFLICT), tasks("ab", 15, 20), proposing(["left"], ["right"]))
    result = await bench.run(Global(), tmp_path, rounds=3)
    assert result.final == H0


@pytest.fixture
async def forked(tmp_path):
    """A run with a fork."""
    bench = Bench(World(CONFLICT), tasks("ab", 15, 20), proposing(["left"], ["right"]))
    return bench, await bench.run(Ensemble(2), tmp_path, rounds=3), tmp_path


async def test_every_decision_has_a_level_of_the_one_ledger(forked):
    bench, _, folder = forked
    lines = (folder / "data/routes.jsonl").read_text().splitlines()
    routes = [RouteRecord.from_json(json.loads(line)) for line in lines]
    candidates = [json.loads(line) for line in (folder / "data/candidates.jsonl").read_text().splitlines()]
    trials = [c for c in candidates if c["check"] == "confirmation" or "before: confirmation" in c["reason"]]
    assert bench.ledger.opened == len(trials) + len(routes)
    assert {r.alpha for r in routes} == {0.05 / 24}
    assert all(r.e_value >= 1 / r.alpha for r in routes if r.verdict is Decision.SHIP)
    fork = next(c for c in candidates if c["check"] == "fork")
    assert fork["verdict"] == "ship"
    assert fork["reason"].startswith("a variant of its own for a; before: ")


async def test_a_fork_is_confirmed_on_fresh_draws_of_its_cluster_alone(forked):
    bench, result, _ = forked
    left = result.final.variants[result.final.routes["a"]]
    confirming = [j for j in bench.world.jobs if j.split == VALIDATION and left in j.arms and len(j.arms) == 2]
    first = [j for j in confirming if H0 in j.arms]
    assert first
    assert {j.task.cluster for j in first} == {"a"}
    attempts = [j.attempt for j in bench.world.jobs if j.split == VALIDATION]
    assert min(attempts) >= FIRST_FRESH_ATTEMPT
    assert len(attempts) == len(set(attempts))


async def test_best_holds_the_router_and_its_variants_and_can_be_loaded(forked):
    _, result, folder = forked
    best = load_system(str(folder / "best"), benchmark=None)
    assert best == result.final
    assert best.digest == result.final.digest
    entries = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert entries[-1]["successor"] == result.final.digest
    with pytest.raises(UserError, match="is a pool of variants"):
        load_harness(str(folder / "best"), benchmark=None)


async def test_a_second_run_into_the_same_folder_writes_the_same_bytes(forked):
    _, result, folder = forked
    before = lasting(folder)
    again = Bench(World(CONFLICT), tasks("ab", 15, 20), proposing(["left"], ["right"]))
    assert await again.run(Ensemble(2), folder, rounds=3) == result
    assert lasting(folder) == before


async def test_the_gate_of_a_variant_asks_its_own_tasks_only(tmp_path):
    """An edit that helps b and harms a ships to the variant of b, where one incumbent would have refused it."""
    effects = {**CONFLICT, "late": {"a": -0.5, "b": 0.4}}
    bench = Bench(World(effects), tasks("ab", 15, 20), proposing(["left"], ["late"]), candidates=1)
    result = await bench.run(Ensemble(2), tmp_path, rounds=2)
    pool = result.final
    assert {c: levers(pool.variants[i]) for c, i in pool.routes.items()} == {"a": ("left",), "b": ("late",)}
    record = [json.loads(x) for x in (tmp_path / "data/candidates.jsonl").read_text().splitlines()][-1]
    assert (record["title"], record["check"], record["verdict"]) == ("late", "confirmation", "ship")
    tested = [job for job in bench.world.jobs if holding("late") in job.arms and job.split == VALIDATION]
    assert {job.task.cluster for job in tested} == {"b"}


async def test_in_a_full_pool_the_weakest_retires_if_all_that_moves_gains_together(tmp_path):
    effects = {
        "left": {"a": 0.4, "b": -0.4, "c": -0.4},
        "mild": {"a": -0.4, "b": 0.3, "c": -0.4},
        "right": {"a": -0.4, "b": 0.35, "c": 0.5},
    }
    script = proposing(["left"], ["mild"], ["right"])
    bench = Bench(World(effects, base=0.4), tasks("abc", 12, 15), script)
    result = await bench.run(Ensemble(2), tmp_path, rounds=6)
    pool = result.final
    assert len(pool.variants) == 2
    assert {c: levers(pool.variants[i]) for c, i in pool.routes.items()}["c"] == ("right",)
    true = sum(bench.world.rate(pool.variants[i], c) for c, i in pool.routes.items()) / 3
    assert true > 0.7


async def test_a_pool_of_one_never_forks(tmp_path):
    bench = Bench(World(CONFLICT), tasks("ab", 15, 20), proposing(["left"], ["right"]))
    assert (await bench.run(Ensemble(1), tmp_path, rounds=3)).final == H0
    assert not (tmp_path / "data/routes.jsonl").exists()


async def test_a_fork_passes_every_other_check_of_the_gate(tmp_path):
    script = proposing(["left"])
    gate = {"approval": "deny", "risk_threshold": "prompt"}
    bench = Bench(World(CONFLICT), tasks("ab", 15, 20), script, **gate)
    assert (
        await bench.run(Ensemble(2), tmp_path / "allowed", rounds=1)
    ).final != H0  # a prompt is within the threshold
    bench = Bench(World(CONFLICT), tasks("ab", 15, 20), script, max_token_ratio=0.5)
    assert (await bench.run(Ensemble(2), tmp_path / "refused", rounds=1)).final == H0
    record = json.loads((tmp_path / "refused/data/candidates.jsonl").read_text())
    assert "; as a fork, budget: buys its gain with a wider budget: 1.00 times the tokens" in record["reason"]
    assert bench.ledger.opened == 0


NOISE = {f"noise {n}": {} for n in range(4)}


async def ships_noise(seed: int, **gate: object) -> bool:
    """Whether a pool changes in four rounds of useless candidates that redraw every outcome."""
    script = proposing(*[[f"noise {4 * r + i} of {seed}" for i in range(4)] for r in range(4)])
    split = tasks("abcd", 8, 10)
    bench = Bench(World(NOISE, coupled=False), split, script, seed=seed, cap=96, slack=0.3, decisions=12, **gate)
    fit = Fit.over(split["evolve"])
    isolation = _Isolation(bench.engine, 4, fit, RoutedPool((H0,), dict.fromkeys(fit.clusters, 0)))
    for number in range(1, 5):
        await isolation.round(number)
    return isolation.pool.digest != H0.digest


async def test_useless_variants_are_seldom_shipped_and_always_look_good_in_sample():
    """Rule 13: what routes on evolve attempts looks better than it is. Fresh draws see through it."""
    runs = 40
    confirmed = sum([await ships_noise(seed) for seed in range(runs)])
    believed = sum([await ships_noise(seed, rule="seesaw", veto=10**6) for seed in range(runs)])
    assert confirmed <= 0.05 * runs
    assert believed >= 0.5 * runs
