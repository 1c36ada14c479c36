"""The sixteen rules of acceptance: where each is kept, and the test that would notice if it were not."""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_confirmation import CLUSTERS, INCUMBENT, World, candidate, confirmed, result

from aegis.evaluator import VALIDATION
from aegis.gate.confirmation import FIRST_FRESH_ATTEMPT, Confirmation, Draws
from aegis.statistics import Spending

ROOT = Path(__file__).parents[2]
GATE, STATISTICS = "aegis/gate/", "aegis/statistics/"
RULES = {
    1: (GATE + "confirmation.py", "aegis/test_rules.py::test_what_is_drawn_depends_on_no_outcome"),
    2: (STATISTICS + "betting.py", "aegis/test_statistics.py::test_each_step_is_a_fair_bet_at_the_edge_of_the_claim"),
    3: (STATISTICS + "betting.py", "aegis/test_statistics.py::test_a_complete_pass_is_a_fair_bet_whatever_the_tasks"),
    4: (GATE + "screen.py", "aegis/test_rules.py::test_only_fresh_validation_attempts_confirm_and_none_twice"),
    5: (STATISTICS + "ledger.py",
        "aegis/test_statistics.py::test_spending_gives_out_exactly_the_level_of_the_run_and_no_more"),
    6: (GATE + "confirmation.py", "aegis/test_undecided.py::test_evidence_is_carried_over_only_if_nothing_has_changed"),
    7: (GATE + "gate.py",
        "aegis/test_gate.py::test_after_a_ship_what_can_be_rebased_is_tested_anew_against_the_new_incumbent"),
    8: (STATISTICS + "betting.py",
        "aegis/test_confirmation.py::"
        "test_a_candidate_that_helps_on_the_whole_but_harms_a_cluster_is_rejected_by_its_name"),
    9: (GATE + "drift.py", "aegis/test_drift.py::test_a_harness_that_is_worse_is_rolled_back_on_fresh_pairs"),
    10: ("aegis/run.py", "aegis/test_resume.py::test_resuming_a_finished_run_changes_nothing_and_runs_nothing"),
    11: (STATISTICS + "intervals.py",
         "aegis/test_estimates.py::test_the_bootstrap_over_tasks_covers_the_population_where_rollouts_would_not"),
    12: ("aegis/calibration.py", "aegis/test_testbed.py::test_an_edit_that_says_nothing_is_a_null_too"),
    13: (GATE + "routes.py",
         "aegis/test_ensemble.py::test_useless_variants_are_seldom_shipped_and_always_look_good_in_sample"),
    14: (GATE + "canary.py",
         "aegis/test_canary.py::test_a_provider_that_stays_the_same_is_accused_in_at_most_the_stated_share_of_runs"),
    15: (GATE + "pairs.py",
         "aegis/test_confirmation.py::test_what_breaks_later_is_missing_and_over_two_percent_of_it_ends_the_test"),
    16: ("harnessx/runner/lane.py",
         "harnessx/test_pool.py::test_a_rollout_out_of_time_is_missing_and_no_result_of_the_harness"),
}  # fmt: skip
"""Rule -> the module that says it keeps it, and a test of that."""


NAMED = re.compile(r"\brules?\s+(\d+(?:(?:,|,?\s+and|\s+to)\s+\d+)*)", re.IGNORECASE)


def named(docstring: str) -> set[int]:
    """The rules that a docstring names: "rule 7", "Rules 1 to 4", "rules 2, 6 and 15"."""
    found: set[int] = set()
    for match in NAMED.finditer(docstring):
        words = re.findall(r"\d+|to", match[1])
        for place, word in enumerate(words):
            if word == "to":
                found |= set(range(int(words[place - 1]), int(words[place + 1])))
            else:
                found.add(int(word))
    return found


def docstrings(file: Path) -> list[str]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(file.read_text())
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes)]


@pytest.mark.parametrize("rule", range(1, 17))
def test_a_rule_is_named_where_it_is_kept_and_has_a_test(rule):
    module, test = RULES[rule]
    assert rule in set().union(*map(named, docstrings(ROOT / module)))
    file, _, name = test.partition("::")
    functions = [n for n in ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
                 if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]  # fmt: skip
    assert name in {function.name for function in functions}


def test_no_rule_is_named_that_there_is_not():
    packages = [file for package in ("aegis", "harnessx", "benchmarks") for file in (ROOT / package).rglob("*.py")]
    files = [file for file in packages if NAMED.search(file.read_text())]
    assert set().union(*(named(text) for file in files for text in docstrings(file))) == set(RULES)


def test_names_of_rules_are_read_as_they_are_written():
    assert named("(STATISTICS rules 1 to 4). Rule 8: no; rules 2, 6 and 15, as 7 rules say.") == {1, 2, 3, 4, 6, 8, 15}


# --- what no other file tests ---------------------------------------------------------------------------


def outcomes(seed: int, better: float):
    """Arms that pass by chance, the first at one half; a candidate that diverges in half of the attempts."""

    def rule(job):
        luck = random.Random(f"{seed}/{job.attempt}")
        first = result(luck.random() < 0.5, "0000", job.task.id)
        return [first, *(first if luck.random() < 0.5 else result(luck.random() < better, "1111", job.task.id)
                         for _ in job.arms[1:])]  # fmt: skip

    return rule


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 0.9), st.integers(1, 3))
async def test_what_is_drawn_depends_on_no_outcome(seed, better, count):
    """Rule 1: every task, uniformly, before either arm runs; one incumbent serves all; no divergence is a tie."""
    world = World(CLUSTERS, outcomes(seed, better))
    trials = await confirmed(world, *(candidate(f"x{n}") for n in range(count)))
    expected = Draws(CLUSTERS, 0).take(len(world.jobs))
    assert [(job.task, job.attempt) for job in world.jobs] == expected
    for trial in trials:
        scored = {task: len(values) for task, values in trial.differences.items()}
        assert scored == Counter(task.id for task, _ in expected[: trial.pairs])
        assert trial.pairs - trial.diverged <= sum(d == 0 for ds in trial.differences.values() for d in ds)
    assert sum(len(job.arms) for job in world.jobs) >= sum(t.pairs for t in trials) + max(t.pairs for t in trials)


async def test_only_fresh_validation_attempts_confirm_and_none_twice():
    """Rules 4 and 14, over two confirmations of one run."""
    world = World(CLUSTERS, outcomes(1, 0.5))
    confirmation = Confirmation(
        world, Spending(0.05, 4), Draws(CLUSTERS, 0), cap=60, batch=20, run_cap=200, mei=0.03
    )  # fmt: skip
    for name in ("x", "y"):
        await confirmation.run(INCUMBENT, [confirmation.open(candidate(name))])
    attempts = [job.attempt for job in world.jobs]
    assert {job.split for job in world.jobs} == {VALIDATION}
    assert min(attempts) >= FIRST_FRESH_ATTEMPT
    assert len(attempts) == len(set(attempts)) > 60


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_every_task_is_as_likely_to_be_drawn_as_any_other(seed):
    drawn = [task.id for task, _ in Draws(CLUSTERS, seed).take(2000)]
    counts = [drawn.count(task.id) for task in CLUSTERS]
    spread = sum((n - 100) ** 2 / 100 for n in counts)
    assert 2 < spread < 60  # chi-square, 19 degrees of freedom; passes through all tasks would have none
    attempts = [attempt for _, attempt in Draws(CLUSTERS, seed).take(2000)]
    assert len(set(attempts)) == 2000
