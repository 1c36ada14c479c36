"""Runs that kill themselves at a chosen point, and are taken up again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import warm
from evolve_drive import SMALL

from aegis.store import RunStore
from aegis.watch import Watch

SHORT = (
    *SMALL,
    "rounds=2",
    "benchmark.splits.sealed=3",
    "gate.cap=24",
    "gate.batch=8",
    "gate.run_cap=28",
    "gate.canaries=3",
    "gate.calibration=3",
)
"""Two rounds, the settings of every run here."""


@dataclass
class Death(AbstractContextManager[None]):
    """Kills its process at the n-th stage or n-th write (``kind``, ``at``); reports what was done if it ends."""

    kind: str
    at: int
    report: Path

    def __enter__(self) -> None:
        self.counts, self.again = {"stage": 0, "write": 0}, list[str]()
        _before(Watch, "stage", lambda *_: self._count("stage"))
        _before(RunStore, "put_rollout", self._put_rollout)
        for name in ("_write", "write_text", "audit"):
            _before(RunStore, name, lambda *_: self._count("write"))

    def __exit__(self, *_: object) -> None:
        self.report.write_text(json.dumps({**self.counts, "again": self.again}))

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if (self.kind, self.at) == (what, self.counts[what]):
            os.kill(os.getpid(), signal.SIGKILL)

    def _put_rollout(self, store: RunStore, key: str, body: str, trajectory: str | None = None) -> None:
        if store.rollout(key) is not None and (trajectory is None or store.trajectory(key) is not None):
            self.again.append(key)


def _before(cls: type, name: str, watching: Callable[..., None]) -> None:
    """Call ``watching`` with the arguments of every call of that method, before it."""
    real = getattr(cls, name)

    def call(*arguments: Any, **named: Any) -> Any:
        watching(*arguments, **named)
        return real(*arguments, **named)

    setattr(cls, name, call)


class Driven:
    """Drives one run folder through deaths and resumes."""

    def __init__(self, folder: Path, named: str) -> None:
        self.run, self._report = folder / "run", folder / "report.json"
        self._arguments = (*SHORT, named, f"run.dir={self.run}")
        folder.mkdir()

    def go(self, kind: str = "none", at: int = 0, *arguments: str) -> int:
        """Start or resume; the exit code."""
        given = (*self._arguments, "run.resume=true", *arguments)
        return warm.call("aegis.evolve", given, around=Death(kind, at, self._report)).returncode

    @property
    def report(self) -> dict[str, Any]:
        """What the last process that ended by itself had done."""
        return dict(json.loads(self._report.read_text()))
