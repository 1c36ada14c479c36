"""What ends a run before its time: a world in which nothing can be run, and a spent budget."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from evolve_drive import SMALL, candidates, edit, evolved, good_code, insert, lasting, rounds, run, script, trail

from aegis.store import RunStore

MODELS = """\
from dataclasses import replace

from benchmarks.bounded import Bounded
from harnessx.errors import ModelFailure


class Flaky(Bounded):
    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    async def complete(self, request, context):
        if context.task_id.startswith(tuple(self.broken.split("_"))):
            raise ModelFailure(f"{context.task_id} has no provider")
        return await super().complete(request, context)


class Gone(Bounded):
    remote = True

    async def complete(self, request, context):
        raise ModelFailure("bounded: 401 no such key", transient=False, status=401)


class Dear(Bounded):
    price = (1e-3, 1e-2)


class Unpriced(Bounded):
    async def complete(self, request, context):
        answer = await super().complete(request, context)
        return replace(answer, usage=replace(answer.usage, cost_usd=None))
"""
SCRIPT = (
    {"propose": [good_code()]},
    {"propose": [edit("late", insert("Instructions", text="Be brief."))]},
)
SHORT = (*SMALL, "rounds=2", "gate.cap=24", "gate.batch=8")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where the script and the models of these tests are."""
    folder = tmp_path_factory.mktemp("home")
    script(folder / "script.yaml", *SCRIPT)
    (folder / "other_models.py").write_text(MODELS)
    return folder


@pytest.fixture(scope="module")
def whole(home) -> Path:
    """The run without a limit."""
    return evolved(home / "whole", *SHORT, f"meta.path={home / 'script.yaml'}")


def go(home: Path, folder: Path, *arguments: str, module: str = "aegis.evolve") -> Any:
    """A run in ``folder`` with this file's models at hand."""
    given = () if module == "aegis.evaluate" else (*SHORT, f"meta.path={home / 'script.yaml'}", f"run.dir={folder}")
    return run(*given, *arguments, module=module, env={"PYTHONPATH": str(home)})


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))


# --- nothing can be run ---------------------------------------------------------------------------------


def flaky(broken: str) -> tuple[str, ...]:
    return "task_model.main._target_=other_models.Flaky", f"+task_model.main.broken={broken}"


def test_a_model_that_is_dead_ends_the_run_and_it_can_go_on(home, tmp_path, whole):
    folder = tmp_path / "run"
    dead = go(home, folder, *flaky("ev"))
    assert dead.returncode == 2
    *_, last = dead.stderr.splitlines()
    assert last.startswith("error: none of the 6 rollouts on evolve could be run: ev-000")
    assert "has no provider" in last
    assert f"run.dir={folder} run.resume=true" in last
    assert "Traceback" not in dead.stderr
    assert not (folder / "summary.json").exists()
    assert [entry["event"] for entry in trail(folder)] == ["begin"]
    again = go(home, folder, *flaky("ev"), "run.resume=true")
    assert again.returncode == 2


def test_a_provider_that_is_gone_ends_the_run_at_once_and_it_can_go_on(home, tmp_path, whole):
    folder, gone = tmp_path / "run", "task_model.main._target_=other_models.Gone"
    dead = go(home, folder, gone)
    assert dead.returncode == 2
    *_, last = dead.stderr.splitlines()
    assert last.startswith("error: bounded: 401 no such key; see to task_model, its API key and its endpoint; then")
    assert f"run.dir={folder} run.resume=true" in last
    assert not (folder / "summary.json").exists()
    assert go(home, folder, gone, "run.resume=true").returncode == 2


def test_an_index_links_only_what_is_there(home, tmp_path, whole):
    go(home, tmp_path / "run", *flaky("ev"))
    unfinished, finished = ((f / "INDEX.md").read_text() for f in (tmp_path / "run", whole))
    assert "report.html" not in unfinished
    assert "summary.json" not in unfinished
    assert "](journal.md)" in unfinished
    said = "At most 24 pairs for a candidate each time it is proposed and 4000 in the run, 8000 more"
    for folder in (tmp_path / "run", whole):  # published before anything was run
        published = (folder / "journal.md").read_text()
        assert f"{said} to watch for drift. Guaranteed: P(any false ship" in published
        assert "Not confirmed and not watched for harm, for want of validation tasks: examine_in_light; " in published
    for name in ("report.html", "summary.json", "journal.md", "best/"):
        assert f"]({name})" in finished
        assert (whole / name).exists()


def test_a_provider_that_dies_in_the_gate_leaves_the_round_open(home, tmp_path):
    dead = go(home, tmp_path / "run", *flaky("va"), "gate.calibration=0")
    assert dead.returncode == 2
    assert "error: none of the 10 rollouts on canary could be run: " in dead.stderr
    assert [entry["event"] for entry in trail(tmp_path / "run")] == ["begin"]


