"""The `AlfWorld` benchmark: tasks, environment, verifier and oracle over the official games."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from benchmarks.alfworld.games import GET_GAMES, OFFICIAL_SPLITS, Game, find_games
from benchmarks.alfworld.pool import GamePool, GameProcess
from benchmarks.household.environment import TOOLS
from harnessx.canonical import digest_of
from harnessx.errors import ToolError, UserError
from harnessx.messages import ToolCall
from harnessx.tasks import Environment, Score, Task, ToolResult

if TYPE_CHECKING:
    from harnessx.harness import HarnessConfig
    from harnessx.trajectory import Trajectory

VERSION = 1
"""Raised whenever what an agent sees of a game changes."""

PACKAGES = ("alfworld", "textworld", "fast-downward-textworld")


class AlfWorldEnvironment:
    """One game, played by a child process from `reset` to `close`.

    ``won`` is the official criterion of success. Listing commands costs nothing; `max_commands`
    commands, sensible or not, end the episode.
    """

    tools = TOOLS

    def __init__(self, game: Game, pool: GamePool, max_commands: int) -> None:
        self.won = False
        self._game, self._pool = game, pool
        self._max_commands = self._left = max_commands
        self._admissible: Sequence[str] = ()
        self._process: GameProcess | None = None
        self._turn = asyncio.Lock()

    async def reset(self) -> str:
        """Start the game, or start it again; what the room looks like.

        Raises:
            Failure: the process that plays the game died.
        """
        async with self._turn:
            if self._process is None:
                self._process = self._pool.acquire()
            self._process.games += 1
            self._left = self._max_commands
            return await self._ask({"game": str(self._game.path)})

    async def step(self, call: ToolCall) -> ToolResult:
        """Run one call; calls made at once run one after another.

        Raises:
            ToolError: unknown tool, or arguments that are not one string named ``command``.
            Failure: the process that plays the game died.
        """
        async with self._turn:
            if call.name == "commands":
                return ToolResult("\n".join(self._admissible))
            if call.name != "act":
                raise ToolError(f"no tool is called {call.name!r}; there are: act, commands")
            command = call.arguments.get("command")
            if not isinstance(command, str):
                raise ToolError("act did not get what it needs")
            if self.won or self._left <= 0:
                return ToolResult("The episode is over.", done=True)
            self._left -= 1
            seen = await self._ask({"command": command})
            return ToolResult(seen, done=self.won or self._left <= 0)

    async def close(self) -> None:
        """Give the process back."""
        process, self._process = self._process, None
        if process is not None:
            self._pool.release(process)

    async def _ask(self, request: dict[str, str]) -> str:
        assert self._process is not None, "reset() begins the episode"
        answer = await self._pool.ask(self._process, request)
        self._admissible, self.won = answer["commands"], answer["won"]
        return str(answer["observation"])


class _Winnable(Protocol):
    won: bool


class AlfWorldVerifier:
    """Passes a rollout that won its game. What the agent says does not count."""

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        """Reward 1.0 or 0.0."""
        won = cast(_Winnable, environment).won
        return Score(won, float(won), "the game is won" if won else "the game is not won")


class AlfWorld:
    """The official ALFWorld games, with the official criterion of success.

    ``sealed`` is ``valid_unseen``, or ``valid_seen`` where there is none, or what the parameter of
    that name says. ``evolve`` and ``validation`` halve ``train`` (``valid_train`` where there is
    none) by a hash of ``seed``. The official names are splits too. Each of the first three is in an
    order drawn by ``seed``, so that its first tasks are a fair sample; official ones are sorted.

    Args:
        seed: draws the split and the order.
        data: folder with the games; ``$ALFWORLD_DATA`` if not given, or the official download's home.
        max_commands: ceiling of an episode (50 in the literature).
        sealed: official name of the sealed split.
    """

    name = "alfworld"
    recorded = True
    tools = TOOLS

    def __init__(
        self, seed: int = 0, data: str | None = None, max_commands: int = 50, sealed: str | None = None
    ) -> None:
        self.seed, self.max_commands, self._sealed = seed, max_commands, sealed
        self._data = data
        self._pool = GamePool()
        self.verifier = AlfWorldVerifier()

    @cached_property
    def digest(self) -> str:
        """Covers the packages that play, and the games there are (by name and size)."""
        games = [[game.id, game.path.stat().st_size] for game in self._games.values()]
        packages = [[name, version(name)] for name in PACKAGES]
        return digest_of([self.name, VERSION, self.max_commands, packages, games])

    def tasks(self, split: str, limit: int) -> Sequence[Task]:
        """The first ``limit`` tasks of a split, or all where there are fewer.

        Raises:
            UserError: unknown split, no games, or the alfworld package is missing.
        """
        tasks: list[Task] = []
        for game in self._split(split):
            if len(tasks) == limit:
                break
            text = game.read()
            if text.solvable:
                tasks.append(Task(text.goal, game.id, game.kind))
        return tasks

    def environment(self, task: Task, attempt: int) -> AlfWorldEnvironment:
        """The game of ``task``; every attempt starts from the same state."""
        return AlfWorldEnvironment(self._game(task), self._pool, self.max_commands)

    def harness(self) -> HarnessConfig:
        """H_0: the one written for the embedded household world, whose grammar is the same."""
        from benchmarks.household.h0 import harness

        return harness()

    async def oracle(self, task: Task, environment: Environment | None) -> str:
        """Play the walkthrough that comes with the game."""
        assert environment is not None
        for command in self._game(task).read().walkthrough:
            await environment.step(ToolCall("oracle", "act", {"command": command}))
        return "done"

    def _game(self, task: Task) -> Game:
        try:
            return self._games[task.id]
        except KeyError:
            raise UserError(f"alfworld has no task {task.id!r} in {self._root}") from None

    def _split(self, split: str) -> list[Game]:
        by_name = {name: [g for g in self._games.values() if g.split == name] for name in OFFICIAL_SPLITS}
        pool = "train" if by_name["train"] else "valid_train"
        sealed = self._sealed or ("valid_unseen" if by_name["valid_unseen"] else "valid_seen")
        if sealed == pool or sealed not in OFFICIAL_SPLITS:
            raise UserError(f"sealed={sealed} cannot be: choose valid_seen or valid_unseen")
        if split in OFFICIAL_SPLITS:
            games = by_name[split]
        elif split == "sealed":
            games = sorted(by_name[sealed], key=self._draw)
        elif split in ("evolve", "validation"):
            games = sorted(by_name[pool], key=self._draw)
            games = [g for g in games if (self._draw(g)[-1] < "8") == (split == "evolve")]
        else:
            known = ", ".join(("evolve", "validation", "sealed", *OFFICIAL_SPLITS))
            raise UserError(f"alfworld has no split {split!r}: choose one of {known}")
        if not games:
            raise UserError(f"no ALFWorld games for {split} in {self._root}: {GET_GAMES}")
        return games

    def _draw(self, game: Game) -> str:
        return digest_of([self.seed, game.id])

    @cached_property
    def _root(self) -> Path:
        return Path(self._data or os.environ.get("ALFWORLD_DATA") or "~/.cache/alfworld").expanduser()

    @cached_property
    def _games(self) -> dict[str, Game]:
        try:
            for package in PACKAGES:
                version(package)
        except PackageNotFoundError as missing:
            remedy = 'pip install "harnessx-aegis[alfworld]"'
            raise UserError(f"{missing.name} is not installed: {remedy}") from None
        games = {game.id: game for game in find_games(self._root)}
        if not games:
            raise UserError(f"no ALFWorld games in {self._root}: {GET_GAMES}")
        return games
