"""Rollouts behind the wall: what they cannot learn, what they cannot take, and that they end with their host."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from loop_drive import ECHO, Accept, World, harness
from worker_drive import WALL, code, rollout

import harnessx
from harnessx.errors import Outcome
from harnessx.hooks import Hook
from harnessx.loop import Episode
from harnessx.model_config import ModelConfig, Models
from harnessx.models.scripted import Scripted
from harnessx.runner.isolation import Workers
from harnessx.runner.rollout import Rollout, inprocess, run_rollout
from harnessx.runner.zygote import Zygote
from harnessx.sandbox import native, view
from harnessx.sandbox.choose import backend
from harnessx.sandbox.scratch import remove
from harnessx.tasks import Task

START = Hook.TASK_START
pytestmark = pytest.mark.skipif(WALL == "none", reason="landlock is not available here")
GOOD = code("yield event", START)


@pytest.fixture(scope="module")
def workers():
    crew = Workers(WALL, stall_s=60)
    yield crew
    crew.close()


def outside(path: Path) -> str:
    """Code that reads ``path`` and claims it."""
    return f"self.ctx.claims['read'] = open({str(path)!r}).read()\nyield event"


async def play(execute, harness, task: Task, attempt: int = 0):
    models = Models(ModelConfig(Scripted([ECHO, "done"], loop=True)))
    return await run_rollout(Rollout(harness, task, attempt, seed=3), models, World(), Accept(), execute=execute)


async def test_what_is_outside_cannot_be_read_and_without_a_wall_it_can(workers, tmp_path):
    (tmp_path / "answers").write_text("42")
    walled = await rollout(workers, code(outside(tmp_path / "answers"), START))
    assert (walled.outcome, "answers" in walled.error) == (Outcome.HARNESS_ERROR, True)
    open_field = Workers("none")
    assert (await rollout(open_field, code(outside(tmp_path / "answers"), START))).claims["read"] == "42"
    open_field.close()


async def test_even_without_namespaces_it_cannot_list_where_harnessx_is_installed(monkeypatch):
    monkeypatch.setattr(native, "has_namespaces", lambda: False)
    flat = Workers(WALL)
    place = str(Path(harnessx.__file__).parents[1])
    record = await rollout(flat, code(f"import os\nos.listdir({place!r})\nyield event", START))
    flat.close()
    assert "PermissionError" in record.error


@pytest.mark.parametrize("module", ["benchmarks", "aegis", "litellm"])
async def test_verifiers_and_the_rest_of_the_host_cannot_be_imported(workers, module):
    record = await rollout(workers, code(f"import {module}\nyield event", START))
    assert f"No module named '{module}'" in record.error


async def test_the_standard_library_and_harnessx_can(workers):
    body = "import decimal, sqlite3, harnessx.bundles, harnessx.processors.memory\nyield event"
    assert (await rollout(workers, code(body, START))).error == ""


SHOW = """
self.ctx.claims["shown"] = [repr(event), self.ctx.task_id, self.ctx.attempt, self.ctx.rng.random()]
yield event
"""


async def test_a_rollout_cannot_tell_split_position_or_attempt_from_what_names_it(workers):
    shown = [
        (await play(workers.execute, code(SHOW, START), Task("Find it.", name), attempt)).claims["shown"]
        for name, attempt in (("evolve/3", 0), ("sealed/40", 100_001))
    ]
    assert shown[0][:3] == shown[1][:3]
    assert "sealed" not in str(shown)
    other = await play(workers.execute, code(SHOW, START), Task("Lose it.", "evolve/3"))
    assert other.claims["shown"][1] != shown[0][1]


async def test_its_draws_are_those_of_the_same_rollout_beside_the_host_and_new_for_each_attempt(workers):
    async def beside(harness, episode, host):
        from harnessx.loop import RunLoop

        return await RunLoop(harness, episode, host, allow_assets=True).run()

    draws = [
        (await play(execute, code(SHOW, START), Task("Find it.", "t"), attempt)).claims["shown"][3]
        for execute in (workers.execute, beside)
        for attempt in (0, 1)
    ]
    assert draws[:2] == draws[2:]
    assert draws[0] != draws[1]


def test_a_masked_episode_keeps_its_draws_and_masks_no_further():
    episode = Episode("sealed/7", "Find it.", 12, 5)
    assert episode.masked().randomness == episode.randomness
    assert episode.masked().masked() == episode.masked()
    assert Episode("t", "Find it.", 1, 5).randomness != Episode("t", "Find it.", 2, 5).randomness


async def test_it_cannot_fill_the_disk_with_many_files(workers):
    body = """
    for name in range(200):
        with open(str(name), "wb") as file:
            file.write(bytes(1 << 20))
        await asyncio.sleep(0.005)
    yield event
    """
    record = await rollout(workers, code(body, START))
    assert (record.outcome, "wrote more than 64 MB" in record.error) == (Outcome.HARNESS_ERROR, True)


async def test_it_cannot_take_all_memory_and_nobody_else_is_disturbed(workers):
    bomb = code("hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 26))\nyield event", START)
    bad, *good = await asyncio.gather(rollout(workers, bomb), *(rollout(workers, GOOD) for _ in range(3)))
    assert (bad.outcome, "MemoryError" in bad.error) == (Outcome.HARNESS_ERROR, True)
    assert all(record.passed for record in good)


def test_a_folder_nested_too_deep_to_walk_is_removed(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(tmp_path)
    try:
        remove(tmp_path / "home")
        assert not (tmp_path / "home").exists()
    finally:  # pytest could not clean up after a failure either
        subprocess.run(["rm", "-rf", "--", tmp_path / "home"], check=True)


HOST = """
import asyncio, sys
sys.path[:0] = {path!r}
from worker_drive import Workers, WALL, code, rollout
from harnessx.hooks import Hook
deaf = "import signal\\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
body = f"open('left', 'w').close()\\n{{deaf}}\\nwhile True: pass\\nyield event"
async def main():
    workers = Workers(WALL)
    endless = asyncio.ensure_future(rollout(workers, code(body, Hook.TASK_START)))
    while not workers.zygote or not list(workers.zygote.home.glob("*/left")):
        await asyncio.sleep(0.01)
    print(workers.zygote.home.parent, flush=True)
    await endless
