"""The official games: what an agent sees, who wins, and what happens to the processes that play."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from benchmarks.alfworld import AlfWorld, benchmark, pool
from benchmarks.alfworld.benchmark import AlfWorldEnvironment
from benchmarks.alfworld.game_process import in_dialect
from harnessx.errors import Failure, Source, ToolError, UserError
from harnessx.messages import ToolCall
from harnessx.tasks import Task, ToolResult
from harnessx.trajectory import Trajectory

PROJECT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("HARNESSX_SHARED_DATA", PROJECT.parent / "shared" / "data"))
ARCHIVE = SHARED / "alfworld" / "games.tar.gz"

OFFICIAL = """
import json, sys, textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from textworld.envs.pddl import PddlEnv
_, path, commands = sys.argv  # the translator overwrites them
env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
env.load(path)
state = env.reset()
seen = [[state.feedback, state["admissible_commands"], state["won"]]]
for command in json.loads(commands):
    state, _, _ = env.step(command)
    seen.append([state.feedback, state["admissible_commands"], state["won"]])
print(json.dumps(seen))
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    """No test leaves translations in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 340 real games, unpacked."""
    if not ARCHIVE.exists():
        pytest.skip(f"no ALFWorld games: {ARCHIVE} is not there")
    pytest.importorskip("alfworld", reason="the alfworld extra is not installed")
    folder = tmp_path_factory.mktemp("alfworld")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def alfworld(data: Path) -> AlfWorld:
    return AlfWorld(data=str(data))


@pytest.fixture(scope="module")
def quick(alfworld: AlfWorld) -> list[Task]:
    """One task of each type, in the smallest rooms: the fastest games to start."""
    games = sorted(alfworld._split("valid_seen"), key=lambda game: game.path.stat().st_size)
    smallest = {game.kind: game.id for game in reversed(games)}
    by_id = {task.id: task for task in alfworld.tasks("valid_seen", 999)}
    return [by_id[game_id] for game_id in smallest.values()]


@pytest.fixture
def world(tmp_path: Path, data: Path, alfworld: AlfWorld, quick: list[Task]):
    """A benchmark of one game, whose file a test may change."""
    source = alfworld._game(quick[0])
    game = tmp_path / "valid_seen" / source.name / "game.tw-pddl"
    game.parent.mkdir(parents=True)
    shutil.copy(source.path, game)
    return AlfWorld(data=str(tmp_path)), game


def act(environment: AlfWorldEnvironment, command: str):
    return environment.step(ToolCall("1", "act", {"command": command}))


async def admissible(environment: AlfWorldEnvironment) -> list[str]:
    return (await environment.step(ToolCall("1", "commands"))).content.split("\n")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        await asyncio.sleep(0.05)
    return False


# --- tasks, read without starting anything


@pytest.mark.parametrize("given", ["nothing", "a folder without games"])
def test_without_games_one_line_names_the_download(given, tmp_path, monkeypatch):
    pytest.importorskip("alfworld", reason="the alfworld extra is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    where = None if given == "nothing" else str(tmp_path)
    with pytest.raises(UserError, match=r"^.*alfworld-download.*$"):
        AlfWorld(data=where).tasks("sealed", 3)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "PACKAGES", ("no-such-package",))
    with pytest.raises(UserError, match=r"no-such-package.*harnessx-aegis\[alfworld\]"):
        AlfWorld(data=str(tmp_path)).tasks("sealed", 3)


def test_the_environment_variable_says_where_the_games_are(data, monkeypatch):
    monkeypatch.setenv("ALFWORLD_DATA", str(data))
    assert len(AlfWorld().tasks("valid_seen", 999)) == 140


def test_splits_are_disjoint_and_cover_the_training_games(alfworld):
    ids = {split: {t.id for t in alfworld.tasks(split, 999)} for split in ("evolve", "validation", "sealed")}
    assert not ids["evolve"] & ids["validation"]
    assert ids["evolve"] | ids["validation"] == {t.id for t in alfworld.tasks("valid_train", 999)}
    assert ids["sealed"] == {t.id for t in alfworld.tasks("valid_seen", 999)}
    assert min(len(ids["evolve"]), len(ids["validation"])) > 70


def test_the_seed_draws_the_split_and_nothing_else_does(alfworld, data):
    again, other = AlfWorld(data=str(data)), AlfWorld(seed=1, data=str(data))
    assert again.tasks("evolve", 20) == alfworld.tasks("evolve", 20)
    assert other.tasks("evolve", 20) != alfworld.tasks("evolve", 20)
    assert other.tasks("valid_train", 20) == alfworld.tasks("valid_train", 20)


def test_the_first_sealed_tasks_are_of_all_types(alfworld):
    assert len({task.cluster for task in alfworld.tasks("sealed", 40)}) == 6


def test_task_ids_are_unique_file_names(alfworld):
    ids = [t.id for split in ("valid_seen", "valid_train") for t in alfworld.tasks(split, 999)]
    assert len(set(ids)) == len(ids) == 340
    assert all(re.fullmatch(r"[a-z0-9-]{1,70}", task_id) for task_id in ids)


