"""What the gate's statistics promise, by hand-computed values, laws and seeded simulation."""

from __future__ import annotations

import itertools
import json
import math
import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.statistics import (
    ClusterHarm,
    DriftDetector,
    Elond,
    Futility,
    Harm,
    Interval,
    LedgerSpent,
    PairedTest,
    Spending,
    Superiority,
    Verdict,
    bootstrap_mean,
    clopper_pearson,
    expected_pairs,
    hierarchical,
    paired_difference,
    pass_at_k,
    wilson,
)

differences = st.lists(st.sampled_from([-1, 0, 1]), max_size=200)
by_task = st.dictionaries(
    st.text(max_size=3), st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=4), min_size=1, max_size=8
)


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
    for process in (Superiority(), Harm(), Futility()):
        assert 0 <= fed(process, ds).e_value < math.inf


def test_evidence_beyond_the_range_of_floats_stays_a_number():
    e_value = fed(Superiority(), [1] * 5000).e_value
    assert math.isfinite(e_value)
    json.dumps(e_value, allow_nan=False)


@given(differences, st.randoms())
def test_the_e_value_depends_on_the_draws_and_not_on_their_order(ds, rng):
    shuffled = rng.sample(ds, len(ds))
    for make in (Superiority, Harm, Futility):
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


# --- the paired test ---------------------------------------------------------------------------------


def drive(test: PairedTest, pairs) -> Verdict | None:
    for incumbent, candidate in pairs:
        if test.update(incumbent, candidate):
            break
    return test.verdict


WIN, LOSS, TIE = (False, True), (True, False), (True, True)


def test_a_clear_gain_ships_at_the_first_look_that_reaches_one_over_alpha():
    test = PairedTest(0.05, cap=100)
    assert drive(test, [WIN] * 100) is Verdict.SHIP
    assert test.trace[-1].e_value >= 20 > test.trace[-2].e_value
    assert test.trace[-1].wins == test.trace[-1].pairs == len(test.trace)


def test_a_smaller_level_asks_for_more_pairs():
    strict, lenient = PairedTest(0.05 / 60, cap=100), PairedTest(0.05, cap=100)
    drive(strict, [WIN] * 100)
    drive(lenient, [WIN] * 100)
    assert len(strict.trace) > len(lenient.trace)


def test_a_harmful_candidate_is_rejected():
    test = PairedTest(0.05, cap=100)
    assert drive(test, [LOSS] * 100) is Verdict.REJECT
    assert "3 points" in test.reason


def test_without_enough_evidence_the_cap_says_undecided():
    test = PairedTest(0.05, cap=6)
    assert drive(test, [WIN, LOSS, TIE] * 2) is Verdict.UNDECIDED
    assert "cap of 6 pairs" in test.reason


def test_nothing_is_decided_before_the_minimum_of_pairs():
    test = PairedTest(0.05, cap=100, min_pairs=40)
    drive(test, [WIN] * 100)
    assert test.trace[-1].pairs == 40


def test_a_decided_test_takes_no_more_pairs():
    test = PairedTest(0.05, cap=1)
    test.update(*TIE)
    with pytest.raises(ValueError, match="has ended"):
        test.update(*TIE)


def test_with_complete_passes_the_order_of_tasks_cannot_buy_a_ship():
    """A fixed order with the gains first ships under a look after every pair; not at pass ends."""
    one_pass = [WIN] * 12 + [LOSS] * 12
    assert drive(PairedTest(0.05, cap=240), one_pass * 10) is Verdict.SHIP
    assert drive(PairedTest(0.05, cap=240, look_every=24), one_pass * 10) is not Verdict.SHIP


@given(st.lists(st.sampled_from([WIN, LOSS, TIE]), min_size=8, max_size=8), st.randoms())
def test_within_a_pass_the_order_of_tasks_changes_nothing(pairs, rng):
    one, other = PairedTest(0.05, cap=80, look_every=8), PairedTest(0.05, cap=80, look_every=8)
    drive(one, pairs * 10)
    drive(other, [pair for _ in range(10) for pair in rng.sample(pairs, len(pairs))])
    assert (one.verdict, one.trace) == (other.verdict, other.trace)


def test_a_cap_inside_a_pass_is_refused():
    with pytest.raises(ValueError, match="whole number of looks"):
        PairedTest(0.05, cap=100, look_every=103)


def test_a_higher_cap_continues_an_undecided_test_from_its_own_pairs():
    pairs = [WIN, TIE, TIE, LOSS, WIN, WIN] * 40
    capped, longer = PairedTest(0.001, cap=20), PairedTest(0.001, cap=240)
    assert drive(capped, pairs) is Verdict.UNDECIDED
    assert drive(longer, pairs) is Verdict.SHIP
    assert longer.trace[:20] == capped.trace


