"""What it means that an attack is contained, as a list of what is not."""

from __future__ import annotations

import os
import re
from pathlib import Path

from adversarial.arena import Verdict, fight
from adversarial.attack import Attack
from adversarial.corpus import CORPUS
from harnessx.sandbox import BACKENDS

WAIVER = "ADVERSARIAL_WITHOUT"
"""The environment variable that names walls the tests may pass without (``landlock``), for a kernel that has none."""


def waived() -> list[str]:
    """The walls that may be missing."""
    return os.environ.get(WAIVER, "").split(",")


def missing(backend: str) -> str:
    """What this machine lacks for the backend; '' where it works."""
    return next(sandbox.missing() for sandbox in BACKENDS if sandbox.name == backend)


def play_all(backend: str, folder: Path) -> dict[str, Verdict]:
    """The whole corpus behind one wall."""
    return dict(fight(CORPUS, backend, folder))


def problems(attack: Attack, verdict: Verdict) -> list[str]:
    """Everything that is not as it should be; empty where the attack is contained."""
    report, found = verdict.report, []
    if verdict.reached:
        found.append(f"it reached its sentinel ({attack.sentinel.name}): {verdict.reached}")
    if verdict.harm:
        found.append(f"it reached another sentinel: {verdict.harm}")
    if report.after:
        found.append(f"the rollout after it: {report.after}")
    expected = "harness_error" if attack.ends else "failed"
    if report.outcome != expected:
        found.append(f"the outcome is {report.outcome!r}, not {expected!r}: {report.error}")
    elif attack.ends and not re.search(attack.ends, report.error):
        found.append(f"the reason does not name what was refused: {report.error}")
    return found
