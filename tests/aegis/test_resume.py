"""A run that was killed, interrupted or taken up again is the run it would have been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deaths import SHORT, Driven
from evolve_drive import (
    candidates,
    code,
    command,
    edit,
    good_code,
    insert,
    lasting,
    rounds,
    run,
    script,
    trail,
)

from aegis.store import RunStore

TWO_ROUNDS = (
    {"propose": [good_code()]},
    {"propose": [edit("late", insert("Instructions", text="Be brief."))], "review": {"strategy_concern": "too few"}},
)
STAGES, WRITES = 14, 6
DEATHS = [("stage", number, 0) for number in range(1, STAGES + 1)]
DEATHS += [("write", share, 0 if share % 3 else share) for share in range(1, WRITES + 1)]
"""(kind, which, the resume's own death): a write is given as a share of all of them, in eighths."""


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> str:
    return script(tmp_path_factory.mktemp("script") / "script.yaml", *TWO_ROUNDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, named) -> Driven:
    """The run nobody disturbed."""
    driven = Driven(tmp_path_factory.mktemp("whole") / "d", named)
    assert driven.go() == 0
    assert candidates(driven.run)["procedures"]["verdict"] == "ship"
    assert [r["shipped"] for r in rounds(driven.run)] == [["C-R1-01"], []]
    return driven


def stored(folder: Path) -> dict[str, str]:
    if not (folder / "run.db").exists():
        return {}
    with RunStore.read(folder) as reader:
        return dict(reader.rollouts())


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, named, whole) -> dict[tuple[str, int, int], tuple[Driven, dict[str, str]]]:
    """Runs killed at every stage and all over their writes, each resumed; with what was stored at the death."""
    assert whole.report["stage"] == STAGES
    folder = tmp_path_factory.mktemp("killed")

    def die_and_resume(death: tuple[str, int, int]) -> tuple[Driven, dict[str, str]]:
        kind, which, second = death
        writes = whole.report["write"]
        driven = Driven(folder / "-".join(map(str, death)), named)
        assert driven.go(kind, which if kind == "stage" else writes * which // (WRITES + 1)) == -signal.SIGKILL
        before = stored(driven.run)
        if second:
            assert driven.go("write", 12 + second) == -signal.SIGKILL
        assert driven.go() == 0
        return driven, before

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(DEATHS, pool.map(die_and_resume, DEATHS), strict=True))


@pytest.mark.parametrize("death", DEATHS, ids=lambda d: "-".join(map(str, d)))
def test_a_killed_run_resumes_to_the_same_bytes(resumed, whole, death):
    driven, _ = resumed[death]
    files, expected = lasting(driven.run), lasting(whole.run)
    assert files.keys() == expected.keys()
    assert [name for name in files if files[name] != expected[name]] == []


@pytest.mark.parametrize("death", DEATHS, ids=lambda d: "-".join(map(str, d)))
def test_a_resumed_run_runs_no_finished_rollout_again_and_loses_no_total(resumed, whole, death):
    driven, before = resumed[death]
    after = stored(driven.run)
    assert driven.report["again"] == []
    assert before.items() <= after.items()
    assert after.keys() == stored(whole.run).keys()
    assert totals(driven.run) == totals(whole.run)


