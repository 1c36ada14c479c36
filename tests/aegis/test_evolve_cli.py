"""`python -m aegis.evolve` as its user meets it: the run folder, the summary, help, sweeps, progress."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from evolve_drive import SMALL, command, edit, evolved, good_code, insert, rounds, run, script

from aegis.evaluator import Evaluator
from aegis.history import History
from aegis.journal import Journal
from aegis.record import Curves, Scoreboard, Summary
from aegis.store import RunStore
from aegis.views.folder import RunFolder
from benchmarks.household.h0 import harness
from harnessx.algebra import Edit
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.runner.isolation import resolve_isolation
from harnessx.runner.pool import Pool, PoolConfig
from harnessx.trajectory import Trajectory

HOUSEHOLD = {"_target_": "benchmarks.household.Household"}
BOUNDED = ModelConfig({"_target_": "benchmarks.bounded.Bounded"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of two rounds, the first of which ships new code."""
    home = tmp_path_factory.mktemp("evolve")
    late = {"propose": [edit("late", insert("Instructions", text="Be brief."), bucket=["prompt"])]}
    return evolved(home / "run", script(home / "script.yaml", {"propose": [good_code()]}, late),
                   "rounds=2", "gate.cap=24", "tracking=wandb")  # fmt: skip


FILES = """config.yaml run.db INDEX.md journal.md curves.json scoreboard.json audit.jsonl summary.json report.html
data/candidates.jsonl data/rounds.jsonl data/generations.json data/ship_outcomes.json data/rejected_candidates.jsonl
data/task_history.jsonl data/sealed.json best/harness.yaml best/assets/procedures.py
R1/digests/digest.md R1/landscape.md R1/decision.md R1/regressions.md R1/verdicts/C-R1-01.json
R1/candidates/C-R1-01/manifest.md R1/candidates/C-R1-01/manifest.json R1/candidates/C-R1-01/edit.json
R1/candidates/C-R1-01/assets/procedures.py R1/candidates/C-R1-01/smoke.json R1/applied/C-R1-01/harness.yaml
R1/applied/C-R1-01/assets/procedures.py R1/trajectories/evolve.jsonl R2/trajectories/evolve.jsonl
R2/verdicts/C-R2-01.json R2/landscape.md R2/decision.md""".split()


def test_the_run_folder_holds_everything_and_it_parses(folder):
    assert [name for name in FILES if not (folder / name).is_file()] == []
    for file in folder.rglob("*.json"):
        json.loads(file.read_text())
    for file in folder.glob("**/*.jsonl"):
        assert all(json.loads(line) for line in file.read_text().splitlines())
    read = RunFolder.read(folder)
    assert (len(read.rounds), len(read.candidates), len(read.generations)) == (2, 2, 2)
    assert yaml.safe_load((folder / "config.yaml").read_text())["benchmark"]["name"] == "household"
    Curves.from_json(json.loads((folder / "curves.json").read_text()))
    Scoreboard.from_json(json.loads((folder / "scoreboard.json").read_text()))
    assert not list(folder.rglob(".writing"))


