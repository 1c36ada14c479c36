"""What a gate can see: power, price and the smallest gain it detects, for edits of a given reach.

An edit acts on a share ``scope`` of the attempts, and there the outcome is drawn anew. Two draws of one
harness on a task differ with chance ``noise``: so of the pairs the edit touches, noise / 2 are lost by
luck alone, and noise / 2 plus the effect are won.
"""

from __future__ import annotations

from dataclasses import dataclass

from aegis.statistics.prices import ROUNDING, Effect, Prices, prices

GAINS = (0.03, 0.05, 0.10)
SCOPES = (0.1, 0.3, 1.0)
POWERS = (0.5, 0.8, 0.9)
_STEP = 0.005
TYPICAL_NOISE = 2 * 0.25 * 0.15 / (0.4 * 1.4)
"""2 E[p(1 − p)] where rates are U-shaped, p ~ Beta(.25, .15)."""


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """The settings of one confirmation: level, cap in pairs, and when it gives up."""

    alpha: float
    cap: int
    mei: float
    slack: float


@dataclass(frozen=True, slots=True)
class PowerRow:
    """What confirming a gain on a scope takes. None where the cap does not suffice.

    ``pairs[i]`` are drawn within which a share ``POWERS[i]`` of such edits ships; ``power`` is reached at
    the cap; ``candidate`` and ``incumbent`` are mean rollouts of the two arms.
    """

    gain: float
    scope: float
    pairs: tuple[int | None, ...]
    power: float
    candidate: float
    incumbent: float


def touching(gain: float, scope: float, noise: float) -> Effect | None:
    """An edit of that gain and scope as a pair sees it; None where the scope has no room for the gain."""
    luck = scope * noise / 2
    return Effect(luck + gain, luck, scope) if gain + 2 * luck <= scope + ROUNDING else None


def power_table(test: PlannedTest, noise: float, seed: int = 0) -> list[PowerRow]:
    """Every gain on every scope that has room for it."""
    rows = []
    for scope in SCOPES:
        for gain in GAINS:
            effect = touching(gain, scope, noise)
            if effect is not None:
                cost = _prices(effect, test, seed)
                pairs = tuple(cost.pairs_for(power) for power in POWERS)
                rows.append(
                    PowerRow(gain, scope, pairs, cost.power(), float(cost.diverged.mean()), float(cost.pairs.mean()))
                )
    return rows


def detectable_gains(test: PlannedTest, noise: float, seed: int = 0) -> dict[float, float | None]:
    """By scope, the smallest gain that ships with power .8."""
    return {scope: detectable(test, noise, scope, seed=seed) for scope in SCOPES}


def detectable(test: PlannedTest, noise: float, scope: float, power: float = 0.8, seed: int = 0) -> float | None:
    """The smallest gain, to half a point, that ships with ``power``; None where none does."""
    lo, hi = 0, int(scope * (1 - noise) / _STEP)
    if not _reaches(hi * _STEP, test, noise, scope, power, seed):
        return None
    while hi - lo > 1:
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if _reaches(middle * _STEP, test, noise, scope, power, seed) else (middle, hi)
    return hi * _STEP


def null_ship_rate(test: PlannedTest, noise: float, paths: int = 4_000, seed: int = 0) -> float:
    """How often an edit that changes every request and no rate ships."""
    return prices(
        Effect(noise / 2, noise / 2), alpha=test.alpha, cap=test.cap, mei=test.mei, slack=test.slack, paths=paths,
        seed=seed,
    ).power()  # fmt: skip


def _reaches(gain: float, test: PlannedTest, noise: float, scope: float, power: float, seed: int) -> bool:
    effect = touching(gain, scope, noise)
    return effect is not None and _prices(effect, test, seed).power() >= power


def _prices(effect: Effect, test: PlannedTest, seed: int) -> Prices:
    return prices(effect, alpha=test.alpha, cap=test.cap, mei=test.mei, slack=test.slack, seed=seed)
