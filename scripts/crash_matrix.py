"""Kills processes of runs at random points, resumes, and compares what is left with a run nobody disturbed.

    python scripts/crash_matrix.py --points 120 --out results/crash_matrix.json

The runs are small evolutions on ``household`` whose candidates bring code of their own, and whose games are
each played in a process. Killed, with SIGKILL, are the host (and the run resumed), a lane, a worker with
evolved code, and the process of an environment. A run is disturbed several times, then finished.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/aegis")]

from evolve_drive import SMALL, code, edit, good_code, insert, lasting, script  # noqa: E402

from aegis.provenance import publish  # noqa: E402
from aegis.store import RunStore  # noqa: E402

VICTIMS = ("host", "lane", "worker", "environment")
SETTINGS = (
    *SMALL, "rounds=2", "benchmark.splits.sealed=3", "gate.cap=24", "gate.batch=8", "gate.run_cap=28",
    "gate.canaries=3", "gate.calibration=3", "benchmark._target_=apart.HouseholdApart",
)  # fmt: skip
SLOW = """\
import time
from dataclasses import dataclass

from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        time.sleep(0.002)
        yield event
"""
TAKES_TURNS = "def test_it(build):\n    assert build\n"


@dataclass
class Tally:
    """What the kills of one kind of process came to."""

    points: int = 0
    runs: int = 0
    differing: list[str] = field(default_factory=list)
    lost: int = 0
    twice: int = 0
    failed: list[str] = field(default_factory=list)


def main() -> None:
    """Kill, resume, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=120, help="kills in all, a quarter of each kind")
    parser.add_argument("--each", type=int, default=3, help="kills of one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=VICTIMS, choices=VICTIMS)
    parser.add_argument("--keep", type=Path, help="where the runs go; left out: they are not kept")
    parser.add_argument("--out", type=Path, help="where the table goes; left out: it is printed")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    tallies = {victim: Tally() for victim in arguments.kinds}
    with tempfile.TemporaryDirectory() as temporary:
        matrix = Matrix(arguments.keep or Path(temporary), arguments.each, rng)
        for victim, tally in tallies.items():
            while tally.points < arguments.points / len(tallies):
                matrix.disturb(victim, tally)
                print(victim, asdict(tally), flush=True)
    table = {
        "points": sum(tally.points for tally in tallies.values()),
        "killed": {victim: asdict(tally) for victim, tally in tallies.items()},
        "rollouts": len(matrix.whole_keys),
        "seconds_undisturbed": round(matrix.takes, 1),
        "seed": arguments.seed,
    }
    publish(table, arguments.out)


class Matrix:
    """An undisturbed run, and what it is compared with."""

    def __init__(self, home: Path, each: int, rng: random.Random) -> None:
        self._home, self._each, self._rng = home, each, rng
        slow = code("slow", SLOW, TAKES_TURNS)
        late = edit("late", insert("Instructions", text="Be brief."))
        self._named = script(home / "script.yaml", {"propose": [good_code()]}, {"propose": [slow, late]})
        self._count = 0
        folder = home / "whole"
        began = time.monotonic()
        assert self._start(folder).wait() == 0, (home / "said").read_text()
        self.takes = time.monotonic() - began
        self.whole, self.whole_keys = lasting(folder), set(stored(folder))

    def disturb(self, victim: str, tally: Tally) -> None:
        """One run with a few kills of ``victim``."""
        self._count += 1
        folder = self._home / f"{victim}-{self._count}"
        finished: dict[str, str] = {}
        process, kills = self._start(folder), 0
        while kills < self._each:
            time.sleep(self.takes * self._rng.random() / self._each)
            pid = self._find(process, victim)
            if pid is None:
                break  # the run was faster
            os.kill(pid, signal.SIGKILL)
            kills += 1
            if victim == "host":
                process.wait()
                found = stored(folder)
                tally.lost += sum(found.get(key) != body for key, body in finished.items())
                finished = found
                process = self._start(folder)
        tally.points += kills
        tally.runs += 1
        if process.wait() != 0:
            tally.failed.append((self._home / "said").read_text()[-300:])
            return
        after = stored(folder)
        tally.lost += sum(after.get(key) != body for key, body in finished.items())
        tally.lost += len(self.whole_keys - after.keys())
        log = folder.with_suffix(".again")
        tally.twice += len(log.read_text().split()) if log.exists() else 0
        files = lasting(folder)
        names = sorted({*files, *self.whole})
        tally.differing += [f"{folder.name}/{name}" for name in names if files.get(name) != self.whole.get(name)]

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        """The command, in a process of its own, from the start or from where it was."""
        arguments = [*SETTINGS, self._named, f"run.dir={folder}", "run.resume=true"]
        path = os.pathsep.join([str(ROOT / "tests/aegis"), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "TOLD": str(folder.with_suffix(".again"))}
        with open(self._home / "said", "wb") as said:
            command = [sys.executable, str(ROOT / "tests/aegis/told.py"), *arguments]
            return subprocess.Popen(command, stdout=said, stderr=said, env=environment)

    def _find(self, process: subprocess.Popen[bytes], victim: str) -> int | None:
        """The pid of such a process of the run, as soon as there is one; None where the run ended first."""
        while process.poll() is None:
            if victim == "host":
                return process.pid
            found = list(_KINDS[victim](process.pid))
            if found:
                return self._rng.choice(found)
            time.sleep(0.002)
        return None


def _children(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, file.read_text().split())
        except OSError:
            continue


def _lanes(host: int) -> Iterator[int]:
    return (pid for pid in _children(host) if b"harnessx.runner.lane" in _read(pid, "cmdline"))


def _environments(host: int) -> Iterator[int]:
    below = (pid for lane in _lanes(host) for pid in _children(lane))
    return (pid for pid in below if _read(pid, "comm").strip() == b"environment")


def _workers(host: int) -> Iterator[int]:
    """What was forked from a zygote, however deep below the lane that is."""
    for lane in _lanes(host):
        for zygote in _below(lane):
            if b"harnessx.runner.worker" in _read(zygote, "cmdline"):
                yield from (pid for pid in _children(zygote) if b"harnessx.runner.worker" in _read(pid, "cmdline"))


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


_KINDS: dict[str, Callable[[int], Iterator[int]]] = {"lane": _lanes, "worker": _workers, "environment": _environments}


def stored(folder: Path) -> dict[str, str]:
    """The finished rollouts of a run, without the time of day."""
    if not (folder / "run.db").exists():
        return {}
    with RunStore.read(folder) as reader:
        return {key: _timeless(body) for key, body in reader.rollouts()}


def _timeless(body: str) -> str:
    fields: dict[str, Any] = json.loads(body)
    return json.dumps({name: value for name, value in fields.items() if name not in ("at", "wall_s")}, sort_keys=True)


if __name__ == "__main__":
    main()
