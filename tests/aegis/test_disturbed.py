"""A run whose disk fills up, or whose clock jumps, is the run it would have been."""

from __future__ import annotations

import resource
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import warm
from deaths import SHORT
from evolve_drive import good_code, lasting, run, script

JUMPS = """\
import random
import time

_real, _rng = time.time, random.Random(0)
time.time = lambda: _real() + _rng.choice((-1e9, -3600.0, 0.0, 0.5, 86400.0, 1e9))
"""
"""What every Python process of a run begins with: a clock that is never where it was."""


@dataclass
class FullDisk(AbstractContextManager[None]):
    """No file of this process and of those below it grows beyond so many bytes."""

    size: int

    def __enter__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        """The process ends."""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> tuple[str, ...]:
    return (*SHORT, script(tmp_path_factory.mktemp("script") / "script.yaml", {"propose": [good_code()]}), "rounds=1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, arguments) -> Path:
    """The run nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(*arguments, f"run.dir={folder}").returncode == 0
    return folder


def test_a_run_on_a_disk_that_fills_up_is_one_line_and_goes_on_when_there_is_room(tmp_path, arguments, whole):
    folder = tmp_path / "run"
    given = (*arguments, f"run.dir={folder}", "run.resume=true")
    size, sittings = 4096, 0
    while True:
        done = warm.call("aegis.evolve", given, around=FullDisk(size))
        if done.returncode == 0:
            break
        assert done.returncode == 2
        *_, last = done.stderr.splitlines()
        assert last.startswith("error: cannot ")
        assert "Traceback" not in done.stderr
        size, sittings = size * 4, sittings + 1
    assert sittings >= 3
    assert lasting(folder) == lasting(whole)


def test_a_run_whose_clock_jumps_is_the_same_run(tmp_path, arguments, whole):
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    folder = tmp_path / "run"
    done = run(*arguments, f"run.dir={folder}", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert lasting(folder) == lasting(whole)
