"""One setting, the same names everywhere; where a harness's own code may run, and where not."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from loop_drive import Accept, World, harness
from worker_drive import WALL

from harnessx.errors import Outcome, StopReason, UserError
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.hooks import Hook
from harnessx.model_config import ModelConfig, Models
from harnessx.models.scripted import Scripted
from harnessx.processors import SystemPrompt
from harnessx.runner import isolation
from harnessx.runner.isolation import Workers, resolve_isolation
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.runner.zygote import Zygote
from harnessx.sandbox import view
from harnessx.sandbox.base import INSTALL
from harnessx.sandbox.bubblewrap import Bubblewrap
from harnessx.sandbox.native import Landlock
from harnessx.tasks import Task

OWN_CODE = harness("import os\nself.ctx.claims['pid'] = os.getpid()\nyield event", Hook.TASK_START)
BUILT_IN = HarnessConfig([SystemPrompt(text="Speak.")])


async def rollout(workers: Workers, harness: HarnessConfig):
    models = Models(ModelConfig(Scripted(["done"])))
    return await run_rollout(Rollout(harness, Task("Hi.", "t")), models, World(), Accept(), execute=workers.execute)


def test_an_unknown_isolation_lists_the_names_there_are():
    with pytest.raises(UserError, match=r"'jail'.*auto, bubblewrap, landlock, docker, process, inprocess, none"):
        resolve_isolation("jail")


def test_an_isolation_that_is_not_there_is_no_silent_weaker_one():
    with pytest.raises(UserError, match="docker is not available here"):
        resolve_isolation("docker")


def test_auto_takes_a_wall_and_never_none():
    assert resolve_isolation("auto") in ("bubblewrap", "landlock", "inprocess")


def test_where_no_wall_can_be_had_auto_runs_no_code_and_a_wall_by_name_says_what_to_install(monkeypatch):
    for sandbox in (Bubblewrap, Landlock):
        monkeypatch.setattr(sandbox, "missing", lambda self: f"nothing here; {INSTALL}")
    assert resolve_isolation("auto") == "inprocess"
    with pytest.raises(UserError, match=r"isolation=landlock is not available here.*apt-get install bubblewrap"):
        resolve_isolation("landlock")


async def test_inprocess_runs_built_in_parts_and_refuses_code():
    workers = Workers("inprocess")
    assert (await rollout(workers, BUILT_IN)).passed
    refused = await rollout(workers, OWN_CODE)
    assert refused.outcome is Outcome.HARNESS_ERROR
    assert "runs only in a worker process" in refused.error


def test_process_is_another_word_for_no_wall():
    assert resolve_isolation("process") == resolve_isolation("none") == "none"


async def test_even_without_a_wall_code_runs_in_a_process_of_its_own_each_time():
    workers = Workers("none")
    pids = {(await rollout(workers, OWN_CODE)).claims["pid"] for _ in range(3)}
    workers.close()
    assert len(pids) == 3
    assert os.getpid() not in pids


async def test_a_killed_zygote_is_replaced():
    workers = Workers(WALL)
    await rollout(workers, OWN_CODE)
    os.kill(workers.zygote.pid, signal.SIGKILL)
    assert (await rollout(workers, OWN_CODE)).passed
    workers.close()


async def test_rollouts_that_find_a_zygote_killed_share_the_next_one(monkeypatch):
    made = []
    monkeypatch.setattr(isolation, "Zygote", lambda sandbox: made.append(Zygote(sandbox)) or made[-1])
    workers = Workers(WALL)
    for _ in range(5):
        await rollout(workers, OWN_CODE)
        os.kill(workers.zygote.pid, signal.SIGKILL)
        records = await asyncio.gather(*(rollout(workers, OWN_CODE) for _ in range(4)))
        assert all(record.passed for record in records)
    workers.close()
    assert len(made) == 6


async def test_where_no_worker_can_be_had_the_harness_is_not_to_blame(monkeypatch):
    monkeypatch.setattr(view, "python", lambda: "/bin/false")
    workers = Workers(WALL)
    record = await rollout(workers, OWN_CODE)
    workers.close()
    assert (record.outcome, record.stop_reason) == (Outcome.INFRA_ERROR, StopReason.ERROR)


async def test_a_rollout_cut_off_while_its_worker_is_made_leaves_the_next_one_alone():
    workers = Workers(WALL)
    hurried = OWN_CODE.set_slot("limits.wall_s", 0.001)
    assert hurried.slots == Slots(limits=Limits(wall_s=0.001))
    records = await asyncio.gather(*(rollout(workers, h) for h in (hurried, OWN_CODE) * 5))
    workers.close()
    assert [r.stop_reason for r in records] == [StopReason.WALL_LIMIT, StopReason.FINISHED] * 5
    assert len({r.claims["pid"] for r in records[1::2]}) == 5