def test_missing_pairs_count_as_failures_for_shipping_and_not_at_all_for_rejecting():
    whole, holed = PairedTest(0.05, cap=200), PairedTest(0.05, cap=200)
    drive(whole, [WIN] * 3)
    drive(holed, [WIN, (True, None), WIN, WIN])
    assert holed.e_value < whole.e_value
    assert holed.e_value == pytest.approx(fed(Superiority(), [1, 1, 1, -1]).e_value)
    assert holed.trace[-1].futility == whole.trace[-1].futility
    assert holed.trace[-1].missing == 1


@pytest.mark.parametrize(
    ("pair", "d"), [((True, None), -1), ((False, None), 0), ((None, True), -1), ((None, None), -1)]
)
def test_a_missing_pair_is_scored_as_the_worst_it_can_have_been(pair, d):
    test = PairedTest(0.05, cap=10)
    test.update(*pair)
    assert test.e_value == fed(Superiority(), [d]).e_value


@given(st.lists(st.sampled_from([WIN, LOSS, TIE, (True, None), (None, True), (False, None)]), max_size=60))
def test_missing_pairs_never_help_a_candidate(pairs):
    test = PairedTest(1e-12, cap=60, min_pairs=60)
    drive(test, pairs)
    seen = pairs[: len(test.trace)]
    scored = [int(c) - int(i) for i, c in seen if i is not None and c is not None]
    assert test.e_value <= fed(Superiority(), scored).e_value * (1 + 1e-12)


@pytest.mark.parametrize(("pair", "arm"), [((True, None), "candidate"), ((None, True), "incumbent")])
def test_over_two_percent_missing_in_an_arm_stops_the_test_and_says_which(pair, arm):
    test = PairedTest(0.05, cap=400)
    assert drive(test, [TIE] * 30 + [pair] + [TIE] * 30) is None
    assert drive(test, [pair]) is Verdict.UNDECIDED
    assert f"2 of 62 pairs missing in the {arm} arm" in test.reason


def test_expected_pairs_agrees_with_simulation():
    rng, alpha, counts = random.Random(5), 0.05 / 60, []
    for _ in range(60):
        test = PairedTest(alpha, cap=2000)
        while test.verdict is None:
            test.update(*rng.choices((WIN, LOSS, TIE), (0.2, 0.02, 0.78))[0])
        assert test.verdict is Verdict.SHIP
        counts.append(len(test.trace))
    assert np.mean(counts) == pytest.approx(expected_pairs(0.2, 0.02, alpha), rel=0.15)


def test_expected_pairs_grow_with_losses_and_are_infinite_without_a_net_gain():
    prices = [expected_pairs(0.06 + loss, loss, 0.01) for loss in (0.0, 0.02, 0.05)]
    assert prices == sorted(prices)
    assert expected_pairs(0.1, 0.1, 0.05) == math.inf
    with pytest.raises(ValueError, match="no chances"):
        expected_pairs(0.8, 0.3, 0.05)


# --- estimates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 1), (4, 2, 2), (5, 1, 3), (6, 4, 3), (5, 0, 2), (3, 3, 3)])
def test_pass_at_k_is_the_share_of_k_subsets_with_a_pass(n, c, k):
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(2, 1, 3), (2, 1, 0), (2, 3, 1), (2, -1, 1), (0, 0, 1)])
def test_pass_at_k_is_undefined_rather_than_made_up(n, c, k):
    with pytest.raises(ValueError, match=r"undefined|cannot have"):
        pass_at_k(n, c, k)


def test_clopper_pearson_matches_published_values():
    interval = clopper_pearson(8, 10)
    assert (interval.lo, interval.hi) == pytest.approx((0.4439045, 0.9747893), abs=1e-6)
    zero = clopper_pearson(0, 20)
    assert (zero.lo, zero.hi) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)), abs=1e-9)


def test_wilson_matches_its_defining_equation():
    interval, z = wilson(8, 10), NormalDist().inv_cdf(0.975)
    for bound in (interval.lo, interval.hi):
        assert abs(0.8 - bound) / math.sqrt(bound * (1 - bound) / 10) == pytest.approx(z)


def test_clopper_pearson_covers_every_rate_exactly_enough():
    n = 12
    intervals = [clopper_pearson(c, n) for c in range(n + 1)]
    for p in np.linspace(0.02, 0.98, 25):
        covered = sum(
            math.comb(n, c) * p**c * (1 - p) ** (n - c)
            for c, interval in enumerate(intervals)
            if interval.lo <= p <= interval.hi
        )
        assert covered >= 0.95


