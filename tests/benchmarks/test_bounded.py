"""What the bounded player promises: it sees only the request, and fails for mechanical reasons."""

from __future__ import annotations

import ast
import dataclasses
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import benchmarks.bounded
from benchmarks.bounded import Bounded
from benchmarks.bounded.instructions import read_lesson
from benchmarks.bounded.perception import perceive
from benchmarks.household import Household
from benchmarks.household.environment import TOOLS
from benchmarks.household.generate import scenario
from benchmarks.household.rooms import OPENABLE, kind
from harnessx import Hook, ModelConfig
from harnessx.harness import HarnessConfig
from harnessx.messages import Conversation, Message, ModelRequest, ToolCall
from harnessx.models.base import CallContext
from harnessx.processor import Processor
from harnessx.processors.context import CurrentState
from harnessx.processors.control import LoopDetection
from harnessx.processors.evaluation import SelfVerification
from harnessx.processors.prompt import Instructions
from harnessx.processors.retry import ParseRetry
from harnessx.processors.tools import ArgumentCoercion, ToolCallRepair
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

SHARED = Path(os.environ.get("HARNESSX_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
HOUSE = Household()
BEFORE: list[bool] = []
"""How H_0 fares on the tasks on which cures are compared; played once."""
H_0 = HOUSE.harness()
GOAL = "Your task is to: put a clean mug in shelf."
ROOM = "You are in the middle of a room. Looking quickly around you, you see a shelf 1, and a sinkbasin 1."


def told(*sentences: str) -> HarnessConfig:
    """H_0 with more said in its prompt."""
    harness = H_0
    for sentence in sentences:
        harness = harness.insert(Hook.TASK_START, Instructions(text=sentence))
    return harness


async def play(harness: HarnessConfig, tasks: Sequence[Task], attempt: int = 0) -> list[Trajectory]:
    agent = ModelConfig(main=Bounded()).agentic(harness)
    return [await agent.run(task, HOUSE.environment(task, attempt), HOUSE.verifier, attempt=attempt) for task in tasks]


async def wins(harness: HarnessConfig, tasks: Sequence[Task], attempt: int = 0) -> list[bool]:
    return [bool(trajectory.passed) for trajectory in await play(harness, tasks, attempt)]


def tasks_of(cluster: str, count: int) -> list[Task]:
    found = [task for task in HOUSE.tasks("evolve", 1500) if task.cluster == cluster]
    assert len(found) >= count
    return found[:count]


def request(*messages: Message, system: str = "") -> ModelRequest:
    return ModelRequest(system, Conversation(messages), TOOLS)


def turn(command: str, result: str) -> tuple[Message, Message]:
    call = ToolCall("c", "act", {"command": command})
    return Message("assistant", "", (call,)), Message("tool", result, (), "c")


async def answer(asked: ModelRequest, attempt: int = 0) -> tuple[str, list[tuple[str, object, object]]]:
    given = await Bounded().complete(asked, CallContext(attempt=attempt))
    return given.content, [(call.name, dict(call.arguments), call.raw) for call in given.tool_calls]


def test_it_imports_only_the_message_contract_and_the_standard_library() -> None:
    folder = Path(benchmarks.bounded.__file__).parent
    allowed = {"harnessx.messages", "harnessx.models.base"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                own = name.startswith("benchmarks.bounded")
                assert own or name in allowed or name.split(".")[0] in sys.stdlib_module_names, (path.name, name)


async def test_the_same_request_gets_the_same_answer_and_a_changed_one_is_drawn_anew() -> None:
    tasks = HOUSE.tasks("evolve", 60)
    first, again = await play(H_0, tasks), await play(H_0, tasks)
    changed = await play(told("The house is yours."), tasks)
    assert [t.steps for t in first] == [t.steps for t in again]
    assert [t.answer for t in first] == [t.answer for t in again]
    assert [len(t.steps) for t in first] != [len(t.steps) for t in changed]


async def test_a_second_attempt_draws_anew_but_mostly_ends_alike() -> None:
    tasks = HOUSE.tasks("validation", 250)
    one, two = await play(H_0, tasks, 0), await play(H_0, tasks, 1)
    assert [len(t.steps) for t in one] != [len(t.steps) for t in two]
    disagreements = sum(a.passed != b.passed for a, b in zip(one, two, strict=True))
    assert disagreements <= 0.12 * len(tasks)


async def test_h_0_is_competent_and_leaves_room() -> None:
    won = await wins(H_0, HOUSE.tasks("sealed", 200))
    assert 0.40 <= sum(won) / len(won) <= 0.65


PARAPHRASES = (
    "Cool things with the fridge.",
    "To cool an object, use the fridge.",
    "If something must be cold, chill it with the refrigerator.",
    "The fridge is where objects get cool.",
    "Things that should be cool have to be cooled: hold them and use the fridge for it.",
)


async def test_five_paraphrases_of_an_instruction_have_equal_effect() -> None:
    tasks = tasks_of("cool_and_place", 60)
    shares = [sum(await wins(told(text), tasks)) / len(tasks) for text in PARAPHRASES]
    assert min(shares) > 0.3
    assert max(shares) - min(shares) <= 0.12, shares


SURFACES_FIRST = (
    "Look on open surfaces such as countertops, tables and shelves first, and in closed places last.",
    "First look on countertops, tables and shelves, and last in closed places.",
    "Leave closed places for last, and search surfaces first.",
    "Search open surfaces before closed places.",
    "Look in closed places only after you have checked the open surfaces.",
)


@pytest.mark.parametrize("text", SURFACES_FIRST)
def test_an_order_of_search_is_understood_however_it_is_said(text: str) -> None:
    ranks = dict(read_lesson(text).order)
    assert ranks["shelf"] == ranks["countertop"] == 0
    assert ranks["drawer"] == ranks["fridge"] == 2


def test_what_comes_before_anything_else_comes_first() -> None:
    assert dict(read_lesson("Search drawers and cabinets before anything else.").order) == {"drawer": 0, "cabinet": 0}


async def test_an_order_of_search_helps_games_in_plain_sight_and_costs_hidden_ones() -> None:
    """Levers conflict: what one game needs, another pays for."""
    tasks = HOUSE.tasks("evolve", 400)
    before, after = await wins(H_0, tasks), await wins(told(SURFACES_FIRST[0]), tasks)
    changed = {hidden: [0, 0] for hidden in (True, False)}
    for task, one, other in zip(tasks, before, after, strict=True):
        changed[is_hidden(task)][0] += other > one
        changed[is_hidden(task)][1] += one > other
    (won, lost), (gained, paid) = changed[False], changed[True]
    assert won > 2 * lost
    assert paid > 2 * gained


def is_hidden(task: Task) -> bool:
    """Whether all that the goal asks for lies behind closed doors."""
    split, index = task.id.split("-")
    game = scenario(HOUSE.seed, split, int(index))
    return all(kind(p) in OPENABLE for p, things in game.contents.items() if game.goal.object in map(kind, things))


async def test_a_procedure_that_no_text_states_is_never_performed() -> None:
    for cluster in ("cool_and_place", "examine_in_light"):
        assert not any(await wins(H_0, tasks_of(cluster, 60)))


async def test_a_wrong_procedure_is_followed_too() -> None:
    tasks = tasks_of("heat_and_place", 40)
    assert sum(await wins(H_0, tasks)) > 10
    assert not any(await wins(told("Heat things with the fridge."), tasks))


@pytest.mark.parametrize("header", ["Earlier in this task:", "<<memo>>", "NOTES", ""])
def test_the_names_of_markers_do_not_matter(header: str) -> None:
    notes = f"{header}\ngo to shelf 1: You arrive at shelf 1. On the shelf 1, you see a mug 1.\n{GOAL}"
    belief = perceive(request(Message("user", "Go on."), Message("user", notes)))
    assert (belief.at, belief.where, belief.goal_text) == ("shelf 1", {"mug 1": "shelf 1"}, GOAL.lower())


def test_a_goal_out_of_the_window_is_forgotten_and_a_reminder_brings_it_back() -> None:
    walk = [
        m
        for i in range(40)
        for m in turn(f"go to shelf {i}", f"You arrive at shelf {i}. On the shelf {i}, you see nothing.")
    ]
    asked = request(Message("user", f"{ROOM}\n\n{GOAL}"), *walk)
    assert perceive(request(Message("user", f"{ROOM}\n\n{GOAL}"), *walk[:4])).goal is not None
    belief = perceive(asked)
    assert belief.goal is None
    assert "shelf 0" not in belief.searched
    assert "shelf 39" in belief.searched
    reminded = dataclasses.replace(asked, messages=asked.messages.with_tail(Message("user", GOAL)))
    assert perceive(reminded).goal is not None


def test_a_long_prompt_costs_memory() -> None:
    walk = [
        m
        for i in range(14)
        for m in turn(f"go to shelf {i}", f"You arrive at shelf {i}. On the shelf {i}, you see nothing.")
    ]
    short, long = request(*walk), request(*walk, system="Be kind to everyone. " * 200)
    assert len(perceive(long).searched) < len(perceive(short).searched)


async def test_both_dialects_are_spoken() -> None:
    there = "You arrive at shelf 1. On the shelf 1, you see nothing."
    history = (
        Message("user", f"{ROOM}\n\nYour task is to: put a mug in shelf."),
        *turn("take mug 1 from sofa 1", "You pick up the mug 1 from the sofa 1."),
        *turn("go to shelf 1", there),
    )
    for form, command in (("move X to Y", "move mug 1 to shelf 1"), ("put X in/on Y", "put mug 1 in/on shelf 1")):
        assert await answer(request(*history, system=f"Say {form}.")) == ("", [("act", {"command": command}, None)])


async def test_a_negated_command_is_left_off() -> None:
    start = request(Message("user", f"{ROOM}\n\n{GOAL}"))
    free = await answer(start)
    assert free == ("", [("act", {"command": "go to shelf 1"}, None)])
    told_off = request(Message("user", f"{ROOM}\n\n{GOAL}\n\nDo not go to shelf 1 again."))
    assert await answer(told_off) == ("", [("act", {"command": "go to sinkbasin 1"}, None)])


@pytest.mark.parametrize(
    ("cure", "hook"),
    [
        (CurrentState(observation=False), Hook.BEFORE_MODEL),
        (ToolCallRepair(), Hook.AFTER_MODEL),
        (ArgumentCoercion(), Hook.AFTER_MODEL),
        (ParseRetry(final_markers=["finished"]), Hook.AFTER_MODEL),
        (SelfVerification(), Hook.AFTER_MODEL),
        (LoopDetection(repeats=2), Hook.AFTER_TOOL),
        (Instructions(text="Cool things with the fridge."), Hook.TASK_START),
        (Instructions(text="Hold a thing and use the desklamp or floorlamp to examine it."), Hook.TASK_START),
        (Instructions(text="Carry one object at a time: deliver the first, then the second."), Hook.TASK_START),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Processor) else "",
)  # fmt: skip
async def test_each_weakness_has_a_plain_cure(cure: Processor, hook: Hook) -> None:
    tasks = HOUSE.tasks("evolve", 300)
    if not BEFORE:
        BEFORE.extend(await wins(H_0, tasks))
    gained = sum(await wins(H_0.insert(hook, cure), tasks)) - sum(BEFORE)
    assert 0 < gained < 0.15 * len(tasks)


async def test_it_plays_the_real_games_with_the_same_code(tmp_path: Path) -> None:
    pytest.importorskip("textworld", reason="pip install 'harnessx-aegis[alfworld]'")
    archive = SHARED / "alfworld" / "games.tar.gz"
    if not archive.exists():
        pytest.skip("no ALFWorld sample: set HARNESSX_SHARED_DATA to the folder that holds alfworld/games.tar.gz")
    from benchmarks.alfworld import AlfWorld

    with tarfile.open(archive) as games:
        names = [n for n in games.getnames() if "valid_seen" in n and n.endswith("game.tw-pddl")]
        games.extractall(tmp_path, members=[games.getmember(n) for n in sorted(names)[::35]], filter="data")
    real = AlfWorld(data=str(tmp_path))
    agent = ModelConfig(main=Bounded()).agentic(
        told("Cool things with the fridge.", "Hold a thing and use the desklamp to examine it in its light.")
        .insert(Hook.AFTER_MODEL, ToolCallRepair())
        .insert(Hook.BEFORE_MODEL, CurrentState(observation=False))
    )
    runs = [await agent.run(t, real.environment(t, 0), real.verifier) for t in real.tasks("valid_seen", 4)]
    assert sum(bool(run.passed) for run in runs) >= 2
