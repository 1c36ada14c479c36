"""A run folder survives whatever happens to its process, and never mixes two runs."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from aegis.store import RunStore
from harnessx.errors import UserError
from harnessx.runner.cassette import Entry

IDENTITY = {"benchmark": {"name": "household", "tasks": 24}, "seed": 0}

WRITER = """
import json, sys
from pathlib import Path
from aegis.store import RunStore
from harnessx.runner.cassette import Entry

store = RunStore.open(Path(sys.argv[1]), {"seed": 0}, resume=True)
print("open", flush=True)
for i in range(int(sys.argv[2])):
    scope, body = f"scope{i}", json.dumps({"i": i, "text": "x" * 3000})
    store.put_recordings({"early": [Entry(str(i), "origin", body)]})
    store.put_recordings({scope: [Entry(str(n), f"r{i}", body) for n in range(5)]})
    store.put_rollout(f"r{i}", body, json.dumps(["trajectory", i]))
    store.write_text("R0/state.json", json.dumps([i] * 20_000))
    store.audit({"step": i})
"""


@pytest.fixture
def store(tmp_path):
    with RunStore.open(tmp_path / "run", IDENTITY, resume=False) as store:
        yield store


def reopen(path, identity=IDENTITY):
    return RunStore.open(path, identity, resume=True)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


# --- what is stored ----------------------------------------------------------------------------------


def test_what_was_put_is_there_after_reopening(tmp_path):
    entries = [Entry("b", "r1", "2"), Entry("a", "r1", "1")]
    with RunStore.open(tmp_path, IDENTITY, resume=False) as store:
        store.put_recordings({"s": entries, "world/t": entries[:1]})
        store.put_rollout("r1", '{"outcome":"passed"}', '{"step":1}\n')
        store.put_memo("round-1/planner", "do this")
    with reopen(tmp_path) as store:
        assert store.rollout("r1") == '{"outcome":"passed"}'
        assert list(store.rollouts()) == [("r1", '{"outcome":"passed"}')]
        assert store.trajectory("r1") == '{"step":1}\n'
        assert store.recordings("s") == entries
        assert store.recordings("world/t") == entries[:1]
        assert store.memo("round-1/planner") == "do this"


def test_what_was_never_put_is_none(store):
    store.put_rollout("without a trajectory", "body")
    assert (store.rollout("x"), store.trajectory("x"), store.memo("x"), store.recordings("x")) == (None, None, None, [])
    assert store.trajectory("without a trajectory") is None


def test_the_first_write_of_a_key_stays(store):
    store.put_rollout("r", "one", "first")
    store.put_rollout("r", "two", "second")
    store.put_memo("m", "one")
    store.put_memo("m", "two")
    assert (store.rollout("r"), store.trajectory("r"), store.memo("m")) == ("one", "first", "one")


def test_a_recording_made_anew_takes_the_place_of_the_one_that_was_out_of_date(store):
    store.put_recordings({"s": [Entry("k", "first", "1"), Entry("k2", "first", "1")]})
    store.put_recordings({"s": [Entry("k", "second", "2")]})
    assert store.recordings("s") == [Entry("k", "second", "2"), Entry("k2", "first", "1")]


def test_a_trajectory_may_come_after_its_rollout_and_changes_nothing_else(store):
    store.put_rollout("r", "one")
    store.put_rollout("r", "two", "late")
    assert (store.rollout("r"), store.trajectory("r")) == ("one", "late")


def test_scopes_of_recordings_do_not_mix(store):
    store.put_recordings({"s": [Entry("k", "o", "response")], "world/s": [Entry("k", "o", "observation")]})
    store.put_recordings({"t": [Entry("k", "o", "other")]})
    assert {scope: [e.body for e in store.recordings(scope)] for scope in ("s", "world/s", "t")} == {
        "s": ["response"],
        "world/s": ["observation"],
        "t": ["other"],
    }


def test_artifacts_are_written_with_their_folders_and_replaced_whole(store):
    store.write_text("R1/verdicts/C-R1-01.md", "föö\n")
    store.write_text("R1/verdicts/C-R1-01.md", "bar\r\n")
    assert (store.path / "R1/verdicts/C-R1-01.md").read_bytes() == b"bar\r\n"
    assert not (store.path / ".writing").exists()


@pytest.mark.parametrize("path", ["../outside.md", "/etc/outside.md", "R1/../../outside.md"])
def test_artifacts_stay_inside_the_run_folder(store, path):
    with pytest.raises(ValueError, match="not inside the run folder"):
        store.write_text(path, "")


# --- identity and resume -----------------------------------------------------------------------------


def test_a_run_is_not_overwritten_by_accident(tmp_path):
    RunStore.open(tmp_path, IDENTITY, resume=False).close()
    with pytest.raises(UserError, match=r"already holds a run: set run\.resume=true"):
        RunStore.open(tmp_path, IDENTITY, resume=False)


def test_resuming_where_nothing_began_begins(tmp_path):
    with reopen(tmp_path / "new") as store:
        assert store.identity == IDENTITY


@pytest.mark.parametrize(
    ("identity", "difference"),
    [
        (
            {"benchmark": {"name": "jsonl", "tasks": 24}, "seed": 1},
            'benchmark.name was "household" and is now "jsonl"',
        ),
        ({"benchmark": {"name": "household", "tasks": 24}, "seed": False}, "seed was 0 and is now false"),
        ({"benchmark": {"name": "household"}, "seed": 0}, "benchmark.tasks was 24 and is now absent"),
        ({**IDENTITY, "agent": [1]}, r"agent was absent and is now [1]"),
    ],
)
def test_another_identity_cannot_resume_and_the_first_difference_is_named(tmp_path, identity, difference):
    RunStore.open(tmp_path, IDENTITY, resume=False).close()
    with pytest.raises(UserError) as error:
        reopen(tmp_path, identity)
    assert difference in str(error.value)
    reopen(tmp_path).close()  # the refusal let go of the folder


def test_the_order_of_keys_is_no_difference(tmp_path):
    RunStore.open(tmp_path, IDENTITY, resume=False).close()
    reopen(tmp_path, dict(reversed(IDENTITY.items()))).close()


def test_a_kill_before_the_identity_was_stored_leaves_a_folder_that_can_begin(tmp_path):
    store = RunStore.open(tmp_path, IDENTITY, resume=False)
    store.close()
    with sqlite3.connect(tmp_path / "run.db") as db:
        db.execute("DELETE FROM identity")
    db.close()
    RunStore.open(tmp_path, IDENTITY, resume=False).close()


def test_a_file_that_is_no_database_and_a_later_format_are_refused_in_one_line(tmp_path):
    (tmp_path / "run.db").write_text("not a database, but long enough to be taken for one" * 40)
    for open_ in (reopen, RunStore.read):
        with pytest.raises(UserError, match="not a database"):
            open_(tmp_path)
    (tmp_path / "run.db").unlink()
    with sqlite3.connect(tmp_path / "run.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for open_ in (reopen, RunStore.read):
        with pytest.raises(UserError, match="has format 99"):
            open_(tmp_path)


# --- the audit trail ---------------------------------------------------------------------------------


def test_a_resumed_run_replays_its_audit_trail_and_then_appends(tmp_path):
    with RunStore.open(tmp_path, IDENTITY, resume=False) as store:
        store.audit({"b": 1, "a": "ä"})
        store.audit({"round": 1})
    before = (tmp_path / "audit.jsonl").read_bytes()
    with reopen(tmp_path) as store:
        store.audit({"a": "ä", "b": 1})
        store.audit({"round": 1})
        assert (tmp_path / "audit.jsonl").read_bytes() == before
        store.audit({"round": 2})
        assert store.audit_entries() == [{"a": "ä", "b": 1}, {"round": 1}, {"round": 2}]


def test_another_story_is_not_a_continuation(tmp_path):
    with RunStore.open(tmp_path, IDENTITY, resume=False) as store:
        store.audit({"round": 1})
    with reopen(tmp_path) as store, pytest.raises(UserError, match=r"not a continuation.*line 1"):
        store.audit({"round": 2})


@pytest.mark.parametrize("torn", [b'{"round":', b'{"round":3}', b"\xc3", b"\0\0\0\0\n", b'{"rou\n'])
def test_a_torn_last_line_is_cut_off(tmp_path, torn):
    with RunStore.open(tmp_path, IDENTITY, resume=False) as store:
        store.audit({"round": 1})
    whole = (tmp_path / "audit.jsonl").read_bytes()
    (tmp_path / "audit.jsonl").write_bytes(whole + torn)
    with RunStore.read(tmp_path) as reader:
        assert reader.audit_entries() == [{"round": 1}]
    with reopen(tmp_path) as store:
        assert (tmp_path / "audit.jsonl").read_bytes() == whole
        store.audit({"round": 1})
        store.audit({"round": 2})
        assert store.audit_entries() == [{"round": 1}, {"round": 2}]


# --- ownership ---------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_told_who_owns_the_run(store):
    code = (
        "import sys; from pathlib import Path; from aegis.store import RunStore\n"
        f"RunStore.open(Path(sys.argv[1]), {IDENTITY!r}, resume=True)"
    )
    second = python(code, store.path)
    _, error = second.communicate(timeout=30)
    assert second.returncode != 0
    assert f"is in use by process {os.getpid()}" in error.splitlines()[-1]


def test_the_same_process_cannot_own_a_run_twice(store):
    with pytest.raises(UserError, match="in use"):
        reopen(store.path)


def test_closing_lets_the_next_one_in(store):
    store.close()
    store.close()
    reopen(store.path).close()


def test_a_forked_child_does_not_keep_the_folder_of_a_closed_store(tmp_path):
    store = RunStore.open(tmp_path, IDENTITY, resume=False)
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        time.sleep(0.1)
        store.close()
        reopen(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("owner", ["1", "999999999", ""])
def test_a_lock_file_whose_owner_is_gone_does_not_keep_anyone_out(tmp_path, owner):
    """Pid 1 lives, as the reused pid of a dead owner would."""
    RunStore.open(tmp_path, IDENTITY, resume=False).close()
    (tmp_path / "run.lock").write_text(owner)
    reopen(tmp_path).close()


def test_a_reader_sees_a_running_run_and_cannot_write_it(store):
    store.put_rollout("r", "one")
    with RunStore.read(store.path) as reader:
        assert reader.rollout("r") == "one"
        store.put_rollout("r2", "two")
        assert reader.rollout("r2") == "two"
        assert reader.identity == IDENTITY
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._db.execute("DELETE FROM rollout")


def test_reading_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no run in .* it holds no run\.db"):
        RunStore.read(tmp_path)


# --- kills and bad disks, with real processes --------------------------------------------------------


def write_one_of_each(store: RunStore) -> None:
    store.write_text("R0/state.md", "new" * 5000)
    store.put_recordings({"s": [Entry("k", "r", "1")], "world/t": [Entry("k", "r", "2")]})
    store.put_rollout("r", "body", "trajectory")
    store.audit({"step": 0})
    store.audit({"step": 1, "text": "x" * 5000})


TOUCHES_DISK = {"open", "mkdir", "write", "flush", "fsync", "replace", "executemany", "__exit__"}


def dies_at_call(number: int, path: Path) -> bool:
    """Resume in a child that is killed before its ``number``-th call to the disk; False if it finished."""
    child = os.fork()
    if child == 0:
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "c_call" and argument.__name__ in TOUCHES_DISK
            if calls > number:
                os.kill(os.getpid(), signal.SIGKILL)

        store = reopen(path)
        sys.setprofile(count)
        write_one_of_each(store)
        sys.setprofile(None)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture
def memory_folder():
    """A folder where syncing costs nothing, where there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


