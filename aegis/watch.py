"""Where a run is and how long it has taken, for its summary and for whoever looks on."""

from __future__ import annotations

import time

from aegis.evaluator import Meter
from aegis.views.progress import Progress
from harnessx.runner.jobs import RolloutResult


class Watch:
    """Follows a run: wall seconds by stage, and what the progress view shows of the stage that runs."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress, self._meter = progress, Meter()
        self._stage, self._since = "start", time.monotonic()
        self._planned = self._done = self._passed = 0

    def enter(self, stage: str) -> None:
        """The clock of the next stage begins."""
        now = time.monotonic()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def stage(self, number: int | None, name: str) -> None:
        """The next stage begins; its rollouts count from zero."""
        self.enter(name)
        self._planned = self._done = self._passed = 0
        self._progress.stage(number, name)

    def note(self, text: str) -> None:
        """Something worth a line of its own."""
        self._progress.note(text)

    def planned(self, count: int) -> None:
        """``count`` more rollouts of this stage."""
        self._planned += count

    def finished(self, result: RolloutResult) -> None:
        """One of them is there."""
        meter = self._meter
        meter.count([result])
        self._done += 1
        self._passed += result.passed
        self._progress.calls(meter.calls.made, meter.calls.replayed)
        self._progress.rollouts(self._done, self._planned, self._passed, meter.tokens, meter.dollars)
