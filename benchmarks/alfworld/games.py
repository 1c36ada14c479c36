"""The game files on disk: which there are, what each asks for, and how it is won.

A game is one ``game.tw-pddl`` (JSON: PDDL domain and problem, text grammar, walkthrough) anywhere
below a folder named after its official split. Everything here is read without TextWorld, so listing
tasks costs a file read each and no environment.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harnessx.canonical import digest_of
from harnessx.errors import UserError

OFFICIAL_SPLITS = ("train", "valid_train", "valid_seen", "valid_unseen")

KINDS = {
    "pick_and_place_simple": "pick",
    "look_at_obj_in_light": "look",
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
    "pick_two_obj_and_place": "two",
}
"""Official task types, as folders are named, and the short names used in task ids."""

GET_GAMES = (
    'pip install "harnessx-aegis[alfworld]", run alfworld-download, and set ALFWORLD_DATA to the folder it fills'
)

_TASK_RULE = re.compile(r'"task":\s*\[\s*\{\s*"rhs":\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Game:
    """One game file. ``name`` is the part of its path below the split, which identifies it."""

    path: Path
    split: str
    name: str

    @cached_property
    def kind(self) -> str:
        """The official task type; ``other`` where no folder name tells."""
        folder = self.name.split("-", 1)[0]
        return folder if folder in KINDS else "other"

    @cached_property
    def id(self) -> str:
        """Safe as a file name, the same wherever the data lies: ``heat-apple-fridge-12-1a2b3c4d``."""
        words = self.name.split("/", 1)[0].split("-")
        subject = [KINDS.get(words[0], words[0]), *(word for word in words[1:] if word != "None")]
        slug = re.sub(r"[^a-z0-9]+", "-", "-".join(subject).lower()).strip("-")[:60]
        return f"{slug}-{digest_of([self.split, self.name])[:8]}"

    def read(self) -> GameText:
        """What the file says.

        Raises:
            UserError: the file is not an ALFWorld game.
        """
        try:
            data: dict[str, Any] = json.loads(self.path.read_text())
            goal = json.loads(task_rule(data["grammar"]))
            return GameText(goal, tuple(data.get("walkthrough") or ()), bool(data.get("solvable", True)))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} is not an ALFWorld game ({error}): {GET_GAMES}") from error


@dataclass(frozen=True, slots=True)
class GameText:
    """The sentence that states the goal, the commands that reach it, and whether anything can."""

    goal: str
    walkthrough: tuple[str, ...]
    solvable: bool


def task_rule(grammar: str) -> str:
    """The JSON string literal of the grammar's ``task`` rule.

    Raises:
        ValueError: the grammar has none.
    """
    match = _TASK_RULE.search(grammar)
    if match is None:
        raise ValueError("its grammar states no task")
    return match[1]


def find_games(root: Path) -> list[Game]:
    """All games below ``root``, sorted by split and name.

    Left out are what the official loader leaves out: games with sliced or movable-receptacle
    trajectories, and a game that is there twice (it is taken once).
    """
    games: dict[tuple[str, str], Game] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        if "game.tw-pddl" not in files or "movable" in folder or "Sliced" in folder:
            continue
        path = Path(folder)
        parts = (root.name, *path.relative_to(root).parts)
        at = next((i for i, part in enumerate(parts) if part in OFFICIAL_SPLITS), None)
        if at is not None:
            split, name = parts[at], "/".join(parts[at + 1 :])
            games.setdefault((split, name), Game(path / "game.tw-pddl", split, name))
    return [games[key] for key in sorted(games)]
