"""Estimates with their intervals: rates, means, paired differences, spread between seeds."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist

import numpy as np
import pytest
from gate_drive import evaluation
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.statistics import (
    Interval,
    bootstrap_mean,
    clopper_pearson,
    hierarchical,
    paired_difference,
    pass_at_k,
    wilson,
)

by_task = st.dictionaries(
    st.text(max_size=3), st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=4), min_size=1, max_size=8
)


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


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_handful_of_tasks_that_all_pass_or_all_fail_are_no_certainty(attempts):
    passed = evaluation(**{f"t{i}": "1" * attempts for i in range(6)}).interval(0)
    failed = evaluation(**{f"t{i}": "0" * attempts for i in range(6)}).interval(0)
    assert (passed, failed) == (clopper_pearson(6, 6), clopper_pearson(0, 6))
    assert passed.lo == pytest.approx(0.025 ** (1 / 6))
    mixed = evaluation(a="1" * attempts, b="0" * attempts)
    assert mixed.interval(0) == bootstrap_mean(mixed.outcomes, 0)
    assert evaluation().interval(0) is None
