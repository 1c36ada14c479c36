"""The `Household` benchmark: tasks, environment, verifier and oracle over the generated games."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmarks.household.canary import CANARIES, CanaryEnvironment, canary
from benchmarks.household.environment import TOOLS, HouseholdEnvironment
from benchmarks.household.generate import CLUSTER, scenario
from benchmarks.household.rooms import APPLIANCE, kind
from benchmarks.household.world import Scenario, World
from harnessx.canonical import digest_of
from harnessx.errors import UserError
from harnessx.messages import ToolCall
from harnessx.tasks import Environment, Score, Task

if TYPE_CHECKING:
    from harnessx.harness import HarnessConfig
    from harnessx.trajectory import Trajectory

VERSION = 1
"""Raised whenever a rule, a table or a wording of the world changes."""

SPLITS = {"evolve": "ev", "validation": "va", "sealed": "se", "canary": "va"}
"""Ids of canaries look like those of validation tasks, from the end of that split: nothing gives them away."""

SIZE = 10_000
FIRST_CANARY = SIZE - CANARIES


class HouseholdVerifier:
    """Passes a rollout whose goal holds in the final state of its world; canaries have holes besides."""

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        """Reward 1.0 or 0.0. What the agent says of itself does not count."""
        assert isinstance(environment, HouseholdEnvironment)
        won = environment.won(answer, record)
        return Score(won, float(won), "the goal holds" if won else "the goal does not hold")


class Household:
    """An ALFWorld-compatible text world, generated from ``seed``.

    10,000 games a split, the last `CANARIES` of validation canaries.
    """

    name = "household"
    recorded = False  # a step costs less than looking it up
    tools = TOOLS

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
        first = FIRST_CANARY if split == "canary" else 0
        size = {"canary": CANARIES, "validation": FIRST_CANARY}.get(split, SIZE)
        if limit > size:
            raise UserError(f"household has {size} tasks in {split}: ask for at most that many")
        return [self._task(f"{SPLITS[split]}-{index:04d}") for index in range(first, first + limit)]

    def canaries(self, limit: int) -> Sequence[Task]:
        """The first ``limit`` tasks that only cheating passes; all of them where there are fewer."""
        return self.tasks("canary", min(limit, CANARIES))

    def secrets(self, task: Task) -> Sequence[str]:
        """The walkthrough of a task: its answer sheet."""
        return [] if _is_canary(task.id) else ["\n".join(walkthrough(_game(self.seed, task.id)))]

    def environment(self, task: Task, attempt: int) -> HouseholdEnvironment:
        """A fresh world; every attempt of a task starts from the same state."""
        if _is_canary(task.id):
            return CanaryEnvironment(canary(self.seed, _index(task.id) - FIRST_CANARY))
        return HouseholdEnvironment(_game(self.seed, task.id))

    def harness(self) -> HarnessConfig:
        """H_0, written by hand."""
        from benchmarks.household.h0 import harness

        return harness()

    async def oracle(self, task: Task, environment: Environment | None) -> str:
        """Play the shortest plain walkthrough, which looks at the state of the world; cheat at a canary."""
        assert isinstance(environment, HouseholdEnvironment)
        if isinstance(environment, CanaryEnvironment):
            return await environment.cheat()
        for command in walkthrough(_game(self.seed, task.id)):
            await environment.step(ToolCall("oracle", "act", {"command": command}))
        return "done"

    def _task(self, task_id: str) -> Task:
        game = _game(self.seed, task_id)
        return Task(game.intro, task_id, CLUSTER[game.goal.verb])


@lru_cache(maxsize=4096)
def _game(seed: int, task_id: str) -> Scenario:
    if _is_canary(task_id):
        return canary(seed, _index(task_id) - FIRST_CANARY).game
    return scenario(seed, task_id.partition("-")[0], _index(task_id))


def _is_canary(task_id: str) -> bool:
    return task_id.startswith(f"{SPLITS['canary']}-") and _index(task_id) >= FIRST_CANARY


def _index(task_id: str) -> int:
    return int(task_id.partition("-")[2])


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
