"""What the gate's statistics promise, by hand-computed values, laws and seeded simulation."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.statistics import (
    ClusterHarm,
    DriftDetector,
    Elond,
    Futility,
    Harm,
    LedgerSpent,
    NonInferiority,
    Spending,
    Superiority,
)

differences = st.lists(st.sampled_from([-1, 0, 1]), max_size=200)


def fed(process, ds):
    for d in ds:
        process.update(d)
    return process


# --- e-processes -------------------------------------------------------------------------------------


def test_superiority_is_the_mean_over_bets_of_the_product_of_factors():
    process = fed(Superiority(bets=(0.2, 0.5)), [1, 0, -1, 1])
    assert process.e_value == pytest.approx((1.2 * 0.8 * 1.2 + 1.5 * 0.5 * 1.5) / 2)


def test_harm_is_superiority_of_the_incumbent():
    assert fed(Harm(), [1, -1, -1, 0]).e_value == pytest.approx(fed(Superiority(), [-1, 1, 1, 0]).e_value)


def test_futility_bets_that_the_difference_is_below_the_effect_of_interest():
    process = fed(Futility(mei=0.2, bets=(0.5,)), [1, 0, -1])
    assert process.e_value == pytest.approx(0.5 * (1 + 0.5 * 0.25) * (1 + 0.5 * 1.5))


def test_an_edit_without_effect_is_given_up_at_half_over_the_least_possible_price():
    process, least = Futility(), math.log(10) / math.log(1.03)
    pairs = next(n for n in itertools.count(1) if fed(process, [0]).e_value >= process.stop)
    assert least <= pairs <= 1.6 * least


@given(differences)
def test_e_values_are_finite_and_never_negative(ds):
    for process in (Superiority(), Harm(), Futility(), NonInferiority(0.1)):
        assert 0 <= fed(process, ds).e_value < math.inf


def test_evidence_beyond_the_range_of_floats_stays_a_number():
    e_value = fed(Superiority(), [1] * 5000).e_value
    assert math.isfinite(e_value)
    json.dumps(e_value, allow_nan=False)


@given(differences, st.randoms())
def test_the_e_value_depends_on_the_draws_and_not_on_their_order(ds, rng):
    shuffled = rng.sample(ds, len(ds))
    for make in (Superiority, Harm, Futility, lambda: NonInferiority(0.1)):
        assert fed(make(), ds).e_value == fed(make(), shuffled).e_value


@given(differences)
def test_each_step_is_a_fair_bet_at_the_edge_of_the_claim(ds):
    """One-step check of the supermartingale: with μ = 0, E does not grow on average."""
    now, up, down = (fed(Superiority(), [*ds, *more]).log_e_value for more in ([], [1], [-1]))
    assert (math.exp(up - now) + math.exp(down - now)) / 2 == pytest.approx(1)


@given(differences)
def test_futility_is_fair_where_the_gain_is_exactly_the_effect_of_interest(ds):
    mei = 0.1
    now, up, tie = (fed(Futility(mei), [*ds, *more]).log_e_value for more in ([], [1], [0]))
    assert mei * math.exp(up - now) + (1 - mei) * math.exp(tie - now) == pytest.approx(1)


@given(differences, st.floats(0.01, 0.5))
def test_non_inferiority_is_fair_where_the_loss_is_exactly_the_margin(ds, margin):
    now, down, tie = (fed(NonInferiority(margin), [*ds, *more]).log_e_value for more in ([], [-1], [0]))
    assert margin * math.exp(down - now) + (1 - margin) * math.exp(tie - now) == pytest.approx(1)


def test_a_complete_pass_is_a_fair_bet_whatever_the_tasks():
    """Rule 3: E of a pass over heterogeneous tasks with mean zero, by exact enumeration."""
    tasks = [(0.9, 0.0), (0.0, 0.9), (0.5, 0.2), (0.2, 0.5)]
    expectation = 0.0
    for outcome in itertools.product((1, 0, -1), repeat=len(tasks)):
        chance = math.prod({1: g, -1: loss, 0: 1 - g - loss}[d] for (g, loss), d in zip(tasks, outcome, strict=True))
        expectation += chance * fed(Superiority(), outcome).e_value
    assert expectation <= 1


@pytest.mark.parametrize("d", [2, -2, 0.5, None])
def test_what_is_no_pair_is_refused(d):
    with pytest.raises(ValueError, match="a pair differs by"):
        Superiority().update(d)


@pytest.mark.parametrize("bets", [(), (1.0,), (-0.1,)])
def test_bets_that_could_ruin_or_reverse_the_bettor_are_refused(bets):
    with pytest.raises(ValueError, match="bets must be"):
        Superiority(bets)


# --- validity by simulation --------------------------------------------------------------------------


RUNS, PAIRS = 400, 250


def null_population(name: str, rng: random.Random) -> list[tuple[float, float]]:
    """(chance of +1, chance of −1) of each task; the mean difference over the tasks is ≤ 0."""
    if name == "independent arms":
        rates = [rng.betavariate(0.25, 0.15) for _ in range(103)]
        return [(p * (1 - p), p * (1 - p)) for p in rates]
    if name == "ten tasks gain what others lose":
        return [(0.6, 0.0)] * 10 + [(0.0, 6 / 93)] * 93
    if name == "rare fatal trigger":
        return [(0.4, 0.0)] * 10 + [(0.0, 0.08)] * 93
    return [(0.5, 0.5)] * 103


@pytest.mark.parametrize(
    "name", ["independent arms", "ten tasks gain what others lose", "rare fatal trigger", "coin flips"]
)
def test_a_null_candidate_ever_reaches_the_threshold_in_at_most_five_percent_of_runs(name):
    rng = random.Random(f"nulls/{name}")
    tasks = null_population(name, rng)
    shipped = 0
    for _ in range(RUNS):
        process = Superiority()
        for _ in range(PAIRS):
            gain, loss = rng.choice(tasks)
            draw = rng.random()
            d = 1 if draw < gain else -1 if draw < gain + loss else 0
            process.update(d)
            if d == 1 and process.e_value >= 20:
                shipped += 1
                break
    assert shipped <= 0.05 * RUNS


def test_a_candidate_with_the_effect_of_interest_is_given_up_in_at_most_a_tenth_of_runs():
    rng = random.Random(2)
    given_up = 0
    for _ in range(RUNS):
        process = Futility(mei=0.1)
        for _ in range(PAIRS):
            process.update(rng.choices((1, 0, -1), (0.2, 0.7, 0.1))[0])
            if process.e_value >= process.stop:
                given_up += 1
                break
    assert given_up <= 0.10 * RUNS


def test_drift_alarms_falsely_in_at_most_five_percent_of_runs_and_sees_a_late_slide():
    rng = random.Random(3)

    def alarmed(late: tuple[float, float, float]) -> bool:
        detector = DriftDetector(rounds=8)
        for round_ in range(8):
            detector.start_round()
            for _ in range(25):
                detector.update(rng.choices((1, 0, -1), (0.1, 0.8, 0.1) if round_ < 5 else late)[0])
        return detector.alarmed

    assert sum(alarmed((0.1, 0.8, 0.1)) for _ in range(100)) <= 5
    assert sum(alarmed((0.05, 0.55, 0.4)) for _ in range(20)) >= 18


# --- drift and harm ----------------------------------------------------------------------------------


def test_drift_is_the_mean_over_planned_rounds_of_processes_started_each_round():
    detector = DriftDetector(rounds=4, bets=(0.5,))
    assert detector.e_value == 1
    detector.start_round()
    detector.update(-1)
    detector.start_round()
    detector.update(-1)
    assert detector.e_value == pytest.approx((1.5**2 + 1.5 + 1 + 1) / 4)


def test_a_drift_alarm_stays_on():
    detector = DriftDetector(rounds=1)
    detector.start_round()
    fed(detector, [-1] * 12)
    assert detector.alarmed
    fed(detector, [1] * 40)
    assert detector.e_value < 20
    assert detector.alarmed


def test_drift_refuses_more_rounds_than_planned_and_pairs_before_a_round():
    detector = DriftDetector(rounds=1)
    with pytest.raises(ValueError, match="start a round"):
        detector.update(0)
    detector.start_round()
    with pytest.raises(ValueError, match="all have started"):
        detector.start_round()


def test_only_the_harmed_cluster_is_named_and_more_clusters_need_more_evidence():
    few, many = ClusterHarm(["a", "b"]), ClusterHarm("abcdefghij")
    for _ in range(30):
        few.update("b", 0)
        if not few.harmed:
            few.update("a", -1)
            many.update("a", -1)
    assert few.harmed == ("a",)
    assert many.harmed == ()
    with pytest.raises(KeyError):
        few.update("c", 0)


# --- ledgers -----------------------------------------------------------------------------------------


def test_spending_gives_out_exactly_the_level_of_the_run_and_no_more():
    ledger = Spending(0.05, planned=60)
    assert math.fsum(ledger.open() for _ in range(60)) == pytest.approx(0.05)
    assert ledger.remaining == 0
    with pytest.raises(LedgerSpent, match="all 60 planned decisions"):
        ledger.open()


def test_ships_do_not_raise_the_levels_of_spending_but_do_those_of_elond():
    spending, elond = Spending(0.05, planned=10), Elond(0.05, planned=10)
    levels = []
    for ledger in (spending, elond):
        first = ledger.open()
        ledger.ship()
        levels.append((first, ledger.open()))
    assert levels == [(0.005, 0.005), (0.005, 0.01)]


def test_elond_without_ships_spends_what_spending_spends():
    ledger = Elond(0.05, planned=7)
    assert math.fsum(ledger.open() for _ in range(7)) == pytest.approx(0.05)


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_elond_levels_stay_within_the_level_per_ship(ships):
    """The step of the FDR proof: Σ α_t over the ships ≤ α · (number of ships)."""
    ledger, spent = Elond(0.05, planned=len(ships)), 0.0
    for ship in ships:
        level = ledger.open()
        if ship:
            ledger.ship()
            spent += level
    assert spent <= 0.05 * sum(ships) + 1e-12


def test_nothing_ships_that_was_not_opened():
    with pytest.raises(ValueError, match="0 decisions were opened"):
        Spending(0.05, planned=2).ship()
