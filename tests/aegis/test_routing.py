"""A pool behind a router: its digest is its behaviour, its bundle comes back, and its fit follows the rates."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import H0, holding

from aegis.routing import ROUTER, RoutedPool, changed, serving
from aegis.strategies.router import Fit
from harnessx.errors import HarnessInvalid, UserError
from harnessx.tasks import Task

VARIANTS = (H0, holding("x"), holding("y"))
TASKS = [Task("play", f"{c}{i}", c) for c in "abc" for i in range(2)]
routes = st.fixed_dictionaries({c: st.integers(0, 2) for c in "abc"})
pools = st.builds(RoutedPool, st.permutations(VARIANTS).map(tuple), routes, st.integers(0, 2))


def behaviour(pool: RoutedPool) -> list[str]:
    return [serving(pool, task).digest for task in [*TASKS, Task("new", "n", "unseen")]]


@given(pools, pools)
def test_two_pools_have_one_digest_if_and_only_if_they_behave_alike(one, other):
    assert (one.digest == other.digest) == (behaviour(one) == behaviour(other))
    assert [changed(one, other)(t) for t in TASKS] == [serving(one, t) != serving(other, t) for t in TASKS]


@given(pools)
def test_a_variant_that_serves_nothing_can_go_and_no_other(pool):
    for index in range(3):
        if pool.clusters(index) or pool.default == index:
            with pytest.raises(ValueError, match="still serves"):
                pool.without(index)
        else:
            assert behaviour(pool.without(index)) == behaviour(pool)


def write(pool, folder):
    for path, text in pool.files().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_a_bundle_comes_back_as_the_pool_it_was(tmp_path):
    pool = RoutedPool(VARIANTS, {"a": 0, "b": 2, "c": 1}, 1)
    write(pool, tmp_path)
    assert RoutedPool.load(tmp_path) == pool
    assert type(H0).load(tmp_path) == pool.variants[1]  # whoever knows no router gets the variant of unseen tasks


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"default": "V9"}, "is not a router"),
        ({"routes": {"a": "V9"}}, "is not a router"),
        ({"routes": ["a"]}, "is not a router"),
        ({"format": 2}, "this version reads 1"),
    ],
)
def test_a_router_that_names_what_is_not_there_is_refused_in_a_line(tmp_path, change, said):
    write(RoutedPool(VARIANTS, {"a": 0}), tmp_path)
    file = tmp_path / ROUTER
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=said) as error:
        RoutedPool.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_variant_that_is_missing_is_named(tmp_path):
    write(RoutedPool(VARIANTS, {"a": 0}), tmp_path)
    (tmp_path / "variants/V3/harness.yaml").unlink()
    with pytest.raises(HarnessInvalid, match="V3"):
        RoutedPool.load(tmp_path)


solved = st.fixed_dictionaries({t.id: st.sampled_from([0.0, 0.5, 1.0]) for t in TASKS})


@given(pools, st.tuples(solved, solved, solved))
def test_fitted_routes_serve_every_cluster_best_and_what_ties_stays(pool, rates):
    fit = Fit.over(TASKS)
    for variant, rate in zip(VARIANTS, rates, strict=True):
        fit.rates[variant.digest] = rate
    fitted = fit.fitted(pool)
    for cluster in "abc":
        best = max(fit.solved(v, cluster) for v in VARIANTS)
        assert fit.solved(fitted.variants[fitted.routes[cluster]], cluster) == best
        if fit.solved(pool.variants[pool.routes[cluster]], cluster) == best:
            assert fitted.routes[cluster] == pool.routes[cluster]
    assert fit.gain(pool, fitted) >= 0
    settled = fit.settled(pool)
    assert fit.overall(settled.variants[settled.default]) == max(map(fit.overall, VARIANTS))
    assert replace(settled, default=pool.default) == pool


@given(pools, st.tuples(solved, solved, solved), st.integers(0, 2))
def test_the_weakest_is_the_one_whose_tasks_lose_least_and_never_the_one_to_keep(pool, rates, keep):
    fit = Fit.over(TASKS)
    for variant, rate in zip(VARIANTS, rates, strict=True):
        fit.rates[variant.digest] = rate
    smaller = fit.retired(pool, keep)
    assert len(smaller.variants) == 2
    assert pool.variants[keep] in smaller.variants
    idle = [i for i in range(3) if i != keep and not pool.clusters(i)]
    assert fit.gain(pool, smaller) >= 0 or not idle
