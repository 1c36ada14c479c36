"""Searches over a population (Pareto, archive) and best of N, in a world whose rates are known."""

from __future__ import annotations

import json
import random

import pytest
from evolve_drive import lasting
from hypothesis import given
from hypothesis import strategies as st
from simulated import H0, Bench, World, holding, levers, proposing, tasks

from aegis.evaluator import EVOLVE, VALIDATION
from aegis.record import Decision
from aegis.strategies.archive import Archive, weight
from aegis.strategies.best_of_n import BestOfN
from aegis.strategies.global_ import Global
from aegis.strategies.pareto import Pareto, frontier
from aegis.strategies.population import Member, Population

HALVES = {"left": {"a": 0.3}, "right": {"b": 0.3}}
"""Two edits, each too small for 100 pairs at this level; together they are not."""


def records(folder):
    return [json.loads(line) for line in (folder / "data/candidates.jsonl").read_text().splitlines()]


def halves() -> Bench:
    """Both halves are proposed once, then nothing: what follows can only come of merging."""
    return Bench(World(HALVES), tasks("ab", 15, 20), proposing(["left", "right"], []), cap=100, alpha=2e-5,
                 bundle=False)  # fmt: skip


async def test_pareto_merges_two_parents_and_ships_what_neither_could(tmp_path):
    bench = halves()
    result = await bench.run(Pareto(), tmp_path, rounds=2)
    assert sorted(levers(result.final)) == ["left", "right"]
    merge = records(tmp_path)[-1]
    assert (merge["id"], merge["verdict"], merge["parent"]) == ("C-R2-05", "ship", H0.digest)
    assert sorted(merge["title"].split("; ")) == ["left", "right"]
    assert (tmp_path / "R2/candidates/C-R2-05/manifest.md").is_file()
    assert [r["verdict"] for r in records(tmp_path)[:2]] == ["undecided", "undecided"]


async def test_global_cannot_merge_without_bundles(tmp_path):
    assert (await halves().run(Global(), tmp_path, rounds=2)).final == H0


STONES = {"step+goal": {"a": 0.4, "b": 0.4}}
"""Neither edit does anything alone."""


def stones() -> Bench:
    return Bench(World(STONES), tasks("ab", 15, 20), proposing(["step", "goal"]), decisions=60, cap=60, slack=0.3)


async def test_the_archive_reaches_over_a_stepping_stone_what_hill_climbing_does_not(tmp_path):
    result = await stones().run(Archive(), tmp_path / "archive", rounds=6)
    assert sorted(levers(result.final)) == ["goal", "step"]
    shipped = [r for r in records(tmp_path / "archive") if r["verdict"] == "ship"]
    assert [r["parent"] for r in shipped] == [H0.digest]  # confirmed against what was deployed, not its parent
    assert (await stones().run(Global(), tmp_path / "global", rounds=6)).final == H0


@pytest.mark.parametrize("search", [Pareto(), Archive()])
async def test_a_second_run_into_the_same_folder_writes_the_same_bytes(tmp_path, search):
    first = await stones().run(search, tmp_path, rounds=4)
    before = lasting(tmp_path)
    assert await stones().run(search, tmp_path, rounds=4) == first
    assert lasting(tmp_path) == before


async def test_what_comes_again_goes_on_where_it_was_under_the_same_incumbent(tmp_path):
    bench = Bench(World({}), tasks("ab", 5, 5), proposing(["idle"]), cap=20, decisions=8)
    search = Archive()
    search.parent = lambda population, rng: population.members[H0.digest]  # type: ignore[method-assign]
    await bench.run(search, tmp_path, rounds=2)
    assert [r["id"] for r in records(tmp_path)] == ["C-R1-01", "C-R2-01"]
    assert [r["pairs"] for r in records(tmp_path)] == [20, 40]
    assert bench.ledger.opened == 1


