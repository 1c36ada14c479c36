"""Sealed tasks are read once a run, every reading of a benchmark's is counted, and what is frozen stays frozen."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from evolve_drive import run as call

from aegis.audit import append_line
from aegis.sealed import RECORD, Reading, beside, check_frozen, frozen_entry, readings, record, said
from benchmarks.household import Household
from benchmarks.household.h0 import harness
from harnessx.algebra import Edit, Insert
from harnessx.errors import UserError
from harnessx.processors import CurrentState
from harnessx.spec import spec_of

HOUSE = Household(seed=0).digest
OTHER = Edit((Insert(spec_of(CurrentState(observation=False))),)).apply(harness())
EVALUATE = ("split=sealed", "limit=2", "runner.lanes=1")


def run(folder, benchmark, **frozen):
    """A run that began to read sealed tasks, for the harnesses ``frozen``."""
    folder.mkdir(parents=True)
    entries = [
        {"event": "begin"},
        frozen_entry(benchmark, {**dict.fromkeys(("baseline", "final", "peak"), "h"), **frozen}),
    ]
    (folder / "audit.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


def evaluate(*arguments, cwd):
    return call(*EVALUATE, *arguments, module="aegis.evaluate", cwd=cwd)


def recorded(folder):
    return [json.loads(line) for line in (folder / RECORD).read_text().splitlines()]


def test_every_reading_of_the_same_sealed_tasks_is_counted_and_no_other(tmp_path):
    mine = run(tmp_path / "mine", "b")
    assert said(mine, "b") == ""
    run(tmp_path / "one", "b")
    run(tmp_path / "another", "c")
    (tmp_path / "evolving").mkdir()
    (tmp_path / "evolving/audit.jsonl").write_text('{"event": "round"}\n')
    (run(tmp_path / "torn", "b") / "audit.jsonl").write_text('{"event": "sealed", "bench')
    (run(tmp_path / "foreign", "b") / "audit.jsonl").write_text('[1]\nhello\n"x"\n')
    for benchmark in ("b", "c", "b"):
        record([tmp_path], Reading(benchmark, "m", ("h",), 4, 1))
    found = readings([tmp_path], "b")
    assert (found.runs, found.evaluations) == (2, 2)
    assert said(mine, "b") == said(tmp_path / "one", "b")
    assert said(mine, "b").startswith(f"sealed tasks read by 2 runs and 2 evaluations in {tmp_path}: ")


def test_readings_recorded_at_once_all_count_and_a_torn_one_is_cut_off(tmp_path):
    file = tmp_path / "new" / RECORD
    append_line(file, '{"n": 0}')
    with file.open("a") as stream:
        stream.write('{"n": "to')
    code = (
        f"import pathlib, aegis.audit\nfor _ in range(50): aegis.audit.append_line(pathlib.Path({str(file)!r}), '{{}}')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert file.read_text().splitlines() == ['{"n": 0}', *["{}"] * 100]


def test_only_what_a_run_froze_is_read_without_being_asked_for(tmp_path):
    assert check_frozen([tmp_path], "b", {"x": "new"}, unseal=False) == ()  # nothing is frozen here
    run(tmp_path / "one", "b", final="f", peak="p")
    run(tmp_path / "two", "c", final="new")
    for digest in "hfp":
        assert check_frozen([tmp_path], "b", {"x": digest}, unseal=False) == ()
    with pytest.raises(UserError, match=r"harness=x \(new\) is none of the harnesses that 1 run in .* set unseal=true"):
        check_frozen([tmp_path], "b", {"y": "f", "x": "new"}, unseal=False)
    assert check_frozen([tmp_path], "b", {"y": "f", "x": "new"}, unseal=True) == ("new",)


def test_a_harness_saved_by_a_run_counts_beside_that_run(tmp_path):
    folder = run(tmp_path / "elsewhere/mine", "b")
    run(folder / "ablation", "b")  # it has a trail of its own, and is part of the run
    named = [str(folder / "best"), None, str(tmp_path / "loose.yaml"), str(folder / "ablation/proposed")]
    assert beside(tmp_path / "runs", named) == (tmp_path / "runs", tmp_path / "elsewhere")
    assert beside(tmp_path / "elsewhere", named) == (tmp_path / "elsewhere",)


def test_an_evaluation_records_what_it_reads_and_says_how_often_it_was_read(tmp_path):
    folder = tmp_path / "results/household"
    record([folder], Reading("of other tasks", "m", ("h",), 4, 1))
    first, second = evaluate("json=true", cwd=tmp_path), evaluate("attempts=2", cwd=tmp_path)
    assert json.loads(first.stdout)["sealed_readings"] == 1
    assert "sealed tasks read by 0 runs and 2 evaluations in results/household: " in second.stdout
    _, one, two = recorded(folder)
    assert (one["benchmark"], one["harnesses"], one["unsealed"]) == (HOUSE, [harness().digest], [])
    assert [(entry["tasks"], entry["attempts"]) for entry in (one, two)] == [(2, 1), (2, 2)]


def test_where_a_run_froze_its_harnesses_another_is_refused_before_a_rollout(tmp_path):
    run(tmp_path / "runs/one", HOUSE)
    (tmp_path / "other.yaml").write_text(OTHER.to_yaml())
    asked = ("runs=runs", "harness=[h0,other.yaml]")
    refused = evaluate(*asked, cwd=tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith(
        f"error: harness=other.yaml ({OTHER.digest[:8]}) is none of the harnesses that 1 run"
    )
    assert not (tmp_path / "runs" / RECORD).exists()
    allowed = evaluate(*asked, "unseal=true", cwd=tmp_path)
    assert "sealed tasks read by 1 run and 1 evaluation in runs: " in allowed.stdout
    assert recorded(tmp_path / "runs")[0]["unsealed"] == [OTHER.digest]


@pytest.mark.parametrize(
    ("runs", "words"), [("file", "must be the folder"), ("file/deeper", "cannot write file/deeper/sealed.jsonl")]
)
def test_what_cannot_be_recorded_is_not_read(tmp_path, runs, words):
    (tmp_path / "file").write_text("")
    done = evaluate(f"runs={runs}", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr
