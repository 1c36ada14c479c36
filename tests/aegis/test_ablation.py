"""Leave-one-out ablation: what is tested, on which draws, what is proposed, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from evolve_drive import command, evolved, good_code, insert, run, script

from aegis import ablate
from aegis.ablation import Absence, Bench, _examine, compare
from aegis.evaluator import VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Draws, Trial
from aegis.lineage import ShippedEdit, regrown
from aegis.lock import RunLock
from aegis.outage import Outage
from aegis.record import Bucket, CandidateRecord, Decision, Generation, Summary
from aegis.record_ablation import Ablation, LeftOut, Place
from aegis.settings import Settings
from aegis.statistics import PairedTest, Spending
from aegis.store import RunStore
from aegis.views.ablation import markdown
from aegis.views.folder import RunFolder
from aegis.views.progress import Progress
from aegis.watch import Watch
from benchmarks.household import Household
from harnessx.algebra import Edit
from harnessx.errors import Outcome, StopReason, UserError
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import RolloutResult
from harnessx.tasks import Task

PROCEDURES = good_code()["edit"]
SPOKEN = [
    {"op": "set_asset", "path": "assets/notes.md", "text": "Not code.\n"},
    insert("Instructions", text="Cool things with the fridge. To look at something in the light, use the desklamp."),
    *PROCEDURES[-3:],
]
"""The same as words alone, so that no rollout needs a process of its own."""
BRIEF = [insert("Instructions", text="Be brief.")]
CHECKS = [{"op": "set_param", "reference": "SelfVerification", "name": "max_checks", "value": 3}]
ALLOW, BACK = ([{"op": "set_slot", "path": "limits.steps", "value": steps}] for steps in (31, 30))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that really shipped one edit."""
    home = tmp_path_factory.mktemp("ablation")
    return evolved(home / "run", script(home / "script.yaml", {"propose": [good_code()]}), "rounds=1")