def test_hydra_and_wandb_leave_nothing_outside_the_run_folder(folder):
    assert sorted(p.name for p in folder.parent.iterdir()) == ["run", "script.yaml"]
    assert list((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert not (folder / ".hydra").exists()


def test_the_trajectories_of_a_round_are_those_its_anchors_name(folder):
    blocks = re.split(r"(?m)^(?=\{\"format\":)", (folder / "R1/trajectories/evolve.jsonl").read_text())[1:]
    records = [Trajectory.from_jsonl(block) for block in blocks]
    assert sorted({r.task_id for r in records}) == [f"ev-000{n}" for n in range(6)]
    steps = {r.anchor(step.index) for r in records for step in r.steps}
    anchors = set(re.findall(r"`(ev-\d+_a\d+#step_\d+)`", (folder / "R1/digests/digest.md").read_text()))
    assert anchors
    assert anchors <= steps


def test_the_summary_has_what_it_takes_to_quote_the_run(folder):
    data = json.loads((folder / "summary.json").read_text())
    summary = Summary.from_json(data)
    for split in ("evolve", "validation", "sealed"):
        for name in ("baseline", "final", "peak", "difference"):
            assert data["splits"][split][name].keys() == {"mean", "lo", "hi", "n"}
        baseline, final, difference = (data["splits"][split][n] for n in ("baseline", "final", "difference"))
        assert baseline["lo"] <= baseline["mean"] <= baseline["hi"]
        assert difference["mean"] == pytest.approx(final["mean"] - baseline["mean"])
        assert baseline["n"] == {"evolve": 6, "validation": 8, "sealed": 6}[split]
    assert [(c["id"], c["bucket"], bool(c["reason"])) for c in data["candidates"]] == [
        ("C-R1-01", ["processor"], True),
        ("C-R2-01", ["prompt"], True),
    ]
    with RunStore.read(folder) as store:
        bodies = [json.loads(body) for _, body in store.rollouts()]
    assert summary.rollouts == len(bodies)
    assert summary.tokens == sum(b["tokens"] for b in bodies)
    assert summary.model_calls.replayed == sum(b["replayed_calls"] for b in bodies)
    assert summary.model_calls.made == sum(b["model_calls"] - b["replayed_calls"] for b in bodies)
    assert data.keys() >= {"dollars", "rounds", "versions", "stopped"}
    assert (data["isolation"], data["seeds"], data["alpha"]) == (resolve_isolation("auto"), [0], 0.5)
    assert set(data["seconds"]) >= {"rollouts", "digest", "plan", "evolve", "criticize", "gate", "final evaluation"}
    assert data["digests"]["final"] == HarnessConfig.load(folder / "best").digest
    assert data["digests"]["baseline"] != data["digests"]["final"]


def test_an_asset_that_a_later_edit_removes_does_not_stay_in_best(tmp_path):
    """What is left would be part of the harness when it is loaded again."""
    coded = Edit.from_json(good_code()["edit"]).apply(harness())
    with RunStore.open(tmp_path, {}, resume=False) as store:
        journal = Journal(store, Evaluator(Pool(PoolConfig(HOUSEHOLD, BOUNDED)), {}), History(), 0)
        journal.save_best(coded)
        assert HarnessConfig.load(tmp_path / "best") == coded
        journal.save_best(harness())
    assert HarnessConfig.load(tmp_path / "best") == harness()


def test_progress_shows_the_rate_of_the_stage_that_runs(tmp_path):
    done = run(*SMALL, script(tmp_path / "s.yaml", {"propose": [good_code()]}), f"run.dir={tmp_path / 'run'}",
               "rounds=1")  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if "rollouts ·" in line]
    shown = [re.search(r"(?:·|]) ([\w ]+) · (\d+)/(\d+) rollouts · (\d+) % passed · ([\d ]+) tokens", x) for x in lines]
    assert all(shown)
    stages: dict[str, list[tuple[int, ...]]] = {}
    for found in shown:
        assert found is not None
        stages.setdefault(found[1], []).append(tuple(int(n.replace(" ", "")) for n in found.groups()[1:]))
    assert list(stages) == ["calibration", "rollouts", "gate", "final evaluation"]
    assert stages["rollouts"] == [(6, 6, 17, stages["rollouts"][0][3])]  # one of six is solved by H_0 at this seed
    for counts in stages.values():
        assert [c[0] for c in counts] == sorted(c[0] for c in counts)  # they count up within a stage
        assert all(passed <= 100 for _, _, passed, _ in counts)
    spent = [count[3] for counts in stages.values() for count in counts]
    assert spent[0] > 0
    assert spent == sorted(spent)


def test_a_reader_who_has_seen_enough_hears_no_complaint():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(command("--help"), stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_is_useful_and_loads_nothing_heavy():
    done = run("--help")
    assert done.returncode == 0
    for word in ("python -m aegis.evolve experiment=smoke", "run.resume=true", "Ctrl-C", "gate: paired, seesaw",
                 "alpha: 0.05", "--cfg job"):  # fmt: skip
        assert word in done.stdout
    assert "powered by Hydra" not in done.stdout
    listing = "import sys, aegis.evolve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    assert not {"litellm", "wandb", "datasets", "pandas", "numpy", "torch", "rich"} & set(loaded)


def test_the_config_can_be_seen_without_a_run(tmp_path):
    done = run("--cfg", "job", "gate.alpha=0.01", "experiment=smoke", cwd=tmp_path)
    config = yaml.safe_load(done.stdout)
    assert (config["gate"]["alpha"], config["rounds"]) == (0.01, 2)
    assert list(tmp_path.iterdir()) == []


# --- sweeps -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Path, list[str]]:
    """Two seeds, three settings of what is not in a run's identity."""
    home = tmp_path_factory.mktemp("sweep")
    static = ("strategy=static", "sealed_attempts=1", "-m", "seed=0,1", "rounds=1,2")
    arguments = [*SMALL, script(home.with_suffix(".yaml"), {}), *static]
    done = run(*arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    return home, arguments


def test_a_sweep_lands_in_results_one_folder_for_each_combination(sweep):
    home, _ = sweep
    assert [p.name for p in home.iterdir()] == ["results"]
    runs = sorted((home / "results/household").iterdir())
    summaries = [json.loads((r / "summary.json").read_text()) for r in runs]
    assert sorted(s["seeds"] for s in summaries) == [[0], [0], [1], [1]]
    assert {p.name for p in (home / "results").iterdir()} == {"household", "sweeps"}


def test_a_sweep_is_resumed_by_its_own_command(sweep):
    home, arguments = sweep
    runs = {p: (p / "summary.json").read_text() for p in (home / "results/household").iterdir()}
    lost = sorted(runs)[1]
    (lost / "summary.json").unlink()
    refused = run(*arguments, cwd=home)
    assert refused.returncode == 2
    assert "already holds a run: set run.resume=true" in refused.stderr.splitlines()[-1]
    done = run(*arguments, "run.resume=true", cwd=home)
    assert done.returncode == 0, done.stderr
    assert sorted((home / "results/household").iterdir()) == sorted(runs)
    for path, text in runs.items():
        before, after = json.loads(text), json.loads((path / "summary.json").read_text())
        assert [{**s, "seconds": 0, "versions": 0} for s in (before, after)].count(
            before | {"seconds": 0, "versions": 0}
        ) == 2


def test_a_run_without_a_folder_is_named_by_time_and_seed(tmp_path):
    done = run(*SMALL, script(tmp_path.with_suffix(".yaml"), {}), "strategy=static", "seed=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "results/household").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-seed-3", made.name)
    assert f"report: results/household/{made.name}/report.html" in done.stdout
    assert rounds(made) == []
