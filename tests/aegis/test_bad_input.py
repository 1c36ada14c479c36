"""Whatever a person gets wrong is one line that names it, before anything is written."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from evolve_drive import SMALL, command, run, script
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from aegis.cli import CONFIGS
from aegis.settings import Settings, load_harness
from benchmarks.household import Household
from benchmarks.household.h0 import harness
from harnessx.errors import UserError

FOREIGN = "processors: [{_target_: os.system}]\n"
HARNESSES = {
    "not_yaml.yaml": "processors: [",
    "foreign.yaml": FOREIGN,
    "unknown.yaml": "processors: [{_target_: harnessx.processors.NoSuch}]\n",
    "parameter.yaml": "processors: [{_target_: harnessx.processors.Instructions, txt: a}]\n",
    "list.yaml": "[1, 2]\n",
    "format.yaml": "format: 9\nprocessors: []\n",
    "value.yaml": "processors: [{_target_: harnessx.processors.StepBudgetReminder, limit: -3}]\n",
}

MISTAKES = {
    # choices and names
    ("gate=nowhere",): "unknown gate=nowhere; valid: paired, seesaw",
    ("benchmark=nowhere",): "unknown benchmark=nowhere; valid: alfworld, household",
    ("meta=nowhere",): "unknown meta=nowhere; valid: catalog, coding_agent, llm, mixed, scripted",
    ("experiment=nowhere",): "unknown experiment=nowhere; valid: ",
    ("gate=",): "unknown gate=; valid: paired, seesaw",
    ("-m", "gate=nowhere,seesaw"): "unknown gate=nowhere; valid: paired, seesaw",
    ("gate.alpa=0.1",): "no setting is called gate.alpa; near it: gate.alpha",
    ("alpha=0.1",): "no setting is called alpha; near it: gate.alpha",
    ("bogus=1",): "no setting is called bogus; --help lists them all",
    ("-m", "bogus=1,2"): "no setting is called bogus",
    ("+bogus=1",): "no setting is called bogus; valid: ",
    ("+gate.bogus=1",): "no setting is called gate.bogus; valid: ",
    ("+tracking.bogus=1", "tracking=wandb"): "no setting is called tracking.bogus; valid: ",
    ("~gate.alpha",): "the setting gate.alpha is missing",
    ("~strategy",): "the setting strategy is missing",
    ("~tracking",): "the setting tracking is missing",
    ("~run",): "the setting run is missing",
    ("~strategy._target_",): "the setting strategy._target_ is missing",
    ("~benchmark.splits.sealed",): "the setting benchmark.splits.sealed is missing",
    ("~runner.lanes",): "the setting runner.lanes is missing",
    ("run=3",): "the setting run.dir is missing",
    ("benchmark=null",): "Config group override must be a string or a list",
    ("--rounds=3",): "unknown option --rounds=3; a setting has no dashes: rounds=3",
    ("rounds=[",): "cannot read the argument rounds=[",
    ("rounds",): "cannot read the argument rounds",
    ("seed=${nowhere}",): "seed: Interpolation key 'nowhere' not found",
    ("meta=scripted", "meta.path=???"): "meta.path is not set; set meta.path=",
    ("strategy=nowhere",): "unknown strategy=nowhere; valid: archive, best_of_n, ensemble, global_, pareto, ",
    ("strategy.variants=2",): "no setting is called strategy.variants",
    ("strategy=random_search",): "meta=scripted has none to draw from",
    ("strategy=ensemble",): "no validation task is of cluster 'examine_in_light', so its route cannot be confirmed",
    ("strategy=ensemble", "benchmark.splits.validation=24"): "no evolve task is of cluster 'cool_and_place'",
    ("strategy=ensemble", "benchmark.splits.evolve=1"): "all evolve tasks are of one cluster; use strategy=global_",
    ("strategy=ensemble", "strategy.variants=0"): "strategy.variants=0 must be a whole number of at least 1",
    ("strategy=best_of_n", "strategy.n=0"): "strategy.n=0 must be a whole number of at least 1",
    # values
    ("gate.alpha=0",): "gate.alpha=0 must be a number between 0 and 1",
    ("-m", "gate.alpha=2,3"): "gate.alpha=2 must be a number between 0 and 1",
    ("gate.alpha=1e-9",): "with gate.cap=36 nothing can ship at gate.alpha=1e-09 over gate.decisions=4, not even an ",
    ("gate.power=0.5", "gate.effect=0.3"): "benchmark.splits.sealed=6 tasks are too few to show +30 points with power",
    ("gate.power=0.9", "gate.effect=0.03"): "with gate.cap=36 +3 points are confirmed with power 0.",
    ("gate.max_total_ratio=2",): "allows one edit what gate.max_total_ratio=2 forbids all together",
    ("gate.prove_ni=0",): "gate.prove_ni=0 must be a number between 0 and 1",
    ("gate.cluster_alpha=1",): "gate.cluster_alpha=1 must be a number from 0 (off) to below 1",
    ("gate.drift_pairs=-1",): "gate.drift_pairs=-1 must be a whole number of at least 0",
    ("gate.drift_check=0",): "gate.drift_check=0 must be a whole number of at least 1",
    ("rounds=0",): "rounds=0 must be a whole number of at least 1",
    ("benchmark.splits.sealed=10001",): "household has 10000 tasks in sealed",
    ("gate.approval=maybe",): "gate.approval='maybe'; valid: ",
    ("runner.isolation=vm",): "unknown isolation 'vm'; valid: ",
    ("runner.isolation=docker",): "isolation=docker is not available here",
    ("tracking=wandb", "tracking.mode=sometimes"): "tracking.mode='sometimes'; valid: offline, online",
    ("strategy._target_=aegis.strategies.nowhere.X",): "strategy: aegis.strategies.nowhere.X: ",
    ("task_model.main._target_=os.system",): "model target 'os.system' is no model",
    ("+task_model.main.sed=3",): "model benchmarks.bounded.Bounded: got an unexpected keyword argument 'sed'",
    ("task_model=litellm",): "task_model.main is not set; set the model, e.g. task_model=openai/gpt-5.4-mini",
    ("run.resume=true",): "run.resume=true needs the folder of the run: set run.dir=",
    # files
    ("harness=nowhere.yaml",): "harness=nowhere.yaml: no such file or folder, and no bundle is called 'nowhere",
    ("harness=[h0,h0]",): "a run starts from one harness",
    ("harness=foreign.yaml",): "foreign target 'os.system'",
    ("harness=coded", "runner.isolation=inprocess"): "code of its own, which isolation=inprocess does not run",
    ("harness=value.yaml",): "StepBudgetReminder: 'limit' and 'every' must be at least 1",
    ("harness=finished",): "harness=finished is the folder of a run; its final harness is harness=finished/best",
    ("meta.path=binary",): "meta.path=binary: 'utf-8' codec can't decode",
    ("meta.path=typo.yaml",): "unknown key 'proposals' in round 1; valid: prioritize, propose, review, repeat",
    ("meta.path=deep.yaml",): "unknown key 'titel' in a proposal of round 1; valid: edit, title",
    ("meta.path=nowhere.yaml",): "meta.path=nowhere.yaml: ",
    ("meta.path=mapping.yaml",): "a list of mappings is expected",
    ("meta.path=editless.yaml",): "a proposal of round 1: KeyError('edit')",
    ("meta.path=bucket.yaml",): "'nowhere' is not a valid Bucket",
    # folders
    ("run.dir=file/run",): "cannot write the run folder file/run: Not a directory; set another run.dir",
    ("run.dir=/proc/run",): "cannot write the run folder /proc/run: No such file or directory; set another run.dir",
}


VALUES = {
    ("gate.alpha=2",): "gate.alpha=2 must be a number between 0 and 1",
    ("gate.alpha=1e-323",): "gate.alpha=9.88131e-324 is nothing that evidence reaches in one of gate.decisions=4; ",
    ("gate.alpha=nan",): "gate.alpha=nan must be a number between 0 and 1",
    ("gate.alpha=often",): "gate.alpha='often' must be a number between 0 and 1",
    ("rounds=1.5",): "rounds=1.5 must be a whole number",
    ("rounds=true",): "rounds=True must be a whole number",
    ("rounds=null",): "rounds=None must be a whole number",
    ("attempts=0",): "attempts=0 must be a whole number",
    ("candidates=-1",): "candidates=-1 must be a whole number",
    ("seed=-1",): "seed=-1 must be a whole number of at least 0",
    ("seed=one",): "seed='one' must be a whole number",
    ("actionability=1.1",): "actionability=1.1 must be a number between 0 and 1",
    ("gate.screen_attempts=3",): "gate.screen_attempts=3 exceeds attempts=1",
    ("gate.decisions=0",): "gate.decisions=0 must be a whole number",
    ("gate.mei=0",): "gate.mei=0 must be a number between 0 and 1",
    ("gate.cap=0",): "gate.cap=0 must be a whole number",
    ("gate.max_token_ratio=much",): "gate.max_token_ratio='much' must be a number above 0",
    ("budget.usd=-1",): "budget.usd=-1 must be a number above 0",
    ("budget.tokens=many",): "budget.tokens='many' must be a number above 0",
    ("runner.concurrency=0",): "runner.concurrency=0 must be a whole number of at least 1",
    ("runner.lanes=-1",): "runner.lanes=-1 must be a whole number of at least 0",
    ("benchmark.splits.sealed=0",): "benchmark.splits.sealed=0 must be a whole number",
    ("gate.rule=best",): "gate.rule='best'; valid: paired, seesaw",
    ("gate.ledger=none",): "gate.ledger='none'; valid: spending, elond",
    ("gate.risk_threshold=high",): "gate.risk_threshold='high'; valid: prompt, config, tools, code",
    ("gate.allow_budget=1",): "gate.allow_budget=1; valid: True, False",
}
"""Values that are refused in the same way; checked without a process each."""


@pytest.mark.parametrize("arguments", VALUES, ids=" ".join)
def test_an_impossible_value_is_named_with_what_is_possible(arguments):
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        config = OmegaConf.to_container(compose("evolve", [*SMALL, "meta.path=x", *arguments]), resolve=True)
    with pytest.raises(UserError) as error:
        Settings.of(config)
    assert VALUES[arguments] in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not_yaml.yaml", "not_yaml.yaml: not YAML"),
        ("unknown.yaml", "unknown target 'harnessx.processors.NoSuch'"),
        ("parameter.yaml", "Instructions: unknown parameter 'txt'; valid: text, asset"),
        ("list.yaml", "a harness is a mapping"),
        ("format.yaml", "harness format 9; this version reads format 1"),
        ("empty", "cannot be read as a harness bundle"),
    ],
)
def test_a_harness_file_that_is_none_is_named_with_what_is_wrong(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for file, text in HARNESSES.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError) as error:
        load_harness(name, Household())
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[tuple[str, ...], tuple[subprocess.CompletedProcess[str], Path]]:
    """Every mistake made once, in a folder of its own."""
    home = tmp_path_factory.mktemp("mistakes")

    def make(number: int, arguments: tuple[str, ...]) -> tuple[subprocess.CompletedProcess[str], Path]:
        folder = home / str(number)
        (folder / "empty").mkdir(parents=True)
        for name, text in HARNESSES.items():
            (folder / name).write_text(text)
        script(folder / "script.yaml", {})
        (folder / "mapping.yaml").write_text("a: 1\n")
        (folder / "editless.yaml").write_text("- propose: [{title: none}]\n")
        (folder / "bucket.yaml").write_text("- propose: [{edit: [], bucket: [nowhere]}]\n")
        (folder / "binary").write_bytes(b"\x80\xff")
        (folder / "typo.yaml").write_text("- proposals: []\n")
        (folder / "deep.yaml").write_text("- propose: [{edit: [], titel: x}]\n")
        (folder / "finished/best").mkdir(parents=True)
        (folder / "finished/best/harness.yaml").write_text("processors: []\n")
        (folder / "file").write_text("")
        harness().save(folder / "coded")
        (folder / "coded/assets").mkdir()
        (folder / "coded/assets/p.py").write_text(CODED)
        (folder / "coded/harness.yaml").write_text("processors: [{_target_: 'assets/p.py:X'}]\n")
        before = listing(folder)
        done = run(*SMALL, "meta.path=script.yaml", *arguments, cwd=folder)
        assert listing(folder) == before, "something was written"
        return done, folder

    with ThreadPoolExecutor(2) as pool:
        results = pool.map(make, range(len(MISTAKES)), MISTAKES)
        return dict(zip(MISTAKES, results, strict=True))


CODED = """\
from dataclasses import dataclass
from harnessx.hooks import Hook
from harnessx.processor import Processor
@dataclass
class X(Processor):
    hooks = (Hook.STEP_END,)
    async def process(self, event):
        yield event