def test_a_game_present_twice_is_one_task(world):
    _, game = world
    shutil.copytree(game.parents[2], game.parents[3] / "copy" / "valid_seen")
    assert len(AlfWorld(data=str(game.parents[3])).tasks("sealed", 99)) == 1


@pytest.mark.parametrize("parameters", [{"sealed": "valid_train"}, {"sealed": "secret"}])
def test_sealed_can_only_be_a_held_out_split(data, parameters):
    with pytest.raises(UserError, match="valid_unseen"):
        AlfWorld(data=str(data), **parameters).tasks("sealed", 1)


def test_an_unknown_split_lists_the_valid_ones(alfworld):
    with pytest.raises(UserError, match=r"'test'.*evolve, validation, sealed, train"):
        alfworld.tasks("test", 1)


def test_a_file_that_is_no_game_is_named(world):
    one, game = world
    game.write_text("{}")
    with pytest.raises(UserError, match=re.escape(str(game))):
        one.tasks("sealed", 1)


def test_unsolvable_games_are_left_out(world):
    one, game = world
    game.write_text(json.dumps({**json.loads(game.read_text()), "solvable": False}))
    assert one.tasks("sealed", 1) == []


def test_the_digest_follows_the_games_and_the_ceiling(world):
    one, game = world
    other_ceiling = AlfWorld(data=str(game.parents[3]), max_commands=30)
    before = one.digest
    game.write_text(game.read_text() + "\n")
    after = AlfWorld(data=str(game.parents[3]))
    assert len({before, other_ceiling.digest, after.digest}) == 3


# --- playing