asyncio.run(main())
"""


def test_a_killed_host_takes_its_workers_along():
    program = HOST.format(path=[os.path.dirname(__file__)])
    host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    folder = host.stdout.readline().strip()
    assert len(_using(folder)) >= 2
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    until = time.monotonic() + 5
    while _using(folder) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _using(folder)
    subprocess.run(["rm", "-rf", "--", folder], check=True)


@pytest.mark.parametrize("ms", [0, 1, 2, 4, 8, 16, 32])
def test_a_zygote_can_be_ended_at_any_moment_of_its_start(ms):
    zygote = Zygote(backend(WALL))
    folder = str(zygote.home)
    time.sleep(ms / 1000)
    zygote.close()
    until = time.monotonic() + 5
    while _using(folder) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _using(folder)
    assert not Path(folder).exists()


def _using(folder: str) -> list[str]:
    """The processes that were started for ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder.encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def test_where_packages_lie_in_the_interpreters_own_folder_the_others_there_stay_hidden(monkeypatch):
    site = Path(sysconfig.get_paths()["stdlib"], "site-packages")
    monkeypatch.setattr(view, "_folder", lambda name: str(site / name))
    seen = view.view.__wrapped__()
    assert str(site / "harnessx") in seen.read
    assert not {str(site), str(site.parent)} & set(seen.read)
    assert str(site.parent / "json") in seen.read


async def test_beside_the_host_code_is_refused():
    record = await play(inprocess, harness("yield event", START), Task("Find it.", "t"))
    assert "runs only in a worker process" in record.error
