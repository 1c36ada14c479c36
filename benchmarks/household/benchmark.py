"""The `Household` benchmark: tasks, environment, verifier and oracle over the generated games."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmarks.household.generate import CLUSTER, scenario
from benchmarks.household.rooms import APPLIANCE, kind
from benchmarks.household.world import Scenario, World
from harnessx.errors import ToolError, UserError
from harnessx.messages import ToolCall, ToolSchema, digest_of
from harnessx.tasks import Environment, Score, Task, ToolResult

if TYPE_CHECKING:
    from harnessx.harness import HarnessConfig
    from harnessx.trajectory import Trajectory

VERSION = 1
"""Raised whenever a rule, a table or a wording of the world changes."""

SPLITS = {"evolve": "ev", "validation": "va", "sealed": "se"}
MAX_COMMANDS = 50

TOOLS = (
    ToolSchema(
        "act",
        "Do one thing in the room.",
        {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    ),
    ToolSchema("commands", "List the commands that are possible now."),
)


class HouseholdEnvironment:
    """One game. ``commands`` does not count toward the ceiling of `MAX_COMMANDS` commands."""

    tools = TOOLS

    def __init__(self, game: Scenario) -> None:
        self.world = World(game)
        self._commands = 0

    async def reset(self) -> str:
        """Nothing to add: the task's prompt holds the first observation."""
        return ""

    async def step(self, call: ToolCall) -> ToolResult:
        """Run one call. The episode is done when the goal holds, or at the ceiling.

        Raises:
            ToolError: unknown tool, or arguments that are not one string named ``command``.
        """
        if call.name == "commands":
            return ToolResult("\n".join(self.world.admissible()))
        if call.name != "act":
            raise ToolError(f"no tool is called {call.name!r}; there are: act, commands")
        command = call.arguments.get("command")
        if not isinstance(command, str):
            raise ToolError("act did not get what it needs")
        self._commands += 1
        seen = self.world.act(command)
        return ToolResult(seen, done=self.world.won or self._commands >= MAX_COMMANDS)

    async def close(self) -> None:
        """Nothing is held."""


class HouseholdVerifier:
    """Passes a rollout whose goal holds in the final state of its world."""

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        """Reward 1.0 or 0.0. What the agent says of itself does not count."""
        assert isinstance(environment, HouseholdEnvironment)
        won = environment.world.won
        return Score(won, float(won), "the goal holds" if won else "the goal does not hold")


class Household:
    """An ALFWorld-compatible text world, generated from ``seed``: 10,000 games a split."""

    name = "household"
    recorded = False  # a step costs less than looking it up
    tools = TOOLS
    size = 10_000

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.verifier = HouseholdVerifier()
        self.digest = digest_of(["household", VERSION, seed])

    def tasks(self, split: str, limit: int) -> Sequence[Task]:
        """The first ``limit`` tasks of a split; ids such as ``ev-0007``.

        Raises:
            UserError: unknown split, or more tasks than a split has.
        """
        if split not in SPLITS:
            raise UserError(f"household has no split {split!r}: choose one of {', '.join(SPLITS)}")
        if limit > self.size:
            raise UserError(f"household has {self.size} tasks in {split}: ask for at most that many")
        return [self._task(f"{SPLITS[split]}-{index:04d}") for index in range(limit)]

    def environment(self, task: Task, attempt: int) -> HouseholdEnvironment:
        """A fresh world; every attempt of a task starts from the same state."""
        return HouseholdEnvironment(_game(self.seed, task.id))

    def harness(self) -> HarnessConfig:
        """H_0, written by hand."""
        from benchmarks.household.h0 import harness

        return harness()

    async def oracle(self, task: Task, environment: Environment | None) -> str:
        """Play the shortest plain walkthrough, which looks at the state of the world."""
        assert isinstance(environment, HouseholdEnvironment)
        for command in walkthrough(_game(self.seed, task.id)):
            await environment.step(ToolCall("oracle", "act", {"command": command}))
        return "done"

    def _task(self, task_id: str) -> Task:
        game = _game(self.seed, task_id)
        return Task(game.intro, task_id, CLUSTER[game.goal.verb])


@lru_cache(maxsize=4096)
def _game(seed: int, task_id: str) -> Scenario:
    split, _, index = task_id.partition("-")
    return scenario(seed, split, int(index))


def walkthrough(game: Scenario) -> Iterator[str]:
    """Commands that win ``game``, computed from its state."""
    world, goal = World(game), game.goal
    things = world.find(goal.object)
    if goal.verb == "light":
        (thing, place), (lamp, where) = things[0], world.find(goal.place)[0]
        yield from _fetch(world, thing, place)
        if where != place:
            yield f"go to {where}"
        yield f"use {lamp}"
        return
    target = next(place for place in world.places if kind(place) == goal.place)
    opened = world.is_open(target)
    for thing, place in things[: 2 if goal.verb == "two" else 1]:
        yield from _fetch(world, thing, place)
        if goal.verb in APPLIANCE:
            appliance = next(p for p in world.places if kind(p) == APPLIANCE[goal.verb])
            if appliance != place:
                yield f"go to {appliance}"
            yield f"{goal.verb} {thing} with {appliance}"
        yield f"go to {target}"
        if not opened:
            yield f"open {target}"
            opened = True
        yield f"move {thing} to {target}" if game.move_dialect else f"put {thing} in/on {target}"


def _fetch(world: World, thing: str, place: str) -> Iterator[str]:
    yield f"go to {place}"
    if not world.is_open(place):
        yield f"open {place}"
    yield f"take {thing} from {place}"