def test_a_kill_between_any_two_steps_of_a_write_leaves_it_whole_or_absent(memory_folder):
    template, seen = memory_folder / "template", set()
    with RunStore.open(template, IDENTITY, resume=False) as store:
        store.write_text("R0/state.md", "old" * 5000)
        store.audit({"step": 0})
    for number in itertools.count():
        run = memory_folder / str(number)
        shutil.copytree(template, run)
        died = dies_at_call(number, run)
        with RunStore.read(run) as reader:
            text = (run / "R0/state.md").read_text()
            recorded = (len(reader.recordings("s")), len(reader.recordings("world/t")))
            stored = (recorded, reader.rollout("r"), reader.trajectory("r"))
            seen.add((text[:3], stored, len(reader.audit_entries())))
            assert text in ("old" * 5000, "new" * 5000)
        with reopen(run) as store:
            write_one_of_each(store)
            assert [entry["step"] for entry in store.audit_entries()] == [0, 1]
        if not died:
            break
    nothing, recorded, everything = ((0, 0), None, None), ((1, 1), None, None), ((1, 1), "body", "trajectory")
    assert seen == {
        ("old", nothing, 1),
        ("new", nothing, 1),
        ("new", recorded, 1),
        ("new", everything, 1),
        ("new", everything, 2),
    }


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_any_moment_leaves_every_write_whole_or_absent(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(2):  # the second sitting is itself a resume
        writer = python(WRITER, tmp_path, 100_000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        time.sleep(rng.uniform(0.0, 0.25))
        writer.kill()
        writer.communicate()
        check_whole(tmp_path)


def check_whole(path: Path) -> None:
    with RunStore.read(path) as reader:
        rollouts = [key for key, _ in reader.rollouts()]
        assert rollouts == [f"r{i}" for i in range(len(rollouts))]
        for i, key in enumerate(rollouts):
            assert json.loads(reader.rollout(key))["i"] == i
            assert json.loads(reader.trajectory(key)) == ["trajectory", i]
            assert [entry.origin for entry in reader.recordings(f"scope{i}")] == [key] * 5
        assert len(reader.recordings(f"scope{len(rollouts)}")) in (0, 5)
        assert reader.recordings(f"scope{len(rollouts) + 1}") == []
        steps = [entry["step"] for entry in reader.audit_entries()]
        assert steps == list(range(len(steps)))
        assert len(steps) <= len(rollouts)
    state = path / "R0/state.json"
    if state.exists():
        assert len(set(json.loads(state.read_text()))) == 1


def test_a_killed_run_resumes_to_what_an_unbroken_one_leaves(tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    writer = python(WRITER, broken, 100_000)
    assert writer.stdout is not None
    writer.stdout.readline()
    while not (broken / "R0/state.json").exists():
        time.sleep(0.005)
    writer.kill()
    writer.communicate()
    with RunStore.read(broken) as reader:
        steps = len(list(reader.rollouts())) + 3
    for path in (broken, whole):
        _, error = python(WRITER, path, steps).communicate(timeout=60)
        assert error == ""
    assert (broken / "audit.jsonl").read_bytes() == (whole / "audit.jsonl").read_bytes()
    with RunStore.read(broken) as one, RunStore.read(whole) as other:
        assert list(one.rollouts()) == list(other.rollouts())
        assert one.recordings("early") == other.recordings("early")


@pytest.fixture
def public_folder():
    """A folder that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from aegis.store import RunStore
from harnessx.errors import UserError

if os.geteuid() == 0:  # no folder is read-only to root
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
path = Path(sys.argv[1])
"""


@pytest.mark.parametrize("name", [".", "new/run"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(public_folder, name):
    code = UNPRIVILEGED + ("try: RunStore.open(path, {}, resume=False)\nexcept UserError as error: print(error)")
    public_folder.chmod(0o555)
    output, error = python(code, public_folder / name).communicate(timeout=30)
    public_folder.chmod(0o755)
    assert error == ""
    assert output.count("\n") == 1
    assert "cannot write the run folder" in output
    assert "set another run.dir" in output


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_on_a_read_only_disk_can_be_read(public_folder, killed):
    run = public_folder / "run"
    writer = python(WRITER, run, 100_000 if killed else 3)
    if killed:
        while not (run / "audit.jsonl").exists() or not (run / "audit.jsonl").stat().st_size:
            time.sleep(0.005)
        writer.kill()
    writer.communicate(timeout=60)
    code = UNPRIVILEGED + (
        "with RunStore.read(path) as run:\n    print(len(list(run.rollouts())) >= 1, run.audit_entries()[0])"
    )
    run.chmod(0o555)
    output, error = python(code, run).communicate(timeout=30)
    run.chmod(0o755)
    assert (output, error) == ("True {'step': 0}\n", "")


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_stored(store):
    store.put_rollout("r", "kept")
    store._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(UserError, match=r"cannot write .* full"):
        store.put_rollout("big", "x" * 1_000_000)
    with pytest.raises(UserError, match=r"cannot write .* full"):
        store.put_recordings({"s": [Entry("k", "o", "b"), Entry("k2", "o", "x" * 1_000_000)]})
    assert (store.rollout("big"), store.rollout("r"), store.recordings("s")) == (None, "kept", [])


def test_an_audit_line_that_does_not_fit_is_taken_back(tmp_path):
    """A file size limit stands in for a full disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from aegis.store import RunStore\n"
        "from harnessx.errors import UserError\n"
        "store = RunStore.open(Path(sys.argv[1]), {'seed': 0}, resume=False)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store.audit({'step': 0})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
        "try: store.audit({'step': 'x' * 500})\n"
        "except UserError as error: print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "store.audit({'step': 1})\n"
    )
    output, error = python(code, tmp_path).communicate(timeout=30)
    assert error == ""
    assert "cannot write" in output
    assert (tmp_path / "audit.jsonl").read_text() == '{"step":0}\n{"step":1}\n'
