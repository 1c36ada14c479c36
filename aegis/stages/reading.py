"""Trajectories from a file that may be longer than memory is large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harnessx.errors import UserError
from harnessx.trajectory import Trajectory

_HEADER = '{"format":'


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """The trajectories of a file such as ``R1/trajectories/evolve.jsonl``, one after another.

    One is held at a time. A last line without its end is still being written, and passed over.

    Raises:
        UserError: the file cannot be read, or is none of trajectories.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines: list[str] = []
            for line in file:
                if line.startswith(_HEADER) and lines:
                    yield Trajectory.from_jsonl("".join(lines))
                    lines = []
                lines.append(line)
            if lines:
                yield Trajectory.from_jsonl("".join(lines))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a file of trajectories: {error}") from error
