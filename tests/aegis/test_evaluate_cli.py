"""`python -m aegis.evaluate`: one harness scored, two compared in pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evolve_drive import PROCEDURES, run

from aegis.cli import CONFIGS
from benchmarks.household.h0 import harness
from harnessx.algebra import Edit, Insert, SetAsset
from harnessx.harness import HarnessConfig
from harnessx.processors import CurrentState, Instructions
from harnessx.spec import Spec, spec_of

SMALL = ("split=validation", "limit=12", "runner.lanes=1")
BETTER = harness()
for part in (
    Instructions("Cool things with the fridge. To look at something in the light, hold it and use the desklamp."),
    CurrentState(observation=False),
):
    BETTER = Edit((Insert(spec_of(part)),)).apply(BETTER)


def evaluate(*arguments: str) -> dict[str, Any]:
    done = run(*SMALL, *arguments, "json=true", module="aegis.evaluate")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A harness file, and a bundle with code of its own."""
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "better.yaml").write_text(BETTER.to_yaml())
    code = (SetAsset("assets/p.py", PROCEDURES), Insert(Spec("assets/p.py:Procedures")))
    Edit(code).apply(harness()).save(folder / "coded")
    return folder


def test_one_harness_has_a_score_with_its_interval():
    said = evaluate("attempts=2")
    assert (said["split"], said["difference"], said["rollouts"]) == ("validation", None, 24)
    score = said["scores"]["1. h0"]
    assert score["n"] == 12
    assert 0 < score["lo"] <= score["mean"] <= score["hi"] < 1
    assert said["tokens"] > 0


def test_two_harnesses_are_compared_in_pairs_second_minus_first(bundles):
    said = evaluate(f"harness=[h0,{bundles / 'better.yaml'}]", "attempts=2")
    first, second = said["scores"].values()
    assert said["difference"]["mean"] == pytest.approx(second["mean"] - first["mean"])
    assert said["difference"]["mean"] > 0
    back = evaluate(f"harness=[{bundles / 'better.yaml'},h0]", "attempts=2")
    assert back["difference"]["mean"] == pytest.approx(-said["difference"]["mean"])


def test_a_harness_is_no_better_than_itself(bundles):
    said = evaluate("harness=[h0,h0]")
    assert said["difference"] == {"mean": 0.0, "lo": 0.0, "hi": 0.0, "n": 12}
    assert list(said["scores"]) == ["1. h0", "2. h0"]
    assert said["rollouts"] == 12  # each rollout counts once


@pytest.mark.parametrize("form", ["better.yaml", "coded", "coded/harness.yaml"])
def test_a_harness_is_given_as_a_file_or_as_a_bundle(bundles, form):
    HarnessConfig.load(bundles / form)
    said = evaluate(f"harness={bundles / form}", "limit=4")
    assert said["scores"][f"1. {bundles / form}"]["n"] == 4


def test_a_harness_is_given_by_name():
    assert evaluate("harness=minimal", "limit=2")["scores"]["1. minimal"]["n"] == 2


def test_the_table_says_the_same_as_the_json(bundles):
    named = f"harness=[h0,{bundles / 'better.yaml'}]"
    said = evaluate(named)
    done = run(*SMALL, named, module="aegis.evaluate")
    on, first, second, difference, cost = done.stdout.splitlines()
    assert on == "household, validation split, seed 0: 12 tasks, attempts of each: 1"
    scores = list(said["scores"].values())
    assert first.startswith("1. h0")
    assert f"{100 * scores[0]['mean']:.1f} %" in first
    assert f"{100 * scores[1]['mean']:.1f} %" in second
    assert f"{100 * said['difference']['mean']:+.1f}" in difference
    assert cost.startswith(f"{said['rollouts']} rollouts, ")


def test_nothing_is_written(tmp_path):
    assert run(*SMALL, "limit=1", module="aegis.evaluate", cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_leaves_nothing_in_the_folder_but_results(tmp_path):
    done = run(*SMALL, "-m", "seed=0,1", "limit=1", module="aegis.evaluate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["results"]
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["sweeps"]


def test_help_lists_the_groups_it_takes_and_no_other():
    said = run("--help", module="aegis.evaluate").stdout
    groups = said.partition("== Groups")[2].partition("== Settings")[0]
    taken = {"benchmark", "task_model", "runner"}
    for group in (folder.name for folder in Path(CONFIGS).iterdir() if list(folder.glob("*.yaml"))):
        assert (f"\n{group}: " in groups) == (group in taken)
    for group in taken:
        for choice in Path(CONFIGS, group).glob("*.yaml"):
            assert choice.stem in groups


def test_a_harness_with_code_is_refused_where_it_cannot_run(bundles):
    done = run(*SMALL, f"harness={bundles / 'coded'}", "runner.isolation=inprocess", module="aegis.evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "brings code of its own, which isolation=inprocess does not run" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("harness=[h0,h0,h0]", "harness takes one or two harnesses, not 3"),
        ("harness=nowhere", "no such file or folder, and no bundle is called 'nowhere"),
        ("split=test", "split='test'; valid: evolve, validation, sealed"),
        ("limit=0", "limit=0 must be a whole number of at least 1"),
        ("limit=20000", "household has 10000 tasks in sealed"),
        ("rounds=3", "no setting is called rounds"),
        ("unseal=maybe", "unseal='maybe'; valid: True, False"),
    ],
)
def test_a_mistake_is_one_line(argument, said):
    done = run("limit=1", argument, module="aegis.evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize(("budget", "reason"), [("rollouts=5", "budget of 5 rollouts"), ("tokens=900", "900 tokens")])
def test_what_a_budget_cuts_off_is_no_score(budget, reason):
    done = run(*SMALL, f"budget.{budget}", module="aegis.evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert "no score" in done.stderr


def test_a_budget_that_suffices_changes_nothing():
    assert evaluate("budget.rollouts=12", "budget.tokens=10000000") == evaluate()