"""


def listing(folder: Path) -> list[Path]:
    """Every path below, without the folder Hydra makes for a sweep before it composes a job of it."""
    return sorted(p for p in folder.rglob("*") if "results" not in p.relative_to(folder).parts[:1])


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_that_names_it_and_nothing_is_written(said, arguments):
    done, folder = said[arguments]
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert MISTAKES[arguments] in done.stderr
    assert done.returncode == 2
    assert done.stdout == ""
    assert not (folder / "results/household").exists()


def test_missing_data_is_one_line_with_the_command_that_brings_it(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "ALFWORLD_DATA"}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        command("benchmark=alfworld", "meta=scripted", script(tmp_path / "script.yaml", {}), "tracking=none"),
        capture_output=True, text=True, cwd=tmp_path / "home", timeout=60, check=False,
        env={**environment, "HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    remedy = "alfworld-download" if find_spec("alfworld") else 'pip install "harnessx-aegis[alfworld]"'
    assert remedy in done.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_a_folder_of_another_run_is_left_as_it_is(tmp_path):
    """Not even the run's own files are touched before the folder is known to be free."""
    (tmp_path / "run.db").write_text("something else entirely, long enough to be a database header " * 40)
    named = script(tmp_path / "script.yaml", {})
    done = run(*SMALL, named, f"run.dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot open {tmp_path / 'run.db'}: file is not a database")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize("module", ["aegis.evolve", "aegis.evaluate"])
def test_an_interrupt_while_things_are_imported_is_a_word(tmp_path, module):
    (tmp_path / "hydra.py").write_text("raise KeyboardInterrupt\n")
    done = run(module=module, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped at once\n")


def test_the_objective_of_a_mistake_is_no_number():
    """A sweep that meets a mistake ends there; it does not go on with a made-up score."""
    done = run(*SMALL, "meta.path=nowhere.yaml", "-m", "seed=0,1")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith("report:")]
    assert done.stderr.count("error: ") == 1
