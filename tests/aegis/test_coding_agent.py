"""A whole run with a coding agent: one that works, one that trespasses and litters, one that hangs, one that fails."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from evolve_drive import LASTING, candidates, good_code, lasting, rounds, run
from meta_drive import LLM, sessions

from aegis.meta.handed import collect, proposals
from aegis.meta.walled import missing

PROGRAM = Path(__file__).with_name("agent_program.py")
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def plan(folder: Path) -> Path:
    """What the program is to hand over: the code that ships."""
    made = good_code()
    source = made["edit"][0]["text"]
    manifest = {
        "title": "procedures", "bucket": ["processor"],
        "file_changes": [{"path": "assets/procedures.py", "action": "add", "summary": "s"}],
        "predicted_impact": {"unlock": ["ev-0001"]},
        "attribution_signature": {"type": "prompt_feature", "name": "x"}, "failure_evidence": "f", "root_cause": "r",
        "targeted_fix": "t", "risk_argument": "a", "overlap": "on purpose",
    }  # fmt: skip
    files = {"assets/procedures.py": source, "smoke/procedures.py": made["smoke"]["assets/procedures.py"]}
    file = folder / "plan.json"
    file.write_text(json.dumps({"manifest": manifest, "edit": made["edit"][1:], "files": files}))
    return file


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("agent")
    folder = home / "run"
    python = os.path.realpath(sys.executable)
    command = f"{python} -I {PROGRAM} {folder} {plan(home)} {{prompt}}"
    arguments = (*LLM, "meta=coding_agent", f"meta.command='{command}'", "meta.timeout_s=12",
                 f"meta.readable=[{sys.base_prefix},{PROGRAM},{home / 'plan.json'}]", f"run.dir={folder}", "rounds=4",
                 "patience=9", "gate.calibration=0", "candidates=6")  # fmt: skip
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return folder


def test_what_a_session_leaves_is_checked_measured_and_ships(worked):
    record = candidates(worked)["procedures"]
    assert (record["id"], record["verdict"]) == ("C-R1-01", "ship")
    manifest = json.loads((worked / "R1/candidates/C-R1-01/manifest.json").read_text())
    assert [e["type"] for e in manifest["capability_evidence"]] == ["trace", "level_1", "level_2"]
    (session,) = [s for s in sessions(worked) if s["round"] == 1]
    assert (session["exit_code"], session["tokens"], session["usd"], session["problem"]) == (0, 1234, 0.25, "")
    assert session["seconds"] > 0
    assert next(worked.glob("R1/meta/session-*.log")).read_text() == "done\n"


def test_a_session_sees_its_own_folder_and_no_other(worked):
    said = next(worked.glob("R2/meta/session-*.log")).read_text()
    assert said.count("kept out") == 8, said
    assert "read /" not in said
    assert "wrote /" not in said
    variables = re.search(r"variables: (.*)", said)
    assert variables is not None
    assert set(re.findall(r"\w+", variables[1])) <= {"HOME", "TMPDIR", "PATH", "LANG", "LC_CTYPE"}
    assert not (worked.parent / "planted").exists()


def test_garbage_is_refused_by_name_and_the_rest_is_taken(worked):
    (session,) = [s for s in sessions(worked) if s["round"] == 2]
    assert session["ending"] == "answered"
    for said in (
        "a-fine/assets/link.md': is no regular file",
        "more than 1048576 bytes",
        "'garbage': Expecting",
        "'wrong': manifest must be an object",
        "only/edit.json': is no regular file",
        "'utf-8' codec",
    ):
        assert said in session["problem"], said
    assert (session["tokens"], session["usd"]) == (0, None)
    records = [r for r in candidates(worked).values() if r["round"] == 2]
    assert {r["check"] for r in records} <= {"evolver", "effect", "canonical", "confirmation", "budget", "screen"}


def test_a_session_that_hangs_is_ended_with_all_it_has_started(worked):
    (session,) = [s for s in sessions(worked) if s["round"] == 3]
    assert (session["exit_code"], session["ending"]) == (None, "no answer")
    assert session["seconds"] >= 12
    said = next(worked.glob("R3/meta/session-*.log")).read_text()
    assert len(said) <= 64 << 10
    assert said.endswith("still here\n")
    assert rounds(worked)[2]["stop"].startswith("the session left no candidate: ended after 12 s")


def test_no_child_of_a_session_outlives_it(tmp_path, worked):
    """The child's own number scrolls off the log; it has the program's name."""
    mine = [p for p in Path("/proc").iterdir() if p.name.isdigit()]
    lines = [(p / "cmdline").read_bytes() for p in mine if (p / "cmdline").exists()]
    assert not [line for line in lines if str(worked).encode() in line and PROGRAM.name.encode() in line]


def test_a_session_that_fails_is_a_no_op_with_its_exit_code(worked):
    assert rounds(worked)[3]["stop"].startswith("the session left no candidate: exit code 3")


def test_a_session_that_is_over_is_not_run_again(worked):
    before = lasting(worked, (*LASTING, "R*/meta/*"))
    (worked / "summary.json").unlink()
    done = run(f"run.dir={worked}", "run.resume=true")
    assert done.returncode == 0, done.stderr
    assert lasting(worked, (*LASTING, "R*/meta/*")) == before  # times of sessions among them


def test_a_program_or_a_time_that_is_none_is_one_line(tmp_path):
    for argument, said in (
        ("meta.command='nobody-has-this {prompt}'", "there is no program 'nobody-has-this' on the PATH"),
        ("meta.command=''", "must be a program with its arguments"),
        ("meta.timeout_s=0", "meta.timeout_s=0 must be a number above 0"),
        ("meta.wall=paper", "meta.wall='paper'; valid: landlock, none"),
    ):
        given = [*LLM, "meta=coding_agent", "meta.command='true now'", f"run.dir={tmp_path / 'run'}", argument]
        done = run(*given)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert said in done.stderr
        assert not (tmp_path / "run").exists()


def test_a_folder_is_read_without_following_anything(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/manifest.json").write_text("{}")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/candidates").symlink_to(tmp_path / "secret")
    assert collect(tmp_path / "scratch") == ({}, [])
    assert proposals({"candidates/x/manifest.json": "{}"}) == ({}, ["'x': edit.json is missing"])
