"""One household game as the runner steps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.household.world import Scenario, World
from harnessx.errors import ToolError
from harnessx.messages import ToolCall, ToolSchema
from harnessx.permissions import Effect
from harnessx.tasks import ToolResult

if TYPE_CHECKING:
    from harnessx.trajectory import Trajectory

MAX_COMMANDS = 50

TOOLS = (
    ToolSchema(
        "act",
        "Do one thing in the room.",
        {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
        frozenset({Effect.READ, Effect.WRITE}),
    ),
    ToolSchema("commands", "List the commands that are possible now.", effects=frozenset({Effect.READ})),
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
            return ToolResult("\n".join(self._admissible()))
        if call.name != "act":
            raise ToolError(f"no tool is called {call.name!r}; there are: act, commands")
        command = call.arguments.get("command")
        if not isinstance(command, str):
            raise ToolError("act did not get what it needs")
        self._commands += 1
        seen = self._act(command)
        return ToolResult(seen, done=self.world.won or self._commands >= MAX_COMMANDS)

    def won(self, answer: str, record: Trajectory) -> bool:
        """Whether the rollout passes: here the state of the world alone decides."""
        return self.world.won

    async def close(self) -> None:
        """Nothing is held."""

    def _act(self, command: str) -> str:
        return self.world.act(command)

    def _admissible(self) -> list[str]:
        return self.world.admissible()
