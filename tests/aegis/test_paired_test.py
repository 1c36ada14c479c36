"""The paired test: when it ships, rejects and gives up, and what missing pairs may do."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.statistics import (
    PairedTest,
    Superiority,
    Verdict,
    expected_pairs,
)


def fed(process, ds):
    for d in ds:
        process.update(d)
    return process


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