@given(st.integers(1, 60), st.data())
def test_proportion_intervals_hold_their_rate_and_stay_in_the_unit_interval(n, data):
    passed = data.draw(st.integers(0, n))
    for interval in (clopper_pearson(passed, n), wilson(passed, n)):
        assert 0 <= interval.lo <= interval.mean + 1e-12
        assert interval.mean - 1e-12 <= interval.hi <= 1


@pytest.mark.parametrize("estimate", [clopper_pearson, wilson])
def test_no_rate_is_made_up_from_nothing(estimate):
    with pytest.raises(ValueError, match="no rate"):
        estimate(0, 0)


def test_the_bootstrap_over_tasks_covers_the_population_where_rollouts_would_not():
    rng, covered = np.random.default_rng(7), 0
    for run in range(100):
        rates = rng.beta(0.5, 0.5, size=60)
        values = {str(i): list((rng.random(4) < p).astype(float)) for i, p in enumerate(rates)}
        interval = bootstrap_mean(values, seed=run)
        covered += interval.lo <= 0.5 <= interval.hi
    assert covered >= 88


@settings(max_examples=20, deadline=None)
@given(by_task, st.randoms())
def test_the_order_of_tasks_does_not_steer_the_bootstrap(values, rng):
    shuffled = {task: values[task] for task in rng.sample(list(values), len(values))}
    interval = bootstrap_mean(values, seed=1)
    assert interval == bootstrap_mean(shuffled, seed=1)
    assert interval.lo <= interval.mean + 1e-9
    assert interval.mean - 1e-9 <= interval.hi
    assert interval.n == len(values)


def test_another_seed_draws_another_bootstrap():
    values = {str(i): [1 / (i + 1)] for i in range(30)}
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_a_paired_difference_is_tighter_than_its_arms_and_positive_for_the_second():
    rng = random.Random(9)
    a = {str(i): [float(rng.random() < 0.5)] for i in range(60)}
    b = {task: [1.0] if int(task) % 6 == 0 else value for task, value in a.items()}
    interval, arm = paired_difference(a, b, seed=0), bootstrap_mean(a, seed=0)
    assert 0 < interval.mean < 1 / 6
    assert interval.hi - interval.lo < arm.hi - arm.lo


def test_arms_with_other_tasks_are_not_paired():
    with pytest.raises(ValueError, match="'x'"):
        paired_difference({"x": [1.0]}, {}, seed=0)


def test_the_spread_between_seeds_widens_the_interval():
    seeds = [{str(i): [float((i + s) % 10 < level)] for i in range(50)} for s, level in enumerate((2, 5, 8))]
    across = hierarchical(seeds, seed=0)
    pooled = bootstrap_mean({f"{s}/{task}": v for s, run in enumerate(seeds) for task, v in run.items()}, 0)
    assert across.mean == pytest.approx(pooled.mean)
    assert across.hi - across.lo > 2 * (pooled.hi - pooled.lo)
    assert across.n == 50


def test_one_seed_is_the_bootstrap_over_tasks():
    values = {str(i): [float(i % 2)] for i in range(40)}
    one, plain = hierarchical([values], seed=0), bootstrap_mean(values, seed=0)
    assert (one.lo, one.hi) == pytest.approx((plain.lo, plain.hi), abs=0.03)


@pytest.mark.parametrize(
    "estimate",
    [
        lambda: bootstrap_mean({}, 0),
        lambda: bootstrap_mean({"t": []}, 0),
        lambda: hierarchical([], 0),
        lambda: paired_difference({}, {}, 0),
    ],
)
def test_nothing_is_estimated_from_nothing(estimate):
    with pytest.raises(ValueError, match="no "):
        estimate()


def test_an_interval_is_a_value():
    assert Interval(0.5, 0.4, 0.6, 10) == Interval(0.5, 0.4, 0.6, 10)
    assert len({Interval(0.5, 0.4, 0.6, 10), Interval(0.5, 0.4, 0.6, 10)}) == 1


def test_a_test_off_its_course_is_given_up_as_undecided_and_never_ships():
    test = PairedTest(0.05, cap=100, slack=0.2, mei=0.001)
    while test.verdict is None:
        test.update(True, True)
    assert (test.verdict, test.trace[-1].pairs) == (Verdict.UNDECIDED, 21)
    assert "off course" in test.reason

    patient = PairedTest(0.05, cap=100, mei=0.001)
    while patient.verdict is None:
        patient.update(True, True)
    assert patient.trace[-1].pairs == 100