def test_some_missing_rollouts_are_counted_and_said(home, tmp_path, whole):
    done = go(home, tmp_path / "run", *flaky("ev-0001_se-0002"))
    assert done.returncode == 0, done.stderr
    found = summary(tmp_path / "run")
    assert found["missing"] > 0
    assert f"missing: {found['missing']} rollouts could not be run" in done.stdout
    assert found["splits"]["sealed"]["baseline"]["n"] == 5
    assert summary(whole)["missing"] == 0


def test_where_more_is_missing_than_chance_misses_there_is_no_score(home, tmp_path):
    done = go(home, tmp_path / "run", *flaky("se-0002_se-0003"))
    assert done.returncode == 0, done.stderr
    found = summary(tmp_path / "run")
    assert "2 of 6 attempts could not be run, over 2 %" in found["unscored"]["sealed"]
    assert found["splits"]["sealed"] == {"baseline": None, "difference": None, "final": None, "peak": None}
    assert "validation" not in found["unscored"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("openai/gpt-5.4-mini", "set OPENAI_API_KEY"),
        ("foo/bar", "a model is named provider/name, e.g. openai/gpt-5.4-mini"),
    ],
)
def test_a_score_that_could_not_be_measured_is_an_error(home, tmp_path, monkeypatch, model, said):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = go(home, tmp_path, f"task_model={model}", "limit=1", "runner.lanes=1", module="aegis.evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {model}: ")
    assert done.stderr.endswith("; see to task_model, its API key and its endpoint\n")
    assert said in done.stderr
    assert "mcp" not in done.stderr
    assert done.stderr.count("\n") == 1


# --- budgets --------------------------------------------------------------------------------------------


def paid(folder: Path) -> int:
    return int(summary(folder)["rollouts"])


@pytest.fixture(scope="module")
def cut(home, whole) -> dict[int, Path]:
    """Runs whose budget ends in the first round's rollouts, in its confirmation, in the second round, at the end."""
    folders = {}
    for budget in (3, 30, 60, paid(whole) - 7):
        folders[budget] = home / f"cut-{budget}"
        done = go(home, folders[budget], f"budget.rollouts={budget}")
        assert done.returncode == 0, done.stderr
        assert "not scored: " in done.stdout
        assert (folders[budget] / "report.html").exists()
    return folders


def test_a_budget_of_rollouts_is_a_limit(cut):
    for budget, folder in cut.items():
        assert budget - 3 <= paid(folder) <= budget + 1
        found = summary(folder)
        reason = f"the budget of {budget} rollouts is spent"
        assert set(found["unscored"].values()) == {reason}
        assert "sealed" in found["unscored"]
        assert set(found["splits"]["sealed"].values()) == {None}
        assert not (folder / "data/sealed.json").exists()


def test_what_a_budget_cut_short_says_why(cut, whole):
    early, late = cut[30], cut[paid(whole) - 7]
    assert candidates(early)["procedures"]["verdict"] in ("undecided", "not_tested")
    assert "the budget of 30 rollouts is spent" in (early / "journal.md").read_text()
    assert [entry["event"] for entry in trail(early)] == ["begin"]
    assert [r["shipped"] for r in rounds(late)] == [["C-R1-01"], []]
    assert (late / "best/harness.yaml").read_bytes() == (whole / "best/harness.yaml").read_bytes()


@pytest.mark.parametrize("which", range(4))
def test_a_larger_budget_goes_on_to_the_run_it_would_have_been(home, tmp_path, cut, whole, which):
    folder = sorted(cut.items())[which][1]
    done = run(f"run.dir={folder}", "run.resume=true", "budget.rollouts=100000")
    assert done.returncode == 0, done.stderr
    assert lasting(folder) == lasting(whole)
    assert paid(folder) == paid(whole)
    assert summary(folder)["unscored"] == {}


def test_the_same_budget_ends_a_resumed_run_at_the_same_place(home, tmp_path):
    folder = tmp_path / "run"
    go(home, folder, "budget.rollouts=40")
    before = lasting(folder)
    assert go(home, folder, "budget.rollouts=40", "run.resume=true").returncode == 0
    assert lasting(folder) == before


def test_a_budget_spent_with_a_rounds_last_rollout_ends_a_resumed_run_there_too(home, tmp_path):
    """The recorded rounds are replayed whatever the budget; the final harness on evolve is none of them."""
    whole, folder, twice = tmp_path / "whole", tmp_path / "run", ("attempts=2", "rounds=1", "gate.calibration=0")
    assert go(home, whole, *twice).returncode == 0
    budget = json.loads((whole / "curves.json").read_text())["rounds"][0]["rollouts"]
    limited = (*twice, f"budget.rollouts={budget}")
    assert go(home, folder, *limited).returncode == 0
    before, found = lasting(folder), summary(folder)
    assert [entry["event"] for entry in trail(folder)] == ["begin", "round"]
    assert (paid(folder), found["stopped"]) == (budget, f"the budget of {budget} rollouts is spent")
    assert go(home, folder, *limited, "run.resume=true").returncode == 0
    assert (lasting(folder), paid(folder)) == (before, budget)


