"""What must survive a pool: finished rollouts and recordings, and how old they are."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from harnessx.runner.cassette import Entry


class Shelf(Protocol):
    """Where a pool keeps what must survive it."""

    def rollout(self, key: str) -> str | None:
        """The stored result (JSON text) of a rollout, or None."""
        ...

    def put_rollout(self, key: str, body: str, trajectory: str | None) -> None:
        """Keep a finished rollout, with its trajectory where one was asked for."""
        ...

    def trajectory(self, key: str) -> str | None:
        """The stored trajectory (JSONL) of a rollout, or None."""
        ...

    def recordings(self, scope: str) -> Sequence[Entry]:
        """What was recorded in a scope."""
        ...

    def forget(self, keys: Sequence[str], scope: str) -> None:
        """Drop rollouts, and what was recorded in a scope."""
        ...

    def put_recordings(self, scopes: Mapping[str, Sequence[Entry]]) -> None:
        """Keep recordings, in one transaction."""
        ...


def outdated(shelf: Shelf | None, keys: Sequence[str], scope: str, window_s: float | None) -> bool:
    """Whether some of what there is of an unfinished pair dates from before the window (None: there is none)."""
    if window_s is None or shelf is None:
        return False
    bodies = [body for key in keys if (body := shelf.rollout(key)) is not None]
    bodies += [recorded.body for recorded in shelf.recordings(scope)]
    oldest = time.time() - window_s
    return any(json.loads(body).get("at", 0.0) < oldest for body in bodies)
