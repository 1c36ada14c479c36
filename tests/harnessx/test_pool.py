"""The pool: the same results whatever is killed, nothing run twice, and one clear line where nothing helps."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loop_drive import harness as own_code
from runner_world import Clerk, MemoryShelf, harness, jobs, lines

from aegis.store import RunStore
from harnessx.errors import Outcome, StopReason, UserError
from harnessx.harness import HarnessConfig
from harnessx.hooks import Hook
from harnessx.model_config import ModelConfig
from harnessx.processors import Metrics, SystemPrompt
from harnessx.runner.pool import Drained, Pool, PoolConfig, RunnerBroken
from harnessx.trajectory import Trajectory

QUIET = HarnessConfig([SystemPrompt(text="Speak."), Metrics()], harness().slots)
"""Asks exactly what `harness()` asks, and is another harness."""


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lanes find the benchmark of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def shelf():
    return MemoryShelf()


def config(log: Path, *, lanes: int = 1, concurrency: int = 4, model=None, **benchmark) -> PoolConfig:
    clerk = {"_target_": "runner_world.Clerk", "log": str(log), **(model or {})}
    rooms = {"_target_": "runner_world.Rooms", "log": str(log), **benchmark}
    return PoolConfig(rooms, ModelConfig(clerk), lanes=lanes, concurrency=concurrency)


def asked(log: Path) -> list[str]:
    return [line for line in lines(log) if line.startswith("model")]


def counts(results) -> list[tuple[int, int]]:
    return [(r.model_calls - r.replayed_calls, r.replayed_calls) for arms in results for r in arms]


async def until(condition, seconds: float = 20.0) -> None:
    """Wait for what another process will do."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


# --- results ------------------------------------------------------------------------------------------


async def test_results_come_in_the_order_of_the_jobs_and_progress_as_they_finish(log):
    seen = []
    async with Pool(config(log, lanes=2)) as pool:
        order = jobs(8)
        results = await pool.run(order, lambda result: seen.append(result.task_id))
    assert [arms[0].task_id for arms in results] == [job.task.id for job in order]
    assert sorted(seen) == sorted(job.task.id for job in order)
    assert all(arms[0].passed and arms[0].steps == 4 and arms[0].cost_usd == 2.0 for arms in results)


async def test_the_second_arm_replays_what_the_first_one_asked(log):
    async with Pool(config(log)) as pool:
        ((first, same, other),) = await pool.run(jobs(1, harness(), QUIET, harness("Whisper.")))
    assert counts([[first, same, other]]) == [(4, 0), (0, 4), (4, 0)]
    assert first.requests == same.requests != other.requests
    assert len(asked(log)) == 8


async def test_an_arm_asks_anew_from_its_first_different_request(log):
    later = own_code("yield event.remind('hurry') if event.step == 3 else event", Hook.BEFORE_MODEL)
    plain = own_code("yield event", Hook.BEFORE_MODEL)
    async with Pool(config(log)) as pool:
        ((before, after),) = await pool.run(jobs(1, plain, later))
    assert counts([[before, after]]) == [(4, 0), (1, 3)]
    assert before.requests != after.requests


async def test_what_a_kept_tape_holds_is_replayed_by_later_jobs(log):
    async with Pool(config(log)) as pool:
        await pool.run(jobs(2, keep_tape=True))
        assert counts(await pool.run(jobs(2, QUIET, keep_tape=True))) == [(0, 4), (0, 4)]
        await pool.run(jobs(2, QUIET))
        assert counts(await pool.run(jobs(2, QUIET))) == [(4, 0), (4, 0)]


async def test_jobs_of_one_scope_given_at_once_take_turns_in_the_order_given(log):
    async with Pool(config(log, model={"delay": 0.02})) as pool:
        results = await pool.run([*jobs(1, keep_tape=True), *jobs(1, QUIET, keep_tape=True)])
    assert counts(results) == [(4, 0), (0, 4)]


async def test_trajectories_are_whole_and_only_where_they_are_asked_for(log, shelf):
    async with Pool(config(log), shelf) as pool:
        (((_, text),),) = await pool.run_recorded(jobs(1, trajectories=True))
        (((_, none),),) = await pool.run_recorded([replace(jobs(1)[0], attempt=1)])
    record = Trajectory.from_jsonl(text)
    assert [call.content for step in record.steps for call in step.calls] == ["1: word 0", "2: word 1", "3: word 2"]
    assert none is None


