"""The testbed knows the truth it judges by, and the calibration refuses a gate that cannot be believed."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from aegis.calibration import GateRefused, calibrate, check_power
from aegis.evaluator import VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.record import Decision
from aegis.record_calibration import Calibration
from aegis.strategies.ensemble import Ensemble
from aegis.strategies.global_ import Global
from aegis.testbed import conflict, drift
from aegis.testbed.null import nothing, study
from aegis.testbed.population import Effect, Kind, Population
from aegis.testbed.runner import SimulatedRunner, edit_of
from aegis.testbed.simulate import Plan, simulate, unlimited
from harnessx.errors import Outcome
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job

POPULATION = Population.drawn(random.Random("tests"))


def effects_of_every_kind(population: Population, rng: random.Random):
    return [
        population.useful("useful", rng, scope=0.3, gain=0.05),
        population.useful("lossy", rng, scope=0.3, gain=0.05, losses=1 / 3),
        population.useful("harmful", rng, scope=0.3, gain=-0.015),
        population.inert("inert"),
        population.useless("useless", rng, scope=0.3, moved=0.04),
        population.rare_harm("rare", rng),
        population.conflicting("conflict", rng, gain=0.05, net=0.0),
        population.budget("budget", rng, gain=0.05),
    ]


@pytest.mark.parametrize(
    ("name", "gain"),
    [("useful", 0.05), ("lossy", 0.05), ("harmful", -0.015), ("inert", 0.0), ("useless", 0.0), ("conflict", 0.0)],
)
def test_an_edit_adds_to_the_mean_what_it_was_made_to_add(name, gain):
    rng = random.Random(1)
    effect = next(e for e in effects_of_every_kind(POPULATION, rng) if e.name == name)
    assert POPULATION.truth([effect]) - POPULATION.truth(()) == pytest.approx(gain, abs=1e-9)


def test_a_rare_trigger_helps_where_it_was_seen_and_costs_more_elsewhere():
    effect = POPULATION.rare_harm("rare", random.Random(1))
    helped = [i for i, acts in enumerate(effect.acts) if acts == 1.0]
    assert len(helped) == 10
    assert all(POPULATION.rate(i, [effect]) >= POPULATION.rates[i] for i in helped)
    assert POPULATION.truth([effect]) < POPULATION.truth(()) - 0.01


def test_drawn_rollouts_have_the_rates_that_the_truth_says():
    rng = random.Random(2)
    effects = {e.name: e for e in effects_of_every_kind(POPULATION, rng)}
    runner = SimulatedRunner(POPULATION, effects, 0)
    tasks = runner.tasks()[VALIDATION]
    harness = HarnessConfig()
    for name in ("lossy", "rare", "useless"):
        harness = edit_of(effects[name]).apply(harness)
    jobs = [Job(VALIDATION, task, attempt, (harness,)) for task in tasks for attempt in range(60)]
    passed = [r[0].passed for r in asyncio.run(runner.run(jobs))]
    assert sum(passed) / len(passed) == pytest.approx(runner.truth(harness), abs=0.015)


def test_two_harnesses_share_an_attempt_unless_something_acts_on_it():
    effects = {e.name: e for e in effects_of_every_kind(POPULATION, random.Random(2))}
    runner = SimulatedRunner(POPULATION, effects, 0)
    bare, edited = HarnessConfig(), edit_of(effects["useful"]).apply(HarnessConfig())
    acting = 0
    for index, task in enumerate(runner.tasks()[VALIDATION]):
        before, after = asyncio.run(runner.run([Job(VALIDATION, task, 7, (bare, edited))]))[0]
        same = before.requests == after.requests
        assert same == (effects["useful"].acts[index] == 0.0)
        if same:
            assert before.passed == after.passed
            assert after.replayed_calls == after.model_calls
        acting += not same
    assert acting == round(0.3 * 103)


def test_a_simulated_run_ships_what_is_good_and_is_the_same_again():
    def offer(population, rng, number):
        return [population.useful(f"r{number}", rng, scope=0.3, gain=0.08), population.inert(f"i{number}")]

    first, second = (simulate(Plan(offer, rounds=3, candidates=2, gate=unlimited()), 5) for _ in range(2))
    assert first.truth == second.truth
    assert [s.kind for s in first.ships].count(Kind.USEFUL) >= 2
    assert first.truth[-1] > first.truth[0] + 0.12
    assert first.truth[-1] - first.truth[0] == pytest.approx(sum(s.gain for s in first.ships))


def test_the_real_gates_checks_stand_in_a_simulated_run():
    def dear(population, rng, number):
        return [population.budget(f"b{number}", rng, gain=0.1)]

    run = simulate(Plan(dear, rounds=2, candidates=1, gate=unlimited()), 0)
    assert [fate.decision for fate in run.fates] == [Decision.REJECT] * 2
    bought = simulate(Plan(dear, rounds=2, candidates=1, gate=replace(unlimited(), allow_budget=True)), 0)
    assert bought.ships


def test_undecided_edits_are_bundled_in_a_simulated_run_too():
    def small(population, rng, number):
        return [population.useful(f"r{number}-{i}", rng, scope=0.5, gain=0.06) for i in range(3)]

    run = simulate(Plan(small, rounds=2, candidates=3, gate=replace(unlimited(), bundle=True, cap=120, mei=0.001)), 2)
    together = [fate for fate in run.fates if fate.kind is Kind.BUNDLE]
    assert [fate.decision for fate in together] == [Decision.SHIP] * len(together) != []
    assert [ship.kind for ship in run.ships].count(Kind.BUNDLE) == len(together)
    assert all(ship.gain > 0.1 for ship in run.ships if ship.kind is Kind.BUNDLE)


def test_the_rules_that_keep_no_promise_are_seen_to_break_it():
    kept, broken, real = "paired, spending", "seesaw, pass@2", "paired, spending, five real"
    rows = {row.rule: row for row in study([kept, broken, real], 6, 0)}
    assert rows[kept].shipped.mean < 0.4
    assert rows[broken].shipped_false.mean > 0.5
    assert rows[real].true_ships > 2


def test_the_command_says_what_share_shipped():
    command = [sys.executable, "-m", "aegis.testbed", "null", "--runs", "4", "--rules", "paired, spending", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["runs_that_shipped_share"] == found["rows"][0]["shipped"]["mean"]
    assert found["rows"][0]["runs"] == 4
    refused = subprocess.run([*command[:4], "--runs", "0"], capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (2, "error: --runs 0: at least one\n")


# --- null calibration ---------------------------------------------------------------------------------


class Unfair(SimulatedRunner):
    """The second of two copies fails more often, as where the first arm leaves something behind."""

    async def run(self, jobs, on_result=None):
        results = await super().run(jobs, on_result)
        for index, arms in enumerate(results):
            if index % 2:
                arms[0] = replace(arms[0], outcome=Outcome.FAILED)
        return results


def calibrated(runner: SimulatedRunner, gate: GateConfig) -> Calibration:
    return asyncio.run(calibrate(Evaluator(runner, runner.tasks()), HarnessConfig(), gate, 24, 0))


def test_copies_give_the_noise_floor_and_the_smallest_gain():
    found = calibrated(SimulatedRunner(POPULATION, {}, 0), GateConfig(calibration=2000, cap=960))
    expected = sum(2 * p * (1 - p) for p in POPULATION.rates) / len(POPULATION.rates)
    assert found.noise == pytest.approx(expected, abs=0.03)
    assert found.null_ship_rate <= found.alpha
    assert found.detectable["1.0"] > found.detectable["0.3"] > 0.03
    assert Calibration.from_json(found.to_json()) == found


def test_arms_that_are_not_run_alike_are_refused():
    with pytest.raises(GateRefused, match="the arms are not run alike"):
        calibrated(Unfair(POPULATION, {}, 0), GateConfig(calibration=128))


class Deaf(SimulatedRunner):
    """Whoever runs second on a draw fails it: what an edit says would not matter."""

    async def run(self, jobs, on_result=None):
        results = await super().run(jobs, on_result)
        return [[arms[0], *(replace(arm, outcome=Outcome.FAILED) for arm in arms[1:])] for arms in results]


class Partial(Unfair):
    """`Unfair` on one cluster of tasks, where the other ones make up for it."""

    async def run(self, jobs, on_result=None):
        fair = await SimulatedRunner.run(self, jobs, on_result)
        results = await super().run(jobs, on_result)
        for index, (job, arms) in enumerate(zip(jobs, results, strict=True)):
            if job.task.cluster != "c0":
                won = index % 2 and job.task.cluster == "c1"
                arms[0] = replace(fair[index][0], outcome=Outcome.PASSED) if won else fair[index][0]
        return results


def test_an_edit_that_says_nothing_is_a_null_too():
    found = calibrated(SimulatedRunner(POPULATION, {}, 0), GateConfig(calibration=40))
    assert found.inert is not None
    assert (found.inert.pairs, found.inert.discordant, found.inert.e_value) == (20, 0, 1.0)
    assert calibrated(SimulatedRunner(POPULATION, {}, 0), GateConfig(calibration=1)).inert is None
    with pytest.raises(GateRefused, match="an edit that says nothing differs from H_0 by -"):
        calibrated(Deaf(POPULATION, {}, 0), GateConfig(calibration=64, cluster_alpha=0.0))


def test_a_null_that_harms_a_cluster_is_refused_by_its_name():
    with pytest.raises(GateRefused, match="a copy of H_0 is found to harm the cluster c0 within 600 pairs"):
        calibrated(Partial(POPULATION, {}, 0), GateConfig(calibration=600))


def test_a_gate_whose_nulls_ship_is_refused(monkeypatch):
    monkeypatch.setattr("aegis.calibration.null_ship_rate", lambda *_: 0.05)
    with pytest.raises(GateRefused, match="edits without effect ship in 5 % of decisions"):
        calibrated(SimulatedRunner(POPULATION, {}, 0), GateConfig(calibration=64))


def test_settings_without_the_power_asked_for_are_refused():
    check_power(GateConfig(), 24, 400)  # nothing was asked
    able = GateConfig(power=0.8, slack=1.0, cap=2000)
    check_power(able, 24, 400)
    with pytest.raises(GateRefused, match=r"raise gate\.cap"):
        check_power(replace(able, cap=100), 24, 400)
    with pytest.raises(GateRefused, match="too few to show"):
        check_power(able, 24, 50)


def test_what_is_offered_as_nothing_is_nothing():
    for effect in nothing(POPULATION, random.Random(3), 1):
        assert POPULATION.truth([effect]) <= POPULATION.truth(()) + 1e-9


def test_conflicting_edits_lift_a_pool_and_not_one_harness():
    """What one half of the clusters gains the other loses: the pool ships it where it helps, and nothing false."""

    def conflicts(population: Population, rng: random.Random, number: int) -> list[Effect]:
        return [population.conflicting(f"e{number}-{i}", rng, gain=0.08, net=0.0) for i in range(2)]

    gate = unlimited(slack=0.3, veto=1)
    runs = {s: [simulate(Plan(conflicts, rounds=4, attempts=2, gate=gate, strategy=s), seed) for seed in range(3)]
            for s in (Global, Ensemble)}  # fmt: skip
    assert all(run.truth[-1] == pytest.approx(run.truth[0]) for run in runs[Global])
    assert all(run.truth[-1] > run.truth[0] + 0.05 for run in runs[Ensemble])
    assert all(run.truth == sorted(run.truth) and run.false_ships == 0 for run in runs[Ensemble])


# --- drift and conflict ---------------------------------------------------------------------------------


def test_losses_round_after_round_are_noticed_and_edits_without_effect_are_not():
    assert all(drift._run(0.015, 0.3, 412, seed)[0] <= 5 for seed in range(4))
    assert all(drift._run(0.0, 0.3, 206, seed)[0] > drift.ROUNDS for seed in range(3))


def test_where_tasks_disagree_a_pool_ends_higher_than_one_harness():
    rows = {row.rule: row for row in conflict.study(2, 0)}
    assert rows["ensemble, paired"].final.mean > rows["global_, paired"].final.mean
    assert rows["ensemble, paired"].false_ships == 0.0
    assert rows["global_, seesaw"].false_ships > 0
    default = rows["ensemble, default gate"]
    assert default.final.mean > rows["global_, default gate"].final.mean
    assert default.rollouts < rows["ensemble, paired"].rollouts
    assert default.fall.hi < 0.01
