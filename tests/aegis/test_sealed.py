"""Sealed tasks are read once a run, and every reading of a benchmark's is counted."""

from __future__ import annotations

import json

from aegis.sealed import readings, said


def run(folder, benchmark, *, scored=True):
    (folder / "data").mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"digests": {"benchmark": benchmark}}))
    if scored:
        (folder / "data/sealed.json").write_text("{}")
    return folder


def test_every_run_that_scored_the_same_sealed_tasks_is_counted_and_no_other(tmp_path):
    mine = tmp_path / "mine"
    assert (readings(mine, "b"), said(mine, "b")) == (1, "")
    run(tmp_path / "one", "b")
    run(tmp_path / "two", "b")
    run(tmp_path / "unscored", "b", scored=False)
    run(tmp_path / "another", "c")
    (run(tmp_path / "torn", "b") / "summary.json").write_text("{")
    assert readings(mine, "b") == 3
    assert readings(run(mine, "b"), "b") == 3  # itself is counted once, before its summary and after
    assert readings(tmp_path / "two/../mine", "b") == 3
    assert said(mine, "b").startswith(f"sealed tasks scored by 3 runs in {tmp_path}: ")