# --- the shelf ----------------------------------------------------------------------------------------


async def test_a_stored_rollout_is_not_run_again(log, shelf):
    async with Pool(config(log), shelf) as pool:
        first = await pool.run(jobs(3))
        before = lines(log)
        assert await pool.run(jobs(3)) == first
    async with Pool(config(log), shelf) as pool:
        assert await pool.run(jobs(3)) == first
    assert lines(log) == before


async def test_a_recorded_world_of_an_earlier_pool_is_not_started_again(log, shelf):
    async with Pool(config(log, recorded=True), shelf) as pool:
        await pool.run(jobs(1))
    async with Pool(config(log, recorded=True), shelf) as pool:
        ((result,),) = await pool.run([replace(jobs(1)[0], attempt=1)])
    assert result.passed
    assert [line for line in lines(log) if "starts" in line or "judge" in line] == ["world s-0 starts", "judge s-0"]


async def test_a_killed_pool_goes_on_where_it_was_with_the_same_counts(log, tmp_path):
    """The rollout that was cut off counts as made what it had made itself; the other arm replays it."""
    order, slow = jobs(4, harness(), QUIET), {"delay": 0.05}
    async with Pool(config(log, model=slow)) as pool:
        expected = await pool.run(order)
    log.unlink()
    with RunStore.open(tmp_path / "run", {}, resume=False) as store:
        async with Pool(config(log, concurrency=2, model=slow), store) as pool:
            running = asyncio.ensure_future(pool.run(order))
            await until(lambda: len(store.recordings("s/s-0/0")) >= 2)
            os.kill(pool._lanes[0]._process.pid, signal.SIGKILL)
            running.cancel()
        assert len(store.recordings("s/s-0/0")) >= 2
    before = len(asked(log))
    with RunStore.open(tmp_path / "run", {}, resume=True) as store:
        async with Pool(config(log, model=slow), store) as pool:
            results = await pool.run(order)
    assert counts(results) == counts(expected) == [(4, 0), (0, 4)] * 4
    assert [[r.requests for r in arms] for arms in results] == [[r.requests for r in arms] for arms in expected]
    assert len(asked(log)) - before < 16


async def test_a_killed_lane_loses_and_doubles_nothing(log, shelf):
    order = jobs(12, harness(), QUIET)
    async with Pool(config(log, lanes=2, model={"delay": 0.02}), shelf) as pool:
        running = asyncio.ensure_future(pool.run(order))
        for kills in (1, 2):
            await until(lambda kills=kills: len(shelf.rollouts) >= 4 * kills)
            os.kill(pool._lanes[0]._process.pid, signal.SIGKILL)
        results = await running
    assert counts(results) == [(4, 0), (0, 4)] * 12
    assert [r.task_id for arms in results for r in arms] == [job.task.id for job in order for _ in job.arms]
    assert len(shelf.rollouts) == 24


async def test_deaths_between_which_work_is_done_do_not_add_up(log):
    async with Pool(config(log, concurrency=1, model={"delay": 0.02})) as pool:
        for _ in range(6):
            running = asyncio.ensure_future(pool.run(jobs(1)))
            before = len(asked(log))
            await until(lambda before=before: len(asked(log)) > before)
            os.kill(pool._lanes[0]._process.pid, signal.SIGKILL)
            ((result,),) = await running
            assert result.passed


def below(lane: int) -> list[Path]:
    """The entries in /proc of the worker processes of a lane: they name its folder."""
    children = Path(f"/proc/{lane}/task/{lane}/children").read_text().split()
    said = b" ".join(reading(Path(f"/proc/{child}/cmdline")) for child in children)
    named = re.search(rb"/[^\0\" ]*harnessx-worker-[^\0\"/ ]*", said)
    return [p.parent for p in Path("/proc").glob("[0-9]*/cmdline") if named and named[0] in reading(p)]


