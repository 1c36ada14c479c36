"""The wall: what is promised is tried, each try has its control, and each layer is missed when it is gone."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from harnessx.errors import UserError
from harnessx.sandbox import BACKENDS, backend, doctor, native, scratch
from harnessx.sandbox.base import Wall
from harnessx.sandbox.checks import CHECKS
from harnessx.sandbox.doctor import Examination, _probe, examine, table
from harnessx.sandbox.native import Landlock
from harnessx.sandbox.probe import REACHED
from harnessx.sandbox.scratch import MAX_DEPTH, excess_of

MISSING = Landlock().missing()
walled = pytest.mark.skipif(bool(MISSING), reason=f"landlock: {MISSING}")
OF_THE_MACHINE = {"make a namespace", "submit calls by io_uring", "use the kernel's key rings"}
"""What some machines refuse to anybody."""
NOBODY = 1 << 30
"""The number of no process."""
IN_A_TREE = {"see whether a file outside exists"}


class Without(Landlock):
    """The landlock wall, with a part of it gone."""

    def __init__(self, **gone: bool) -> None:
        self.gone = gone

    def command(self, module, args, folder):
        words = super().command(module, args, folder)
        at = next(i for i, word in enumerate(words) if word.startswith("{"))
        words[at] = dataclasses.replace(Wall.from_json(words[at]), **self.gone).to_json()
        return words


@pytest.fixture(scope="module")
def found():
    return examine()


def test_every_check_reaches_its_sentinel_where_there_is_no_wall(found):
    stopped = {name: what for name, what in found.control.items() if what != REACHED and name not in OF_THE_MACHINE}
    assert stopped == {}
    assert found.control.keys() == {check.name for check in CHECKS}


@pytest.mark.parametrize("name", ["bubblewrap", "landlock", "docker"])
def test_every_promise_of_a_wall_is_kept(found, name):
    if name not in found.behind:
        pytest.skip(f"{name}: {found.missing[name]}")
    sandbox = backend(name)
    reached = [c.name for c in CHECKS if found.behind[name][c.name] == REACHED and c.layers & sandbox.layers()]
    assert reached == []
    assert found.broken == []


@walled
def test_without_namespaces_only_the_existence_of_files_shows_and_that_is_not_promised(monkeypatch):
    monkeypatch.setattr(native, "has_namespaces", lambda: False)
    sandbox = Landlock()
    reached = {name for name, what in _probe(sandbox).items() if what == REACHED}
    assert reached == IN_A_TREE
    assert all(not check.layers & sandbox.layers() for check in CHECKS if check.name in reached)


@walled
@pytest.mark.parametrize(
    ("layer", "missed"),
    {
        "landlock": "read a file outside; list a folder outside; write a file outside; remove a file outside; "
        "read the scratch of another rollout; see the processes of the host; resolve a name",
        "seccomp": "change the rights of a file outside; have its files signal another process; trace a process; "
        "send a UDP packet; connect to a unix socket; talk to the kernel by netlink; start a process; start a thread; "
        "leave a daemon behind; take 4 GB of memory; open 500 files; switch off what kills it with its parent",
    }.items(),
)
def test_a_layer_that_is_gone_is_missed(monkeypatch, layer, missed):
    monkeypatch.setattr(native, "has_namespaces", lambda: False)
    reached = {name for name, what in _probe(Without(**{layer: False})).items() if what == REACHED}
    assert set(missed.split("; ")) <= reached
    assert not reached & {check.name for check in CHECKS if check.layers - {"tree", layer}}


def test_a_broken_promise_is_said_and_is_a_failure(found, monkeypatch, capsys):
    if "landlock" not in found.behind:
        pytest.skip(f"landlock: {MISSING}")
    leaky = dict(found.behind["landlock"], **{"send a UDP packet": REACHED})
    monkeypatch.setattr(doctor, "examine", lambda: Examination(found.control, {"landlock": leaky}, {}))
    assert doctor.main() == 1
    assert "BROKEN PROMISE: landlock: send a UDP packet" in capsys.readouterr().out


def test_a_check_without_a_control_is_no_proof(found):
    if "landlock" not in found.behind:
        pytest.skip(f"landlock: {MISSING}")
    blind = Examination(dict(found.control, trace="it is switched off"), found.behind, {})
    check = dataclasses.replace(CHECKS[0], name="trace")
    behind = {"landlock": {**found.behind["landlock"], "trace": "PermissionError"}}
    assert dataclasses.replace(blind, behind=behind).status(Landlock(), check) == "no control"


def test_no_wall_at_all_is_a_failure(found, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: Examination(found.control, {}, {"landlock": "old kernel"}))
    assert doctor.main() == 1
    assert "landlock: not available; old kernel" in table(doctor.examine())


def test_the_command_line_knows_one_word():
    done = subprocess.run([sys.executable, "-m", "harnessx.sandbox", "cure"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "usage: python -m harnessx.sandbox doctor\n")


def test_a_backend_that_is_not_there_fails_and_names_the_remedy():
    missing = [sandbox for sandbox in BACKENDS if sandbox.missing()]
    for sandbox in missing:
        with pytest.raises(UserError, match=f"isolation={sandbox.name} is not available here: .*;"):
            backend(sandbox.name)


def test_a_wall_survives_the_way_to_its_process():
    wall = Wall("/home", "/root", ("/a", "/b"), ("/c",), True, True, True)
    assert Wall.from_json(wall.to_json()) == wall


# --- what a rollout has written -----------------------------------------------------------------------


def test_what_is_written_is_measured_in_files_bytes_and_depth(tmp_path):
    assert excess_of(tmp_path, 1 << 20, NOBODY) == ""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/large").write_bytes(b"x" * (3 << 20))
    assert excess_of(tmp_path, 4 << 20, NOBODY) == ""
    assert excess_of(tmp_path, 2 << 20, NOBODY) == "wrote more than 2 MB"


def test_a_hole_in_a_file_is_not_written(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    assert excess_of(tmp_path, 1 << 20, NOBODY) == ""


def test_what_is_removed_and_held_open_is_written_until_it_is_let_go(tmp_path):
    before = scratch._nameless(os.getpid())
    with open(tmp_path / "removed", "wb") as file:
        file.write(bytes(3 << 20))
        file.flush()
        assert scratch._nameless(os.getpid()) == before
        os.unlink(tmp_path / "removed")
        with open(f"/proc/self/fd/{file.fileno()}", "rb"):  # a second handle holds no more
            assert scratch._nameless(os.getpid()) == before + (3 << 20)
        assert excess_of(tmp_path, before + (2 << 20), os.getpid()).startswith("wrote more than")
    assert scratch._nameless(os.getpid()) == before


def test_many_files_and_deep_folders_are_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "MAX_ENTRIES", 50)
    for number in range(51):
        (tmp_path / str(number)).touch()
    assert "more than" in excess_of(tmp_path, 1 << 30, NOBODY)
    deep = tmp_path / "below"
    deep.mkdir()
    inner = deep.joinpath(*["d"] * (MAX_DEPTH + 1))
    inner.mkdir(parents=True)
    assert "deeper than" in excess_of(deep, 1 << 30, NOBODY)


def test_a_link_is_not_followed_and_a_missing_folder_holds_nothing(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    assert excess_of(tmp_path, 1 << 20, NOBODY) == ""
    assert excess_of(tmp_path / "gone", 1, NOBODY) == ""
