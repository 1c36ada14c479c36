"""What trying has taught: a Beta posterior per lever, updated by screens and verdicts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from aegis.history import Tried
from aegis.record import Decision

PRIOR = (1.0, 1.0)


def evidence(lever: str, tried: Sequence[Tried]) -> tuple[float, float]:
    """(successes, failures) of a lever: a ship counts two, a good or bad screen half, a rejection one."""
    good, bad = PRIOR
    for past in tried:
        if lever not in past.lever.split(" + "):
            continue
        if past.record.verdict is Decision.SHIP:
            good += 2.0 * (past.record.hit_rate if past.record.hit_rate is not None else 0.5)
        elif past.record.verdict is Decision.REJECT:
            bad += 1.0
        if past.screen is not None:
            good, bad = good + 0.5 * (past.screen > 0), bad + 0.5 * (past.screen < 0)
    return good, bad


def draw(lever: str, tried: Sequence[Tried], rng: random.Random) -> float:
    """A Thompson draw of the lever's chance to help, in [0, 1]."""
    return rng.betavariate(*evidence(lever, tried))
