"""Plays games in a process of its own: JSON lines in on stdin, JSON lines out on stdout.

    {"game": "/…/game.tw-pddl"}   ->   {"observation": "You are in …", "commands": […], "won": false}
    {"command": "go to desk 1"}   ->   {"observation": "You arrive …", "commands": […], "won": false}

Ends at the end of stdin, hence with its parent. An error ends it too, with the reason on stderr.
Whatever TextWorld prints goes to stderr, so nothing but answers is on stdout.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmarks.alfworld.games import task_rule
from benchmarks.alfworld.memo import install

_PLACED = re.compile(r"(?:put (.+) (?:in/on|in|on|into|onto)|move (.+) to) (.+)")


def in_dialect(command: str, admissible: Collection[str]) -> str:
    """``command`` in the words of this game: some releases say ``move X to Y``, some ``put X in/on Y``."""
    if command not in admissible and (match := _PLACED.fullmatch(command)):
        thing, place = match[1] or match[2], match[3]
        for same in (f"move {thing} to {place}", f"put {thing} in/on {place}"):
            if same in admissible:
                return same
    return command


class Player:
    """One TextWorld environment, wrapped as the official package wraps it, loaded with game after game."""

    def __init__(self) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld.envs.pddl import PddlEnv

        self._env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
        self._commands: list[str] = []

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        """Begin the requested game, or run the requested command in the current one."""
        if "game" in request:
            return self._state(self._begin(Path(request["game"])))
        state, _, _ = self._env.step(in_dialect(request["command"].strip(), self._commands))
        return self._state(state)

    def _begin(self, path: Path) -> Any:
        data = json.loads(path.read_text())
        # The task prompt states the goal; without it, games share one grammar, which is parsed once.
        data["grammar"] = data["grammar"].replace(task_rule(data["grammar"]), '"-"', 1)
        self._env.load(data)
        state = self._env.reset()
        state.feedback = state.feedback.split("\n\n")[1]  # welcome, room, task
        return state

    def _state(self, state: Any) -> dict[str, Any]:
        self._commands = state["admissible_commands"]
        return {"observation": state.feedback, "commands": self._commands, "won": bool(state["won"])}


def main() -> None:
    """Serve until stdin ends. The one argument is the folder for remembered translations."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        install(Path(sys.argv[1]))
        player = Player()
        for line in sys.stdin:
            print(json.dumps(player.answer(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