def grown(finished: Path, target: Path, *edits: list) -> Path:
    """The finished run, as if ``edits`` had shipped in it one after another as C-0, C-1, …"""
    shutil.copytree(finished, target)
    shutil.rmtree(target / "ablation", ignore_errors=True)
    harness = Household().harness()
    generations, records = [Generation(harness.digest, "", 0, "", (), "H_0")], []
    for index, operations in enumerate(edits):
        parent, harness = harness, Edit.from_json(operations).apply(harness)
        name = f"C-{index}"
        generations.append(Generation(harness.digest, parent.digest, index, name, (Bucket.CONFIG,), name))
        records.append(CandidateRecord(name, index, (), f"edit {index}", harness.digest, parent.digest,
                                       Decision.SHIP, "", "", edit=operations))  # fmt: skip
    (target / "data/generations.json").write_text(json.dumps([g.to_json() for g in generations]))
    (target / "data/candidates.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in records))
    summary = Summary.from_json(json.loads((target / "summary.json").read_text()))
    digests = replace(summary.digests, baseline=generations[0].digest, final=harness.digest)
    (target / "summary.json").write_text(json.dumps(replace(summary, digests=digests).to_json()))
    return target


def ablated(folder: Path, *settings: str) -> Ablation:
    assert ablate.main([str(folder), *settings]) == 0
    return Ablation.from_json(json.loads((folder / "ablation/ablation.json").read_text()))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but those of its ablation."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {name: file.read_bytes() for file in files if not (name := str(file.relative_to(folder))).startswith("abl")}


def rollouts(folder: Path) -> list[dict]:
    with RunStore.read(folder) as store:
        return [json.loads(body) for _, body in store.rollouts()]


def test_an_edit_is_tested_on_draws_of_its_own_and_the_run_stays_as_it_is(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = contents(folder)
    found = ablated(folder)
    assert contents(folder) == before
    (edit,) = found.edits
    assert edit.candidates == ("C-R1-01",)
    assert (
        edit.alpha
        == found.alpha
        == Settings.of({**RunFolder.read(folder).config, "run": {"dir": None, "resume": False}}).gate.alpha
    )
    assert (edit.verdict, edit.harness) == (Place.EARNS, Household().harness().digest)
    assert edit.e_value >= 1 / edit.alpha
    assert edit.effect.mean > 0
    assert (found.proposed, found.removed) == (None, ())
    assert not (folder / "ablation/proposed").exists()
    mine, runs = rollouts(folder / "ablation"), rollouts(folder)
    assert len(mine) == found.rollouts
    assert {(r["harness"]) for r in mine} == {found.final, edit.harness}
    assert not {(r["task_id"], r["attempt"]) for r in mine} & {(r["task_id"], r["attempt"]) for r in runs}
    said = capsys.readouterr().out
    assert "earns its place" in said
    assert found.guarantee in " ".join(said.split())
    assert found.guarantee in (folder / "ablation/ablation.md").read_text()


def test_a_second_sitting_runs_nothing_again_and_a_higher_cap_goes_on(finished, tmp_path):
    folder = grown(finished, tmp_path / "run", PROCEDURES, BRIEF)
    first = ablated(folder, "cap=8", "batch=4")
    text, count = (folder / "ablation/ablation.json").read_bytes(), len(rollouts(folder / "ablation"))
    assert ablated(folder, "cap=8", "batch=4") == first
    assert (folder / "ablation/ablation.json").read_bytes() == text
    assert len(rollouts(folder / "ablation")) == count
    further = ablated(folder, "cap=12", "batch=4")
    anew = ablated(grown(finished, tmp_path / "anew", PROCEDURES, BRIEF), "cap=12", "batch=6")
    assert [e.verdict for e in further.edits] == [e.verdict for e in anew.edits]
    assert further.edits == anew.edits
    assert len(rollouts(folder / "ablation")) > count


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_ablation_that_was_stopped_ends_as_if_it_had_not_been(finished, tmp_path, how):
    whole, stopped = (grown(finished, tmp_path / name, SPOKEN, BRIEF) for name in ("whole", "stopped"))
    undisturbed = ablated(whole, "cap=400", "batch=8")
    process = subprocess.Popen(command(str(stopped), "cap=400", "batch=8", module="aegis.ablate"))
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if (stopped / "ablation/run.db").exists() and rollouts_begun(stopped / "ablation"):
            process.send_signal(how)
            break
        time.sleep(0.02)
    assert process.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert not (stopped / "ablation/ablation.json").exists()
    before = len(rollouts(stopped / "ablation"))
    assert ablated(stopped, "cap=400", "batch=8") == undisturbed
    assert len(rollouts(stopped / "ablation")) == len(rollouts(whole / "ablation")) > before > 0


def rollouts_begun(folder: Path) -> bool:
    try:
        return bool(rollouts(folder))
    except UserError:  # not yet a database
        return False


def test_what_does_not_apply_without_an_edit_falls_with_it_and_what_was_undone_is_idle(finished, tmp_path):
    folder = grown(finished, tmp_path / "run", PROCEDURES, ALLOW, CHECKS, BACK)
    found = ablated(folder, "cap=4", "alpha=0.4")
    assert [(e.candidates, e.fallen) for e in found.edits] == [
        (("C-0",), ("C-2",)), (("C-1",), ()), (("C-2",), ()), (("C-3",), ()),
    ]  # fmt: skip
    h0, first = Household().harness(), Edit.from_json(PROCEDURES)
    assert found.edits[0].harness == h0.digest, "nothing is left: limits.steps is back at its value"
    assert found.edits[2].harness == first.apply(h0).digest
    undone = found.edits[1]
    assert (undone.verdict, undone.pairs, undone.alpha, undone.harness) == (Place.NO_LONGER, 0, None, found.final)
    assert "C-2, which does not apply without" in markdown(found)
    assert all(e.alpha == pytest.approx(0.4 / 4) for e in found.edits if e.alpha)
    assert found.proposed is None, "without the undone edit the harness is the same"


def test_idle_edits_are_proposed_for_removal_as_a_bundle(finished, tmp_path):
    """A limit that no rollout reaches changes no request: every pair is a tie, and ties are futile."""
    roomy, harmless = ([{"op": "set_slot", "path": f"limits.{n}", "value": 10**9}] for n in ("tokens", "cost_usd"))
    folder = grown(finished, tmp_path / "run", SPOKEN, roomy, harmless)
    found = ablated(folder, "cap=160", "batch=80")
    assert [e.verdict for e in found.edits] == [Place.EARNS, Place.NO_LONGER, Place.NO_LONGER]
    assert found.edits[1].diverged == 0
    assert found.together.verdict is Place.NO_LONGER
    assert found.together.candidates == found.removed == ("C-1", "C-2")
    proposed = HarnessConfig.load(folder / "ablation/proposed")
    assert proposed == Edit.from_json(SPOKEN).apply(Household().harness())
    assert proposed.digest == found.proposed == found.together.harness
    assert "assets/notes.md" in proposed.assets


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["alpha=0"], "gate.alpha=0 must be a number between 0 and 1"),
        (["alpha=1.5"], "gate.alpha=1.5 must be"),
        (["alpha=.nan"], "gate.alpha=nan must be"),
        (["alpha=often"], "gate.alpha='often' must be"),
        (["cap=0"], "gate.cap=0 must be a whole number"),
        (["batch=1.5"], "gate.batch=1.5 must be a whole number"),
        (["alpah=0.1"], "no setting is called alpah; valid: alpha=…, cap=…, batch=…"),
        (["alpha"], "no setting is called alpha"),
        (["alpha=["], "cannot read alpha=["),
    ],
)  # fmt: skip
def test_an_impossible_setting_is_one_line_and_nothing_is_run(finished, settings, said, capsys):
    before = (finished / "ablation").exists()
    assert ablate.main([str(finished), *settings]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert (finished / "ablation").exists() == before


def test_a_run_that_cannot_be_ablated_is_refused_in_one_line(finished, tmp_path, capsys):
    def refused(folder: Path, said: str) -> None:
        before = contents(folder) if folder.exists() else {}
        assert ablate.main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert said in error
        assert not (folder / "ablation").exists()
        assert not folder.exists() or contents(folder) == before

    refused(tmp_path / "nowhere", "is not a run folder (no config.yaml in it)")
    refused(grown(finished, tmp_path / "idle"), "nothing shipped in ")
    unfinished = grown(finished, tmp_path / "unfinished", PROCEDURES)
    (unfinished / "summary.json").unlink()
    refused(unfinished, "is not finished: it has no summary.json")
    merged = grown(finished, tmp_path / "merged", PROCEDURES, BRIEF)
    generations = json.loads((merged / "data/generations.json").read_text())
    orphan = [generations[0], {**generations[2], "parent": "f" * 32}]
    (merged / "data/generations.json").write_text(json.dumps(orphan))
    refused(merged, "is no chain of single edits")
    (merged / "data/generations.json").write_text(json.dumps(generations))
    records = (merged / "data/candidates.jsonl").read_text()
    (merged / "data/candidates.jsonl").write_text(records.replace("Be brief.", "Be very brief."))
    refused(merged, "its harness cannot be rebuilt from edits")
    (merged / "data/candidates.jsonl").write_text(records.splitlines()[0] + "\n")
    refused(merged, "no candidate 'C-1'")
    other = grown(finished, tmp_path / "other", PROCEDURES)
    summary = json.loads((other / "summary.json").read_text())
    summary["digests"]["model"] = "0" * 32
    (other / "summary.json").write_text(json.dumps(summary))
    refused(other, "the model is not the one of ")


def test_another_level_after_a_look_is_refused(finished, tmp_path, capsys):
    folder = grown(finished, tmp_path / "run", BRIEF)
    ablated(folder, "cap=4", "alpha=0.2")
    assert ablate.main([str(folder), "cap=4", "alpha=0.3"]) == 2
    assert "was begun with alpha=0.2, not 0.3" in capsys.readouterr().err


def test_a_run_in_use_is_left_alone(finished, tmp_path, capsys):
    folder = grown(finished, tmp_path / "run", BRIEF)
    lock = RunLock(folder / "run.lock")
    said = run(str(folder), module="aegis.ablate")
    lock.release()
    assert said.returncode == 2
    assert "is in use by process" in said.stderr
    assert not (folder / "ablation").exists()


def test_a_fork_that_the_final_harness_does_not_come_from_is_passed_over(finished, tmp_path):
    folder = grown(finished, tmp_path / "run", BRIEF)
    generations = json.loads((folder / "data/generations.json").read_text())
    fork = {**generations[1], "digest": "f" * 32, "candidate": "C-9"}
    (folder / "data/generations.json").write_text(json.dumps([generations[0], fork, generations[1]]))
    assert [e.candidates for e in ablated(folder, "cap=4").edits] == [("C-0",)]


class Populations:
    """A runner whose harnesses solve every task at a rate of their own, coupled by a share of common luck."""

    isolation = "none"

    def __init__(self, rates: dict[str, float], coupling: float, seed: int) -> None:
        self._rates, self._coupling, self._rng = rates, coupling, random.Random(seed)

    async def run(self, jobs, on_result=None):
        return [self._job(job) for job in jobs]

    async def run_recorded(self, jobs, on_result=None):
        raise AssertionError("an ablation reads no trajectory")

    def _job(self, job):
        shared = self._rng.random()
        luck = [shared if self._rng.random() < self._coupling else self._rng.random() for _ in job.arms]
        passed = [u < self._rates[harness.digest] for u, harness in zip(luck, job.arms, strict=True)]
        return [
            RolloutResult(f"{self._rng.random()}", job.task.id, job.attempt, harness.digest,
                          Outcome.PASSED if won else Outcome.FAILED, StopReason.FINISHED, float(won), 1, 1, 0.0, 1, 0,
                          f"{index}", "", 0.0)
            for index, (harness, won) in enumerate(zip(job.arms, passed, strict=True))
        ]  # fmt: skip


def simulated(effects: list[float], seed: int, cap: int) -> list[Place]:
    """One ablation of edits whose true effects are known."""
    arms = [SimpleNamespace(digest=f"without {index}") for index in range(len(effects))]
    final = SimpleNamespace(digest="final")
    rates = {"final": 0.6, **{arm.digest: 0.6 - effect for arm, effect in zip(arms, effects, strict=True)}}
    tasks = [Task("p", id=f"t{n}") for n in range(40)]
    evaluator = Evaluator(Populations(rates, 0.8, seed), {VALIDATION: tasks})
    ledger = Spending(0.05, len(effects))
    trials = [Trial(final, PairedTest(ledger.open(), cap=cap)) for _ in arms]
    absences = [Absence((arm.digest,), "", arm, (), trial) for arm, trial in zip(arms, trials, strict=True)]
    asyncio.run(compare(evaluator, Draws(tasks, seed), final, absences, GateConfig(cap=cap, batch=cap)))
    return [absence.record(seed).verdict for absence in absences]


class Breaking(Populations):
    """Some rollouts of the first arm break, before (``trail`` "") or after it has left the other's trail."""

    def __init__(self, share: float, trail: str) -> None:
        super().__init__({"final": 0.8, "without": 0.3}, 1.0, 0)
        self.share, self.trail, self.jobs, self.forgotten = share, trail, [], []

    def forget(self, jobs):
        self.forgotten += jobs

    def _job(self, job):
        self.jobs.append(job)
        first, *others = (replace(result, trail=result.harness) for result in super()._job(job))
        if self._rng.random() < self.share:
            first = replace(first, outcome=Outcome.INFRA_ERROR, error="down", trail=self.trail)
        return [first, *others]


def broken(share: float, trail: str) -> tuple[Breaking, LeftOut]:
    world, tasks = Breaking(share, trail), [Task("p", id=f"t{n}") for n in range(10)]
    final, without = SimpleNamespace(digest="final"), SimpleNamespace(digest="without")
    absence = Absence(("C-0",), "", without, (), Trial(final, PairedTest(0.01, cap=100)))
    draws = Draws(tasks, 0)
    asyncio.run(compare(Evaluator(world, {VALIDATION: tasks}), draws, final, [absence], GateConfig(cap=100, batch=20)))
    return world, absence.record(0)


def test_what_an_ablation_cannot_run_is_treated_as_in_the_gate():
    whole, plain = broken(0.0, "")
    redrawn, early = broken(0.1, "")
    _, late = broken(0.3, "final")
    assert (plain.verdict, early.verdict) == (Place.EARNS, Place.EARNS)
    assert len(redrawn.jobs) >= early.pairs >= plain.pairs
    assert all(job.confirming for job in whole.jobs + redrawn.jobs)  # a second sitting tries none of it again
    assert late.verdict is Place.UNDECIDED
    assert "pairs missing in the candidate arm, over 2 %" in late.reason


def test_an_ablation_in_which_nothing_can_be_run_ends_with_the_cause():
    with pytest.raises(Outage, match="none of the 20 rollouts on validation could be run: down"):
        broken(1.0, "")


def test_edits_without_effect_seldom_earn_their_place_and_those_with_one_seldom_lose_it():
    runs = 80
    idle = [simulated([0.0] * 4, seed, 150) for seed in range(runs)]
    assert sum(Place.EARNS in verdicts for verdicts in idle) <= 0.05 * runs + 2 * (0.05 * 0.95 * runs) ** 0.5
    harmful = [simulated([-0.1], seed, 300)[0] for seed in range(40)]
    assert harmful.count(Place.NO_LONGER) >= 32
    good = [simulated([0.15], seed, 600)[0] for seed in range(40)]
    assert good.count(Place.EARNS) >= 32
    assert good.count(Place.NO_LONGER) <= 4 + 2 * (40 * 0.1 * 0.9) ** 0.5


def test_of_edits_that_replace_each_other_only_one_is_proposed_for_removal():
    """Each alone is idle, because the other does its work; without both the harness is worse."""
    harness, edits = HarnessConfig(), []
    for index, text in enumerate(("Say it.", "Say it again.")):
        edit = Edit.from_json([insert("Instructions", text=text)])
        parent, harness = harness, edit.apply(harness)
        record = CandidateRecord(f"C-{index}", 1, (), text, harness.digest, parent.digest, Decision.SHIP, "", "")
        edits.append(ShippedEdit(record, edit))
    one, other = (regrown(HarnessConfig(), edits, f"C-{index}")[0] for index in range(2))
    rates = {h.digest: 0.6 for h in (harness, one, other)} | {HarnessConfig().digest: 0.3}
    tasks = [Task("p", id=f"t{n}") for n in range(40)]
    evaluator = Evaluator(Populations(rates, 1.0, 0), {VALIDATION: tasks})
    bench = Bench(None, SimpleNamespace(seed=0), GateConfig(), None, HarnessConfig(), tuple(edits))
    found, proposed = asyncio.run(_examine(bench, evaluator, Watch(Progress())))
    assert [e.verdict for e in found.edits] == [Place.NO_LONGER] * 2
    assert (found.together.verdict, found.together.harness) == (Place.EARNS, HarnessConfig().digest)
    assert (found.removed, proposed) == (("C-0",), one)
    assert "are not shown to be idle (earns its place)" in markdown(found)