def reading(path: Path) -> bytes:
    """What a file holds; nothing where it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_a_killed_lane_leaves_no_orphan_not_even_a_spinning_one(log):
    body = "while True: pass\nyield event"
    async with Pool(config(log)) as pool:
        running = asyncio.ensure_future(pool.run(jobs(1, own_code(body, Hook.TASK_START))))
        await until(lambda: pool._lanes and pool._lanes[0]._process)
        lane = pool._lanes[0]._process.pid
        await until(lambda: reading(Path(f"/proc/{lane}/task/{lane}/children")) and spinning(below(lane)))
        left = below(lane)
        os.kill(lane, signal.SIGKILL)
        await until(lambda: not any(p.exists() for p in left))
        running.cancel()


def spinning(processes: list[Path]) -> bool:
    """Whether one of them has used a fifth of a second of CPU in a session of its own, as a rollout does."""
    for process in processes:
        fields = reading(process / "stat").rpartition(b")")[2].split()
        if fields and fields[3] == process.name.encode() and int(fields[11]) >= 20:
            return True
    return False


async def test_a_closed_pool_leaves_no_process(log):
    async with Pool(config(log, lanes=2)) as pool:
        await pool.run(jobs(4, own_code("yield event", Hook.TASK_START)))
        pids = [lane._process.pid for lane in pool._lanes if lane._process]
        children = [int(p) for pid in pids for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert children
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (*pids, *children)))


# --- what goes wrong ----------------------------------------------------------------------------------


async def test_a_crashing_harness_is_a_result_and_the_others_are_not_touched(log, shelf):
    crash = own_code("import os; os._exit(1)\nyield event", Hook.TASK_START)
    async with Pool(config(log), shelf) as pool:
        ((bad, good),) = await pool.run(jobs(1, crash, harness()))
    assert (bad.outcome, bad.reward) == (Outcome.HARNESS_ERROR, 0.0)
    assert good.passed
    assert len(shelf.rollouts) == 2


async def test_what_the_world_broke_is_tried_again_then_missing_and_asked_for_the_next_time(log, shelf):
    async with Pool(config(log, model={"broken": "s-1"}), shelf) as pool:
        results = await pool.run(jobs(3))
        assert [arms[0].missing for arms in results] == [False, True, False]
        assert results[1][0].outcome is Outcome.INFRA_ERROR
        assert "the provider is down" in results[1][0].error
        assert asked(log).count("model s-1 0 0") == 3
        await pool.run(jobs(3))
    assert asked(log).count("model s-1 0 0") == 6


@pytest.fixture
def outage(tmp_path):
    """While this file is there, one provider is down."""
    file = tmp_path / "outage"
    file.touch()
    return file


async def test_a_run_taken_up_again_misses_what_it_missed_where_it_missed_it(log, shelf, outage):
    """The provider is back, and still the second sitting decides by the results of the first."""
    settings = config(log, model={"broken": "s-1", "outage": str(outage)})
    async with Pool(settings, shelf) as pool:
        first = await pool.run(jobs(3))
    outage.unlink()
    for _ in range(2):
        async with Pool(settings, shelf) as pool:
            assert await pool.run(jobs(3)) == first
            ((healed,),) = await pool.run(jobs(3)[1:2])
            assert healed.passed
    assert asked(log).count("model s-1 0 0") == 3 + 1


async def test_what_is_forgotten_is_run_anew_and_what_could_be_run_is_not(log, shelf, outage):
    settings = config(log, model={"broken": "s-1", "outage": str(outage)})
    async with Pool(settings, shelf) as pool:
        await pool.run(jobs(3))
        pool.forget(jobs(3))
    outage.unlink()
    async with Pool(settings, shelf) as pool:
        assert all(arms[0].passed for arms in await pool.run(jobs(3)))
    assert asked(log).count("model s-0 0 0") == 1


async def test_a_world_that_cannot_be_made_is_missing_and_ends_nothing(log):
    async with Pool(config(log, fault="no room")) as pool:
        ((result,),) = await pool.run(jobs(1))
    assert result.missing
    assert "no room left" in result.error


async def test_a_rollout_out_of_time_is_missing_and_no_result_of_the_harness(log, shelf):
    hurried = harness().set_slot("limits.wall_s", 0.05)
    async with Pool(config(log, model={"delay": 0.5}), shelf) as pool:
        ((result,),) = await pool.run(jobs(1, hurried))
    assert (result.outcome, result.stop_reason) == (Outcome.INFRA_ERROR, StopReason.WALL_LIMIT)
    assert (result.missing, result.passed, result.reward) == (True, False, 0.0)
    assert result.error == "the wall-time limit was reached"
    assert result.key not in shelf.rollouts


async def test_what_confirms_is_stored_missing_too_and_not_tried_again(log, shelf):
    async with Pool(config(log, model={"broken": "s-0"}), shelf) as pool:
        first = await pool.run(jobs(1, confirming=True))
        tried = len(asked(log))
        assert await pool.run(jobs(1, confirming=True)) == first
    assert first[0][0].missing
    assert len(asked(log)) == tried


async def test_a_pair_cut_off_and_taken_up_after_the_window_is_started_anew_with_all_its_arms(log, shelf):
    """Else the incumbent would have played before the window, and the candidate after it."""
    arms = (harness(), harness("Speak up."))
    windowed = replace(config(log), window_s=0.4)
    async with Pool(windowed, shelf) as pool:
        ((whole, last),) = await pool.run(jobs(1, *arms, confirming=True))
        shelf.rollouts.pop(last.key)
        calls = len(asked(log))
        await pool.run(jobs(1, *arms, confirming=True))
        assert len(asked(log)) == calls  # within the window: the arm that was lost replays its tape
        shelf.rollouts.pop(last.key)
        await asyncio.sleep(0.5)
        ((again, _),) = await pool.run(jobs(1, *arms, confirming=True))
        assert len(asked(log)) == 2 * calls
        await asyncio.sleep(0.5)
        await pool.run(jobs(1, *arms, confirming=True))
        assert len(asked(log)) == 2 * calls  # a whole pair stands, however old it is
    assert (whole.requests, again.replayed_calls) == (again.requests, 0)


async def test_the_trail_marks_requests_and_actions_and_the_one_that_failed(log):
    """Two arms have the same trail up to their first difference; one that broke has marked where."""
    same, another = harness(steps=11), harness("Speak up.")
    async with Pool(config(log, model={"broken": "s-1", "broken_at": 1})) as pool:
        whole, broken = await pool.run(jobs(2, harness(), same, another))
    trails = [result.trail for result in whole]
    assert trails[0] == trails[1]
    assert len(trails[0]) == 4 * (4 + 3)  # four requests, three actions between them
    assert trails[2][:4] != trails[0][:4]
    assert [r.missing for r in broken] == [True, True, True]
    assert len(broken[0].trail) == 4 * (2 + 1)  # the second request failed
    assert broken[0].trail == broken[1].trail != broken[2].trail


def test_an_unknown_benchmark_or_a_wrong_parameter_is_one_clear_line(log):
    with pytest.raises(UserError, match=r"benchmark runner_world\.Nothing"):
        Pool(replace(config(log), benchmark={"_target_": "runner_world.Nothing"}))
    with pytest.raises(UserError, match="colour"):
        Pool(config(log, colour="red"))


@pytest.mark.parametrize(
    ("fault", "line", "lanes"), [("exit", r"died 4 times in a row \(exit 3\)", 4), ("raise", "not on this machine", 1)]
)
async def test_a_lane_that_cannot_start_is_one_clear_line_and_no_endless_trying(log, fault, line, lanes):
    async with Pool(config(log, fault=fault)) as pool:
        with pytest.raises(UserError, match=line):
            await pool.run(jobs(3))
        with pytest.raises(UserError, match=line):
            await pool.run(jobs(1))
    assert lines(log).count("lane") == lanes


async def test_a_shelf_that_takes_nothing_more_ends_the_run_with_its_own_words(log):
    class Full(MemoryShelf):
        def put_rollout(self, key, body, trajectory) -> None:
            raise UserError("cannot write run.db: disk full")

    async with Pool(config(log), Full()) as pool:
        with pytest.raises(UserError, match="disk full"):
            await asyncio.wait_for(pool.run(jobs(6)), 20)


async def test_a_defect_on_the_trusted_side_ends_the_run_with_its_traceback(log):
    async with Pool(config(log, fault="odd score")) as pool:
        with pytest.raises(RunnerBroken, match="Traceback"):
            await asyncio.wait_for(pool.run(jobs(1)), 20)


async def test_a_model_that_cannot_be_written_down_is_refused_before_anything_starts(log):
    class Live:
        name = digest = "live"

    with pytest.raises(UserError, match="cannot be written down"):
        Pool(replace(config(log), model=ModelConfig(Live())))
    Pool(replace(config(log), model=ModelConfig(Clerk(str(log)))))


async def test_draining_finishes_and_stores_what_runs_and_raises_for_the_rest(log, shelf):
    async with Pool(config(log, concurrency=2, model={"delay": 0.05}), shelf) as pool:
        running = asyncio.ensure_future(pool.run(jobs(6)))
        await until(lambda: len(asked(log)) >= 2)
        pool.drain()
        with pytest.raises(Drained):
            await running
        assert 1 <= len(shelf.rollouts) <= 3
        with pytest.raises(Drained):
            await pool.run([replace(jobs(1)[0], attempt=9)])
    started = {line.split()[1] for line in asked(log)}
    assert len(shelf.rollouts) == len(started)


async def test_a_cancelled_run_leaves_the_pool_usable(log, shelf):
    async with Pool(config(log, concurrency=2, model={"delay": 0.1}), shelf) as pool:
        running = asyncio.ensure_future(pool.run(jobs(6)))
        await until(lambda: len(asked(log)) >= 2)
        running.cancel()
        started = time.monotonic()
        again = [replace(job, attempt=1) for job in jobs(4)]
        assert all(arms[0].passed for arms in await asyncio.wait_for(pool.run(again), 20))
        assert time.monotonic() - started < 10


# --- workers that somebody kills ------------------------------------------------------------------------


def a_worker() -> int | None:
    """The pid of a process with evolved code: the last of a row of forks."""
    return next((pid for pid in walled() if not descendants(pid)), None)


def walled() -> list[int]:
    """What forks workers, and workers, the former first."""
    return [pid for pid in descendants(os.getpid()) if "harnessx.runner.worker" in commandline(pid)]


def descendants(pid: int) -> list[int]:
    """All descendants, nearest first."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in files for child in read(file).split()]
    return children + [other for child in children for other in descendants(child)]