def banked(folder: Path) -> dict[str, int]:
    """Tokens that were paid for, by account, in all sittings."""
    with RunStore.read(folder) as reader:
        return {account: spend.tokens for account, spend in reader.paid().items()}


CALL = 1_500
"""More tokens than a call here takes."""


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_budget_of_tokens_is_passed_by_the_calls_in_flight_at_most(home, tmp_path, at_once):
    arguments = ("budget.tokens=40000", "benchmark.splits.evolve=40", f"runner.concurrency={at_once}")
    done = go(home, tmp_path / "run", *arguments)
    assert done.returncode == 0, done.stderr
    assert 40_000 <= banked(tmp_path / "run")["task"] <= 40_000 + at_once * CALL
    assert "stopped: the budget of 40000 tokens is spent" in done.stdout


@pytest.fixture(scope="module")
def starved(home, whole) -> Path:
    """A run whose tokens end in the first round's gate."""
    folder = home / "starved"
    done = go(home, folder, f"budget.roles.task.tokens={sum(banked_by(whole)) // 3}")
    assert done.returncode == 0, done.stderr
    assert "for task is spent" in done.stdout
    return folder


def banked_by(folder: Path) -> list[int]:
    """What each rollout of a run paid, in tokens."""
    with RunStore.read(folder) as reader:
        return [sum(tokens for tokens, _ in json.loads(body)["paid"].values()) for _, body in reader.rollouts()]


def test_the_same_budget_of_tokens_ends_a_resumed_run_at_the_same_place_and_pays_nothing(home, starved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(starved, folder)
    before, paid_before = lasting(folder), banked(folder)
    limit = f"budget.roles.task.tokens={sum(banked_by(home / 'whole')) // 3}"
    assert go(home, folder, limit, "run.resume=true", "runner.concurrency=3").returncode == 0
    assert lasting(folder) == before
    assert banked(folder) == paid_before


def test_more_tokens_go_on_to_the_run_it_would_have_been(home, starved, tmp_path, whole):
    folder = tmp_path / "run"
    shutil.copytree(starved, folder)
    assert go(home, folder, "run.resume=true").returncode == 0
    assert lasting(folder) == lasting(whole)
    assert paid(folder) == paid(whole)


def test_an_estimate_comes_before_the_first_rollout_and_again_as_measured(home, tmp_path, whole):
    done = go(home, tmp_path / "run", "budget.rollouts=20")
    lines = done.stderr.splitlines()
    first, measured = (n for n, line in enumerate(lines) if "estimate: " in line)
    assert first < next(n for n, line in enumerate(lines) if "rollouts · " in line) < measured
    least, most = re.search(r"estimate: ([\d,]+) to ([\d,]+) rollouts", lines[measured]).groups()
    assert int(least.replace(",", "")) <= paid(whole) <= int(most.replace(",", ""))


def test_a_run_that_may_cost_much_needs_a_yes(home, tmp_path):
    dear = "task_model.main._target_=other_models.Dear"
    done = go(home, tmp_path / "run", dear)
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: the run may cost \$[\d. \u2009]+, more than budget.confirm_above=10, and there is no terminal to "
        r"ask at; set budget.confirm=yes, a smaller budget.usd, or fewer rounds\n",
        done.stderr,
    ), done.stderr
    assert not (tmp_path / "run").exists()
    for said in ("budget.confirm=yes", "budget.usd=9", "budget.confirm_above=null"):
        done = go(home, tmp_path / said.partition("=")[0], dear, said, "budget.rollouts=3")
        assert done.returncode == 0, done.stderr


def test_money_that_cannot_be_counted_is_refused(home, tmp_path):
    unpriced = "task_model.main._target_=other_models.Unpriced"
    done = go(home, tmp_path / "run", unpriced, "budget.usd=5")
    assert done.returncode == 2
    assert "error: budget.usd=5 cannot be kept: the price of this task_model is not known" in done.stderr
    assert go(home, tmp_path / "free", unpriced, "rounds=1", "budget.tokens=100000000").returncode == 0


def test_a_resume_where_nothing_is_begins_and_says_so(home, tmp_path):
    done = go(home, tmp_path / "run", "run.resume=true", "strategy=static")
    assert done.returncode == 0
    assert f"{tmp_path / 'run'} holds no run yet: a new one begins" in done.stderr
    assert os.path.exists(tmp_path / "run/summary.json")