async def test_an_agent_sees_what_the_official_package_shows(alfworld, quick):
    task = quick[0]
    game = alfworld._game(task)
    commands = ["look", "open the door", *game.read().walkthrough, "inventory"]
    official = subprocess.run(
        [sys.executable, "-c", OFFICIAL, str(game.path), json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
    )
    (intro, at_start, _), *expected = json.loads(official.stdout)

    environment = AlfWorldEnvironment(game, alfworld._pool, max_commands=99)
    room = await environment.reset()
    assert intro == f"-= Welcome to TextWorld, ALFRED! =-\n\n{room}\n\n{task.prompt}"
    assert await admissible(environment) == at_start
    for command, (observation, possible, won) in zip(commands, expected, strict=True):
        if environment.won:
            break
        assert (await act(environment, command)).content == observation
        assert await admissible(environment) == possible
        assert environment.won == won
    assert environment.won
    await environment.close()


async def test_the_oracle_wins_every_type_of_task_and_doing_nothing_none(alfworld, quick):
    assert len(quick) == 6
    for task in quick:
        environment = alfworld.environment(task, 0)
        await environment.reset()
        before = await alfworld.verifier.score(task, "I won.", environment, Trajectory(task.id))
        await alfworld.oracle(task, environment)
        after = await alfworld.verifier.score(task, "", environment, Trajectory(task.id))
        await environment.close()
        assert (before.passed, after.passed) == (False, True), task.id
        assert (before.reward, after.reward) == (0.0, 1.0)


@pytest.mark.parametrize("native", ["move {o} to {r}", "put {o} in/on {r}"])
@pytest.mark.parametrize("spoken", ["move {} to {}", "put {} in/on {}", "put {} on {}"])
def test_placing_is_said_in_the_dialect_of_the_game(native, spoken):
    possible = [native.format(o="mug 1", r="desk 2"), "look"]
    assert in_dialect(spoken.format("mug 1", "desk 2"), possible) == possible[0]
    assert in_dialect(spoken.format("mug 3", "desk 2"), possible) == spoken.format("mug 3", "desk 2")


@pytest.mark.parametrize(
    ("native", "spoken"), [("move {o} to {r}", "put {} in/on {}"), ("put {o} in/on {r}", "move {} to {}")]
)
async def test_a_game_of_one_dialect_is_won_in_the_other(world, native, spoken):
    one, game = world
    game.write_text(game.read_text().replace("move {o} to {r}", native))
    (task,) = one.tasks("sealed", 1)
    environment = one.environment(task, 0)
    await environment.reset()
    for command in one._game(task).read().walkthrough:
        if placed := re.fullmatch("move (.+) to (.+)", command):
            assert native.split()[0] in {possible.split()[0] for possible in await admissible(environment)}
            command = spoken.format(*placed.groups())
        result = await act(environment, command)
    assert environment.won
    assert result.done
    await environment.close()


async def test_every_command_counts_toward_the_ceiling_and_listing_them_does_not(data, quick):
    short = AlfWorld(data=str(data), max_commands=3)
    environment = short.environment(quick[0], 0)
    await environment.reset()
    for _ in range(5):
        await admissible(environment)
    done = [(await act(environment, command)).done for command in ("look", "dance", "look")]
    assert done == [False, False, True]
    assert await act(environment, "look") == ToolResult("The episode is over.", done=True)
    await environment.close()


async def test_calls_made_at_once_run_in_their_order(alfworld, quick):
    environment = alfworld.environment(quick[0], 0)
    await environment.reset()
    first, second = [c for c in await admissible(environment) if c.startswith("go to")][:2]
    *results, listed = await asyncio.gather(
        *(act(environment, c) for c in (first, second, first)), admissible(environment)
    )
    arrived = [result.content.split(".")[0].removeprefix("You arrive at ") for result in results]
    assert arrived == [command.removeprefix("go to ") for command in (first, second, first)]
    assert second in listed
    assert first not in listed
    await environment.close()


@pytest.mark.parametrize("call", [ToolCall("1", "fly"), ToolCall("1", "act", {"cmd": "look"})])
async def test_a_call_the_world_does_not_know_is_the_agents_error(alfworld, quick, call):
    with pytest.raises(ToolError):
        await alfworld.environment(quick[0], 0).step(call)


# --- processes


async def test_a_process_is_reused_then_retired_and_knows_no_keys(data, quick, monkeypatch):
    monkeypatch.setattr(pool, "GAMES_PER_PROCESS", 2)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    fresh = AlfWorld(data=str(data))
    pids = []
    for task in quick[:3]:
        environment = fresh.environment(task, 0)
        await environment.reset()
        pids.append(environment._process.pid)
        assert b"secret" not in Path(f"/proc/{pids[-1]}/environ").read_bytes()
        await environment.close()
    assert pids[0] == pids[1] != pids[2]
    assert not alive(pids[0])
    assert alive(pids[2])


async def test_open_episodes_have_processes_of_their_own(data, quick):
    fresh = AlfWorld(data=str(data))
    one, other = fresh.environment(quick[0], 0), fresh.environment(quick[1], 0)
    rooms = await asyncio.gather(one.reset(), other.reset())
    assert rooms[0] != rooms[1]
    assert await one.reset() == rooms[0]
    await fresh.oracle(quick[1], other)
    assert (one.won, other.won) == (False, True)
    await one.close()
    await other.close()


def test_processes_outlive_the_event_loop_that_started_them(data, quick):
    fresh = AlfWorld(data=str(data))

    async def play() -> int:
        environment = fresh.environment(quick[0], 0)
        await environment.reset()
        await environment.close()
        await environment.close()
        return fresh._pool._idle[0].pid

    assert asyncio.run(play()) == asyncio.run(play())


async def test_a_dead_process_fails_its_episode_and_no_other(data, quick):
    fresh = AlfWorld(data=str(data))
    environment = fresh.environment(quick[0], 0)
    await environment.reset()
    os.kill(environment._process.pid, signal.SIGKILL)
    with pytest.raises(Failure, match="ended with code -9") as failure:
        await act(environment, "look")
    assert failure.value.source is Source.ENVIRONMENT
    await environment.close()
    assert "middle of a room" in await environment.reset()
    await environment.close()


async def test_a_game_textworld_cannot_load_says_why(world):
    one, game = world
    game.write_text(game.read_text().replace("(:domain alfred)", "(:domain"))
    environment = one.environment(one.tasks("sealed", 1)[0], 0)
    with pytest.raises(Failure, match=r"ended with code 1: \w+"):
        await environment.reset()
    await environment.close()


async def test_a_silent_process_is_killed(data, quick, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE_S", 0.2)
    environment = AlfWorld(data=str(data)).environment(quick[0], 0)
    with pytest.raises(Failure, match="code -9"):  # it takes longer than that to start
        await environment.reset()
    await environment.close()


async def test_a_cancelled_step_does_not_leak_into_the_next_episode(data, quick):
    fresh = AlfWorld(data=str(data))
    environment = fresh.environment(quick[0], 0)
    await environment.reset()
    pid = environment._process.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(act(environment, "look"), 0.1)
    await environment.close()
    assert await gone(pid)
    assert fresh._pool._idle == []


async def test_processes_die_with_their_parent(data, quick, tmp_path):
    script = f"""
import asyncio
from benchmarks.alfworld import AlfWorld
async def main():
    world = AlfWorld(data={str(data)!r})
    task = next(t for t in world.tasks("valid_seen", 999) if t.id == {quick[0].id!r})
    environment = world.environment(task, 0)
    await environment.reset()
    print(environment._process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    assert await gone(pid)


async def test_translations_are_kept_and_a_damaged_one_is_made_anew(world, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, _ = world
    (task,) = one.tasks("sealed", 1)

    async def room() -> str:
        environment = AlfWorldEnvironment(one._game(task), pool.GamePool(), 50)
        seen = await environment.reset()
        await environment.close()
        return seen

    at_first = await room()
    (kept,) = pool.translation_folder().iterdir()
    zlib.decompress(kept.read_bytes())
    kept.write_bytes(kept.read_bytes()[:100])
    assert await room() == at_first
    assert list(pool.translation_folder().iterdir()) == [kept]
    zlib.decompress(kept.read_bytes())
