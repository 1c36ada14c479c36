import json
import subprocess
import sys

import pytest
from views_run import H_0, write, write_run

from aegis import compare, report, why
from aegis.record import Bucket, CandidateRecord, Decision, Generation
from aegis.views import why as blame
from harnessx import Edit, Spec
from harnessx.algebra import Insert, Remove, SetAsset, SetParam, SetSlot


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "household" / "seed-0")


def test_the_report_command_writes_the_page_and_prints_its_path(run):
    done = subprocess.run([sys.executable, "-m", "aegis.report", run], capture_output=True, text=True, check=True)
    assert done.stdout == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("command", [report.main, compare.main, lambda argv: why.main([*argv, "harness.yaml:1"])])
def test_a_folder_that_is_no_run_is_one_line_and_exit_code_2(command, tmp_path, capsys):
    assert command([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is not a run folder" in said


def test_runs_stand_side_by_side_and_are_paired_where_their_sealed_tasks_coincide(run, tmp_path, capsys):
    other = write_run(tmp_path / "household" / "seed-1", seed=1, gain=0.1)
    assert compare.main([str(run), str(other)]) == 0
    said = capsys.readouterr().out
    assert "72.5 % (59.5 … 85.5)" in said
    assert "+20.0 (+9.0 … +31.0)" in said
    assert "household/seed-1 − household/seed-0, final harnesses: " in said
    assert "paired on 40 tasks" in said


def test_runs_with_other_sealed_tasks_are_not_paired(run, tmp_path, capsys):
    other = write_run(tmp_path / "household" / "seed-1", seed=1)
    sealed = json.loads((other / "data/sealed.json").read_text())
    del sealed["final"]["sealed-00"]
    write(other / "data/sealed.json", sealed)
    compare.main([str(run), str(other)])
    assert "not paired" in capsys.readouterr().out


def test_an_unfinished_run_is_compared_as_such(run, tmp_path, capsys):
    other = write_run(tmp_path / "household" / "seed-1", seed=1)
    (other / "summary.json").unlink()
    assert compare.main([str(run), str(other)]) == 0
    said = capsys.readouterr().out
    assert "household/seed-1 − household/seed-0: not paired (not finished: household/seed-1)" in said


def test_a_report_that_cannot_be_written_is_one_line(run, capsys):
    (run / "report.html.tmp").mkdir()
    assert report.main([str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot write {run / 'report.html'}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "candidate"),
    [(1, None), (3, None), (4, "C-R0-01"), (5, None), (6, "C-R1-01"), (7, "C-R3-01"), (8, "C-R6-01")],
)
def test_a_line_is_traced_to_the_edit_that_brought_it(run, line, candidate):
    origin = blame.why(run, f"harness.yaml:{line}")
    assert (origin.candidate.id if origin.candidate else None) == candidate


def test_why_prints_the_edit_and_the_evidence(run, capsys):
    assert why.main([str(run), "best/harness.yaml:7"]) == 0
    said = capsys.readouterr().out
    assert "max_items: 12" in said
    assert "C-R3-01" in said
    assert "shipped by paired confirmation" in said


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("harness.yaml", "is not FILE:LINE"),
        ("harness.yaml:0", "there is no line 0"),
        ("harness.yaml:99", "has 8 lines"),
        ("assets/x.py:1", "best/ has no assets/x.py; it has harness.yaml"),
        ("../config.yaml:1", "best/ has no ../config.yaml"),
    ],
)
def test_a_line_that_is_not_there_is_refused(run, where, said, capsys):
    assert why.main([str(run), where]) == 2
    assert said in capsys.readouterr().err


def test_a_best_harness_changed_by_hand_is_not_explained(run, capsys):
    text = (run / "best/harness.yaml").read_text()
    (run / "best/harness.yaml").write_text(text.replace("max_items: 12", "max_items: 13"))
    assert why.main([str(run), "harness.yaml:7"]) == 2
    assert "is not a harness of this run" in capsys.readouterr().err


def evolved(run, *edits):
    """The run's lineage replaced by the harnesses that ``edits`` make, in order, as candidates C-0, C-1, …"""
    harness = H_0
    generations = [Generation(harness.digest, "", 0, "", (), "baseline")]
    lines = []
    for index, operations in enumerate(edits):
        edit = Edit(tuple(operations))
        parent, harness = harness, edit.apply(harness)
        name = f"C-{index}"
        generations.append(Generation(harness.digest, parent.digest, index, name, (Bucket.PROMPT,), name))
        record = CandidateRecord(
            name, index, (), name, harness.digest, parent.digest, Decision.SHIP, "", "", edit=edit.to_json()
        )
        lines.append(json.dumps(record.to_json()) + "\n")
    harness.save(run / "best")
    write(run / "data/generations.json", [generation.to_json() for generation in generations])
    (run / "data/candidates.jsonl").write_text("".join(lines))
    return harness


def test_an_edit_that_writes_what_was_there_already_is_passed_over(run):
    prompt, path = SetParam("SystemPrompt", "text", "One."), "assets/notes.md"
    evolved(run, [prompt, SetAsset(path, "a\nb\n")], [prompt, SetAsset(path, "a\nc\n")])
    assert blame.why(run, "harness.yaml:4").candidate.id == "C-0"
    assert blame.why(run, f"{path}:1").candidate.id == "C-0"
    assert blame.why(run, f"{path}:2").candidate.id == "C-1"


def test_a_slot_is_traced_too(run):
    harness = evolved(run, [], Edit.from_json([{"op": "set_slot", "path": "limits.steps", "value": 31}]).operations)
    line = harness.to_yaml().splitlines().index("    steps: 31") + 1
    assert blame.why(run, f"harness.yaml:{line}").candidate.id == "C-1"


def test_processors_of_one_class_are_told_apart_by_what_was_put_in(run):
    say = [Insert(Spec("harnessx.processors.Instructions", {"text": text})) for text in ("One.", "Two.", "Three.")]
    harness = evolved(run, say[:1], say[1:2], say[2:], [SetParam("Instructions#2", "text", "Changed.")])
    lines = harness.to_yaml().splitlines()
    for text, candidate, exact in (
        ("One.", "C-0", True),
        ("Three.", "C-2", True),
        ("Changed.", "C-3", False),
    ):
        origin = blame.why(run, f"harness.yaml:{lines.index(f'  text: {text}') + 1}")
        assert (origin.candidate.id, origin.exact) == (candidate, exact)


def test_a_processor_put_back_comes_from_the_edit_that_put_it_back(run):
    note = Insert(Spec("harnessx.processors.RunningNotes"))
    harness = evolved(run, [note], [Remove("memory")], [note, SetSlot("limits.steps", 31)])
    line = next(i for i, text in enumerate(harness.to_yaml().splitlines(), 1) if "RunningNotes" in text)
    assert blame.why(run, f"harness.yaml:{line}").candidate.id == "C-2"