def totals(folder: Path) -> dict[str, Any]:
    """The summary, without how long it took and what was installed."""
    summary = json.loads((folder / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name not in ("seconds", "versions")}


def test_the_deaths_lie_before_between_and_after_the_rollouts(resumed, whole):
    left = sorted(len(before) for _, before in resumed.values())
    total = len(stored(whole.run))
    assert left[0] == 0
    assert left[-1] > 0.6 * total
    assert len(set(left)) >= 8


def test_resuming_a_finished_run_changes_nothing_and_runs_nothing(whole, tmp_path, named):
    again = Driven(tmp_path / "again", named)
    shutil.copytree(whole.run, again.run)
    before = everything(again.run)
    done = run(f"run.dir={again.run}", "run.resume=true")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{again.run} is finished; nothing is left to run\n"
    assert "sealed" in done.stdout
    assert everything(again.run) == before


def test_what_a_finished_run_lacks_is_written_again(whole, tmp_path, named):
    again = Driven(tmp_path / "again", named)
    shutil.copytree(whole.run, again.run)
    (again.run / "report.html").unlink()
    assert again.go() == 0
    assert (again.run / "report.html").exists()
    assert lasting(again.run) == lasting(whole.run)


def test_a_resume_without_settings_takes_those_of_the_folder(half, whole):
    done = run(f"run.dir={half.run}", "run.resume=true", "runner.concurrency=2")
    assert done.returncode == 0, done.stderr
    assert lasting(half.run) == lasting(whole.run)


# --- what a resume may change -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory, named) -> Path:
    """A run killed when its second round began."""
    driven = Driven(tmp_path_factory.mktemp("half") / "d", named)
    assert driven.go("stage", 8) == -signal.SIGKILL
    return driven.run


@pytest.fixture
def half(tmp_path, named, killed) -> Driven:
    """The same, to go on with."""
    driven = Driven(tmp_path / "half", named)
    shutil.copytree(killed, driven.run)
    return driven


@pytest.mark.parametrize("changed", [("runner.concurrency=1", "runner.lanes=2", "patience=9", "budget.usd=5")])
def test_a_resume_may_change_how_it_works_and_what_it_may_spend(half, whole, changed):
    assert half.go("none", 0, *changed) == 0
    assert lasting(half.run) == lasting(whole.run)


def test_a_resume_may_add_rounds(half):
    assert half.go("none", 0, "rounds=3") == 0
    assert [r["round"] for r in rounds(half.run)] == [1, 2, 3]


@pytest.mark.parametrize(("tighter", "last"), [("rounds=1", "sealed"), ("budget.rollouts=1", "round")])
def test_a_tighter_limit_ends_a_resumed_run_after_the_rounds_it_has(half, tighter, last):
    assert half.go("none", 0, tighter) == 0
    assert [r["round"] for r in rounds(half.run)] == [1]
    assert trail(half.run)[-1]["event"] == last


def test_a_tighter_limit_takes_back_no_round(whole, tmp_path, named):
    again = Driven(tmp_path / "again", named)
    shutil.copytree(whole.run, again.run)
    (again.run / "summary.json").unlink()
    assert again.go("none", 0, "rounds=1", "budget.rollouts=1") == 0
    assert lasting(again.run) == lasting(whole.run)
    assert json.loads((again.run / "summary.json").read_text())["unscored"] == {}


def everything(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name.partition(".")[0] != "run")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("run.resume=true", "seed=1"), "benchmark.seed was 0 and is now 1"),
        (("run.resume=true", "gate.alpha=0.4"), "gate.alpha was 0.5 and is now 0.4"),
        (("run.resume=true", "gate=seesaw"), "gate.rule was"),
        (("run.resume=true", "benchmark.splits.evolve=7"), "benchmark.splits.evolve was 6 and is now 7"),
        (("run.resume=true", "rounds=3"), "is finished: its sealed tasks were read after 2 rounds"),
        (("run.resume=true", "patience=9"), "patience was 4: for patience=9 set another run.dir"),
        (("run.resume=true", "budget.usd=5"), "budget.usd was null: for budget.usd=5 set another run.dir"),
        ((), "already holds a run: set run.resume=true"),
    ],
    ids=lambda value: "-".join(value[-1:]) if isinstance(value, tuple) else "",
)
def test_another_run_may_not_go_on_in_this_folder(whole, named, changed, said):
    before = everything(whole.run)
    done = run(*SHORT, named, f"run.dir={whole.run}", *changed)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert everything(whole.run) == before


def test_a_folder_has_one_process(tmp_path, named):
    with RunStore.open(tmp_path / "run", {}, resume=False):
        done = run(*SHORT, named, f"run.dir={tmp_path / 'run'}", "run.resume=true")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"is in use by process {os.getpid()}" in done.stderr