def commandline(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline"))


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it ended
        return ""


async def test_a_rollout_whose_worker_somebody_kills_is_the_rollout_it_would_have_been(log, shelf):
    slow = own_code("import time; time.sleep(0.05); yield event.remind('hurry')", Hook.BEFORE_MODEL)
    async with Pool(config(log), shelf) as pool:
        running = asyncio.ensure_future(pool.run(jobs(1, slow)))
        await until(lambda: any(line.startswith("model") for line in lines(log)))
        worker = a_worker()
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        ((killed,),) = await running
        ((whole,),) = await Pool.run(pool, [replace(jobs(1, slow)[0], attempt=1)])
    assert (killed.outcome, killed.error) == (Outcome.PASSED, "")
    assert (killed.steps, killed.model_calls, killed.replayed_calls) == (whole.steps, whole.model_calls, 0)
    assert len(asked(log)) == 2 * whole.model_calls  # what it had asked before it died was not asked again


@pytest.mark.parametrize("text", ["'hurry'", "repr(time.time_ns())"], ids=["the same again", "otherwise"])
async def test_code_that_kills_its_worker_gains_nothing(log, text):
    body = f"import os, time; event.step == 3 and os._exit(9); yield event.remind({text})"
    async with Pool(config(log)) as pool:
        ((result,),) = await pool.run(jobs(1, own_code(body, Hook.BEFORE_MODEL)))
    assert result.outcome is Outcome.HARNESS_ERROR
    assert "the worker ended before its rollout did" in result.error


async def test_what_forks_workers_is_replaced_where_it_is_killed(log, shelf):
    own = own_code("yield event.remind('hurry')", Hook.BEFORE_MODEL)
    async with Pool(config(log), shelf) as pool:
        await pool.run(jobs(1, own))
        os.kill(walled()[-1], signal.SIGKILL)
        results = await pool.run([replace(job, attempt=1) for job in jobs(3, own)])
    assert [arms[0].outcome for arms in results] == [Outcome.PASSED] * 3
