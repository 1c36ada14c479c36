"""Household games each in a process of its own, which can be killed like those of real environments."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.household import Household
from benchmarks.household.canary import CanaryEnvironment
from benchmarks.household.environment import HouseholdEnvironment
from harnessx.messages import ToolCall
from harnessx.tasks import Task, ToolResult
from harnessx.trajectory import Trajectory

NAME = "environment"
"""What the processes are called in /proc."""


class Apart(HouseholdEnvironment):
    """The near end of a game that is played in a forked process."""

    def __init__(self, game: HouseholdEnvironment) -> None:
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(game, theirs)
        theirs.close()
        self._stream = ours.makefile("rwb")
        ours.close()

    async def step(self, call: ToolCall) -> ToolResult:
        if call.name not in ("act", "commands") or not isinstance(call.arguments.get("command", ""), str):
            return await HouseholdEnvironment.step(self, call)  # raises
        if call.name == "act" and "command" not in call.arguments:
            return await HouseholdEnvironment.step(self, call)
        await asyncio.sleep(0)
        return ToolResult(*self._ask([call.name, dict(call.arguments)]))

    def won(self, answer: str, record: Trajectory) -> bool:
        return bool(self._ask(["won"])[0])

    async def close(self) -> None:
        self._stream.close()
        os.waitpid(self._pid, 0)

    def _ask(self, question: list[Any]) -> list[Any]:
        self._stream.write(json.dumps(question).encode() + b"\n")
        self._stream.flush()
        answer = self._stream.readline()
        if not answer:
            raise EOFError("the process of the environment is gone")
        return list(json.loads(answer))


def _serve(game: HouseholdEnvironment, sock: socket.socket) -> NoReturn:
    """In the forked process: answer until nobody asks."""
    try:
        end = os.dup2(sock.fileno(), 3)
        os.closerange(4, 4096)
        Path("/proc/self/comm").write_text(NAME)
        with open(end, "rb", closefd=False) as questions:
            for line in questions:
                name, *arguments = json.loads(line)
                if name == "won":
                    answer: list[Any] = [game.world.won]
                else:
                    result = _now(game.step(ToolCall("x", name, *arguments)))
                    answer = [result.content, result.is_error, result.done]
                os.write(end, json.dumps(answer).encode() + b"\n")
    finally:
        os._exit(0)


def _now(coroutine: Any) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the game waits")


class HouseholdApart(Household):
    """`Household`, but for canaries every game in a process of its own."""

    def environment(self, task: Task, attempt: int) -> HouseholdEnvironment:
        game = super().environment(task, attempt)
        return game if isinstance(game, CanaryEnvironment) else Apart(game)
