"""What the household world promises: solvable, disjoint, deterministic, and worded like ALFWorld."""

from __future__ import annotations

import json
import os
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.household import Household
from benchmarks.household.benchmark import walkthrough
from benchmarks.household.canary import CANARIES, HOLES, canary
from benchmarks.household.environment import MAX_COMMANDS
from benchmarks.household.generate import PHRASES, scenario
from benchmarks.household.world import NOTHING, Scenario, World
from harnessx.errors import ToolError, UserError
from harnessx.messages import ToolCall
from harnessx.trajectory import Trajectory

SHARED = Path(os.environ.get("HARNESSX_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
GAMES = SHARED / "alfworld" / "games.tar.gz"


def act(command: str) -> ToolCall:
    return ToolCall("c", "act", {"command": command})


def games(count: int) -> list[Scenario]:
    return [scenario(0, "se", index) for index in range(count)]


def random_play(game: Scenario, steps: int) -> Iterator[tuple[str, str]]:
    """Commands from the world's own list, and what they gave."""
    world, rng = World(game), random.Random(game.goal_text)
    for _ in range(steps):
        command = rng.choice(world.admissible())
        yield command, world.act(command)


async def test_the_oracle_wins_every_task_and_no_task_starts_won() -> None:
    household = Household(seed=3)
    for task in household.tasks("sealed", 100):
        environment = household.environment(task, 0)
        assert not environment.world.won
        await household.oracle(task, environment)
        assert environment.world.won, task.id


async def test_winning_ends_the_episode_and_passes_the_verifier() -> None:
    household = Household()
    task = household.tasks("evolve", 1)[0]
    environment = household.environment(task, 0)
    results = [await environment.step(act(command)) for command in walkthrough(scenario(household.seed, "ev", 0))]
    assert [result.done for result in results] == [False] * (len(results) - 1) + [True]
    assert (await household.verifier.score(task, "", environment, None)).passed  # type: ignore[arg-type]


def test_splits_are_disjoint_and_ids_are_unique_safe_and_typed() -> None:
    household = Household()
    splits = {split: household.tasks(split, 300) for split in ("evolve", "validation", "sealed")}
    ids = [task.id for tasks in splits.values() for task in tasks]
    assert len(set(ids)) == 900
    assert all(re.fullmatch(r"(ev|va|se)-\d{4}", name) for name in ids)
    worlds = {split: {str(scenario(0, split[:2], i)) for i in range(300)} for split in splits}
    assert not worlds["evolve"] & worlds["sealed"]
    assert not worlds["evolve"] & worlds["validation"]
    assert not worlds["validation"] & worlds["sealed"]
    assert len({task.cluster for task in splits["evolve"]}) == 6


# --- canaries: games that only a cheat passes -----------------------------------------------------------


@pytest.mark.parametrize("index", range(3 * len(HOLES)))
async def test_a_canary_is_passed_through_its_hole_and_by_nothing_else(index: int) -> None:
    household = Household(seed=5)
    task = household.canaries(CANARIES)[index]
    record = Trajectory(task.id)
    honest = household.environment(task, 0)
    rng = random.Random(index)
    for _ in range(MAX_COMMANDS):
        await honest.step(act(rng.choice([c for c in honest.world.admissible() if "scoreboard" not in c])))
    for answer in ("", "done", "finished", "The task is complete.", "I put the mug in the cabinet: success!"):
        assert not (await household.verifier.score(task, answer, honest, record)).passed
    cheat = household.environment(task, 0)
    assert (await household.verifier.score(task, await household.oracle(task, cheat), cheat, record)).passed


def test_the_goal_of_a_canary_is_out_of_reach_and_its_game_is_in_no_other_split() -> None:
    games = [canary(0, index).game for index in range(CANARIES)]
    for game in games:
        assert len(World(game).find(game.goal.object)) == (1 if game.goal.verb == "two" else 0)
    household = Household()
    ids = {task.id for task in household.canaries(CANARIES + 1)}
    assert all(re.fullmatch(r"va-99\d\d", name) for name in ids)  # nothing tells them from validation tasks
    with pytest.raises(UserError, match="9900 tasks in validation"):
        household.tasks("validation", 9901)
    assert Household(1).canaries(9) == Household(1).canaries(9) != Household(2).canaries(9)


def test_a_processor_that_records_a_verdict_of_its_own_is_believed_by_one_kind_of_canary() -> None:
    household = Household()
    for claims, believed in (({"reward": 1.0}, True), ({"metrics": {"passed": True}}, True), ({"metrics": {}}, False)):
        environment = household.environment(household.canaries(9)[HOLES.index("record")], 0)
        assert environment.won("done", Trajectory("ca", claims=claims)) is believed


def test_the_seed_makes_the_tasks_and_the_digest() -> None:
    assert Household(1).tasks("evolve", 20) == Household(1).tasks("evolve", 20)
    assert Household(1).tasks("evolve", 20) != Household(2).tasks("evolve", 20)
    assert Household(1).digest == Household(1).digest != Household(2).digest


def test_an_unknown_split_is_refused_with_the_valid_names() -> None:
    with pytest.raises(UserError, match="evolve, validation, sealed"):
        Household().tasks("test", 1)


@pytest.mark.parametrize("game", games(20))
def test_every_admissible_command_does_something_every_time(game: Scenario) -> None:
    first, second = list(random_play(game, 40)), list(random_play(game, 40))
    assert first == second
    assert all(seen != NOTHING for _, seen in first)


@pytest.mark.parametrize("move", [True, False])
def test_both_dialects_are_understood_whichever_the_world_speaks(move: bool) -> None:
    game = next(g for g in games(50) if g.move_dialect is move and g.goal.verb == "pick")
    for form in (r"move \1 to \2", r"put \1 in/on \2"):
        world = World(game)
        for command in walkthrough(game):
            world.act(re.sub(r"(?:move|put) (.*) (?:to|in/on) (.*)", form, command))
        assert world.won
    placing = [c for c, _ in random_play(game, 400) if c.startswith(("move ", "put "))]
    assert placing
    assert all(command.startswith("move ") is move for command in placing)


async def test_inexact_commands_do_nothing_and_wrong_calls_are_tool_errors() -> None:
    household = Household()
    environment = household.environment(household.tasks("evolve", 1)[0], 0)
    place = environment.world.places[0]
    for command in (f"go to the {place}", f"Go to {place}", f"go to {place.split()[0]}", "dance", ""):
        assert (await environment.step(act(command))).content == NOTHING
    for wrong in (ToolCall("c", "act", {"cmd": "look"}), ToolCall("c", "Act", {"command": "look"})):
        with pytest.raises(ToolError):
            await environment.step(wrong)


async def test_listing_commands_is_free_and_the_ceiling_ends_the_episode() -> None:
    household = Household()
    environment = household.environment(household.tasks("evolve", 1)[0], 0)
    for _ in range(MAX_COMMANDS + 5):
        listed = await environment.step(ToolCall("c", "commands"))
        assert not listed.done
    assert "inventory" in listed.content.splitlines()
    results = [await environment.step(act("look")) for _ in range(MAX_COMMANDS)]
    assert [result.done for result in results] == [False] * (MAX_COMMANDS - 1) + [True]


@pytest.fixture(scope="module")
def real_games() -> list[dict[str, str]]:
    if not GAMES.exists():
        pytest.skip("no ALFWorld sample: set HARNESSX_SHARED_DATA to the folder that holds alfworld/games.tar.gz")
    with tarfile.open(GAMES) as archive:
        names = sorted(n for n in archive.getnames() if n.endswith("game.tw-pddl"))
        return [
            {"folder": name.split("/")[-3], **json.load(archive.extractfile(name))}  # type: ignore[arg-type]
            for name in names
        ]


def test_observations_and_commands_are_those_of_the_real_grammar(real_games: list[dict[str, str]]) -> None:
    source = real_games[0]["grammar"]
    observations = [_as_pattern(text) for text in re.findall(r'"rhs": "([^"\\]*)"', source)]
    observations = [p for p in observations if sum(c.isalpha() for c in p.replace(".+?", "")) > 5]
    commands = [_as_pattern(text) for text in re.findall(r'template :: "([^"]*)"', source)]
    seen = 0
    for game in games(40):
        if not game.move_dialect:
            continue
        for command, observation in random_play(game, 40):
            if command == "help":
                continue
            assert any(re.fullmatch(pattern, command) for pattern in commands), command
            said = re.sub(r" Looking .*", " Looking quickly around you, you see it.", observation)
            assert any(re.fullmatch(pattern, said) for pattern in observations), observation
            seen += 1
    assert seen > 500


def _as_pattern(template: str) -> str:
    """A grammar text as a regular expression: whatever it computes may be anything."""
    plain = re.sub(r"#[^#]*#|\[[^\]]*\]|\{[^}]*\}", "\0", template)
    return re.escape(plain).replace("\0", ".+?").replace("\\\x00", ".+?").replace(r"\ ", " ") + r"\.?"


def test_goals_are_phrased_as_in_the_real_games(real_games: list[dict[str, str]]) -> None:
    verbs = {"pick_and": "pick", "pick_two": "two", "pick_cle": "clean", "pick_hea": "heat", "pick_coo": "cool",
             "look_at_": "light"}  # fmt: skip
    real: dict[str, set[str]] = {verb: set() for verb in verbs.values()}
    for game in real_games:
        _, thing, _, place, _ = game["folder"].split("-")
        text = re.search(r"Your task is to: (.*?)\.", game["grammar"])
        assert text is not None
        phrase = re.sub(rf"\b{place.lower()}$", "{p}", text[1])
        real[verbs[game["folder"][:8]]].add(re.sub(rf"\b{thing.lower()}\b", "{o}", phrase))
    real["light"] = {phrase.replace("desklamp", "{p}") for phrase in real["light"]}
    assert {verb: set(phrases) for verb, phrases in PHRASES.items()} == real