async def test_unconfirmed_parents_ship_nothing_useless():
    """Forty searches over useless edits that redraw every outcome, at α = 5 %."""
    shipped = 0
    for seed in range(40):
        script = proposing(*[[f"n{seed}/{4 * r + i}" for i in range(4)] for r in range(3)])
        bench = Bench(World({}, coupled=False), tasks("ab", 10, 10), script, seed=seed, cap=64, slack=0.3, decisions=9)
        shipped += await _ships(bench, Archive())
    assert shipped <= 2


async def _ships(bench: Bench, search: Archive) -> bool:
    from aegis.strategies.population import _round

    population, incumbent = Population(), H0
    population.add(Member(H0))
    for number in range(1, 4):
        this = await _round(search, bench.engine, population, incumbent, number)
        incumbent = this.successor
    assert len(population.members) > 4
    return incumbent != H0


# --- choosing parents ---------------------------------------------------------------------------------

rates = st.dictionaries(
    st.text("hijk", min_size=1, max_size=2),
    st.fixed_dictionaries({task: st.sampled_from([0.0, 0.5, 1.0]) for task in "abcd"}),
    min_size=1,
    max_size=6,
)


@given(rates)
def test_on_every_solved_task_a_member_of_the_frontier_is_best(rates):
    found = frontier(rates)
    assert found
    for task in "abcd":
        top = max(rate[task] for rate in rates.values())
        assert top == 0 or any(rates[digest][task] == top and count > 0 for digest, count in found.items())
    for digest in rates.keys() - found.keys():
        assert any(all(rates[f][t] >= rates[digest][t] for t in "abcd") for f in found)


def test_the_frontier_counts_the_tasks_each_is_best_on():
    found = frontier({"all": {"a": 1, "b": 1, "c": 0}, "c": {"a": 0, "b": 0, "c": 1}, "less": {"a": 1, "b": 0, "c": 0}})
    assert found == {"all": 2, "c": 1}


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_a_parent_weighs_more_the_better_and_the_newer_it_is(low, high, children):
    low, high = sorted((low, high))
    assert 0 < weight({"a": low}, children) <= weight({"a": high}, children) < 1
    assert weight({"a": low}, children) > weight({"a": low}, children + 1)


def test_lineages_know_where_they_parted():
    one, two = holding("x"), holding("y")
    root = Member(H0)
    left, right = Member(one, root), Member(two, root)
    assert left.common(right) is not None
    assert left.common(right).harness == H0
    assert Member(holding("x", "z"), left).common(left).harness == one


# --- best of N ----------------------------------------------------------------------------------------


async def test_of_n_proposals_the_best_screened_is_confirmed_and_no_other(tmp_path):
    effects = {f"n{i}": dict.fromkeys("ab", 0.05 if i < 7 else 0.4) for i in range(8)}
    bench = Bench(World(effects), tasks("ab", 20, 20), proposing([f"n{i}" for i in range(8)]))
    result = await bench.run(BestOfN(8), tmp_path, rounds=5)
    assert levers(result.final) == ("n7",)
    assert bench.ledger.opened == 1
    assert result.stopped == "the best of 8 proposals is decided"
    fates = [r["verdict"] for r in records(tmp_path)]
    assert (len(fates), fates.count(Decision.SHIP), fates.count(Decision.NOT_TESTED)) == (
        8,
        1,
        7 - fates.count("reject"),
    )
    assert {len(j.arms) for j in bench.world.jobs if j.split == VALIDATION} == {2}
    assert {j.split for j in bench.world.jobs} == {EVOLVE, VALIDATION}


def test_the_draw_of_a_parent_follows_its_weight():
    population = Population()
    good, bad = holding("x"), holding("y")
    for harness, rate in ((good, 1.0), (bad, 0.5)):
        population.add(Member(harness))
        population.rates[harness.digest] = {"t": rate}
    rng = random.Random(0)
    drawn = [Archive().parent(population, rng).harness == good for _ in range(1000)]
    share = weight({"t": 1.0}, 0) / (weight({"t": 1.0}, 0) + weight({"t": 0.5}, 0))
    assert abs(sum(drawn) / 1000 - share) < 0.05