# --- signals and what is left behind --------------------------------------------------------------------


class Started:
    """A run in a process of its own, all of whose descendants can be found."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.home, self._mark = folder / "home", uuid.uuid4().hex
        self.home.mkdir()
        environment = {**os.environ, "TMPDIR": str(self.home), "EVOLVE_MARK": self._mark}
        self.process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True, env=environment)
        self.said: list[str] = []

    def until(self, text: str) -> None:
        """Read its progress until a line holds ``text``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if text in line:
                return
        raise AssertionError("".join(self.said))

    def until_a_child_works(self) -> None:
        """Wait until a process of evolved code (or of its smoke test) is there."""
        while not [cwd for cwd in self._children() if cwd is not None]:
            assert self.process.poll() is None
            time.sleep(0.01)

    def end(self, timeout: float = 30) -> int:
        """Wait for the end; the exit code."""
        _, rest = self.process.communicate(timeout=timeout)
        self.said.append(rest)
        return self.process.returncode

    def left(self) -> list[Path | None]:
        """Descendants still alive two seconds later."""
        deadline = time.monotonic() + 2
        while self._children() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self._children()

    def _children(self) -> list[Path | None]:
        """Lanes are known by what they inherit (None), code below them by the folder it works in."""
        found: list[Path | None] = []
        for entry in _processes():
            try:
                if f"EVOLVE_MARK={self._mark}".encode() in (entry / "environ").read_bytes():
                    found += [None] if int(entry.name) != self.process.pid else []
                elif (cwd := Path(os.readlink(entry / "cwd"))).is_relative_to(self.home):
                    found.append(cwd)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


SLOW = """\
import asyncio
from dataclasses import dataclass

from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        await asyncio.sleep(25)
        yield event.remind("Think.")
"""
PASSES = "def test_it(build):\n    assert build\n"


@pytest.mark.parametrize(
    "slow",
    [code("slow", SLOW, PASSES), code("endless", SLOW, "def test_it(build):\n    while True:\n        pass\n")],
    ids=["worker", "smoke test"],
)
def test_no_process_outlives_a_killed_run(tmp_path, slow):
    named = script(tmp_path / "script.yaml", {"propose": [slow]})
    started = Started(tmp_path, *SHORT, named, f"run.dir={tmp_path / 'run'}")
    started.until("· gate")
    started.until_a_child_works()
    started.process.kill()
    assert started.end() == -signal.SIGKILL
    assert started.left() == []


def test_the_first_interrupt_drains_and_the_run_can_go_on(tmp_path, named, whole):
    folder = tmp_path / "run"
    started = Started(tmp_path, *SHORT, named, f"run.dir={folder}")
    started.until("round 1 of 2 · gate · ")
    started.process.send_signal(signal.SIGINT)
    assert started.end() == 130
    said = "".join(started.said)
    assert f"give the same command with run.dir={folder} run.resume=true" in said
    assert "Traceback" not in said
    assert started.left() == []
    assert not (folder / "summary.json").exists()
    done = run(*SHORT, named, f"run.dir={folder}", "run.resume=true")
    assert done.returncode == 0, done.stderr
    assert lasting(folder) == lasting(whole.run)


def test_the_second_interrupt_stops_at_once(tmp_path):
    named = script(tmp_path / "script.yaml", {"propose": [code("slow", SLOW, PASSES)]})
    started = Started(tmp_path, *SHORT, named, f"run.dir={tmp_path / 'run'}")
    started.until("· gate")
    started.until_a_child_works()
    time.sleep(1.5)  # the smoke test is over and the first rollouts sleep
    started.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert started.process.poll() is None  # it waits for the rollouts in flight
    started.process.send_signal(signal.SIGINT)
    assert started.end(timeout=10) == 130
    said = "".join(started.said)
    assert "Ctrl-C again stops at once" in said
    assert "Traceback" not in said
    assert started.left() == []
