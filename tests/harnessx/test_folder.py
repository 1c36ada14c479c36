"""Folders of killed processes do not stay; those of living ones do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harnessx.runner.folder import OwnFolder

OWNER = """
import sys
from harnessx.runner.folder import OwnFolder
folder = OwnFolder("harnessx-worker-")
open(folder.name + "/note", "w").close()
print(folder.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path, monkeypatch):
    """Another process with a folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    process = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()
    monkeypatch.undo()
    tempfile.tempdir = None


def test_the_folder_of_a_living_process_is_left_alone(owner, tmp_path):
    _, folder = owner
    own = OwnFolder("harnessx-worker-")
    assert (folder / "note").exists()
    own.cleanup()
    assert [*tmp_path.iterdir()] == [folder]


def test_the_folder_of_a_killed_process_goes_when_the_next_one_is_made(owner, tmp_path):
    process, folder = owner
    foreign = tmp_path / "other-folder"
    foreign.mkdir()
    process.kill()
    process.wait()
    assert folder.exists()
    own = OwnFolder("harnessx-worker-")
    assert {*tmp_path.iterdir()} == {Path(own.name), foreign}
    own.cleanup()
