"""What trying has taught: a Gaussian posterior of what each lever, and each of its variants, adds.

The change that a package makes to the share of solved tasks is taken as the sum over its levers, each
a priori N(hope, `LEVER_SD`²), and their variants, each N(0, `VARIANT_SD`²). A screening is a noisy reading of
that sum, and so is a confirmation, of which no more is known here than its verdict and its e-value. So one bad lever
in three packages is found out, and the levers it came with are cleared; and undecided is not nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aegis.history import Tried
from aegis.record import Decision

LEVER_SD = 0.02
VARIANT_SD = 0.015
DISCORDANT = 0.2
"""Share of pairs on which two harnesses usually differ: the variance of one pair's difference."""
CONFIRMED = {Decision.SHIP: 0.06, Decision.UNDECIDED: 0.02, Decision.REJECT: 0.0}
"""What a confirmation with this verdict reads, an undecided one at an e-value of 1; the rest by `PER_NAT`."""
PER_NAT = 0.02
"""So much more for each factor e of the e-value."""
LEAST_E = 0.1
CONFIRMED_SD = 0.03
LARGEST = 0.2
"""Readings beyond this say no more than that: a broken harness loses everything, whatever else it carries."""


@dataclass(frozen=True, slots=True)
class _Reading:
    features: frozenset[tuple[str, str]]
    value: float
    variance: float


class Effects:
    """One joint draw from the posterior (Thompson sampling), evaluated where it is asked.

    By Matheron's rule a prior draw, corrected by what it gets wrong of the readings, is a posterior draw;
    it costs one linear system of as many unknowns as there are readings.

    Args:
        hopes: what each lever is expected to add before anything was tried; 0 where it is not named.
    """

    def __init__(self, tried: Sequence[Tried], hopes: Mapping[str, float], rng: random.Random) -> None:
        self._rng, self._hopes = rng, hopes
        self._prior: dict[tuple[str, str], float] = {}
        self._readings = [reading for past in tried for reading in _readings(past)]
        readings = self._readings
        covariance = [
            [sum(map(_variance, sorted(a.features & b.features))) + (a.variance if a is b else 0.0) for b in readings]
            for a in readings
        ]
        missed = [
            r.value - sum(map(self._at_first, sorted(r.features))) - rng.gauss(0.0, math.sqrt(r.variance))
            for r in readings
        ]
        self._weights = _solve(covariance, missed)

    def of(self, lever: str, variant: str) -> float:
        """The drawn change of the share of solved tasks that a variant of a lever brings."""
        return sum(map(self._drawn, _features(lever, variant)))

    def _drawn(self, feature: tuple[str, str]) -> float:
        met = sum(w for r, w in zip(self._readings, self._weights, strict=True) if feature in r.features)
        return self._at_first(feature) + _variance(feature) * met

    def _at_first(self, feature: tuple[str, str]) -> float:
        if feature not in self._prior:
            lever, variant = feature
            mean = 0.0 if variant else self._hopes.get(lever, 0.0)
            self._prior[feature] = self._rng.gauss(mean, math.sqrt(_variance(feature)))
        return self._prior[feature]


def _features(lever: str, variant: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (lever, ""), (lever, variant)


def _variance(feature: tuple[str, str]) -> float:
    return VARIANT_SD**2 if feature[1] else LEVER_SD**2


def _readings(past: Tried) -> Iterable[_Reading]:
    """What screening and confirmation of one candidate measured."""
    if not past.lever:
        return
    pairs = zip(past.lever.split(" + "), past.record.title.split("; "), strict=False)
    features = frozenset(feature for pair in pairs for feature in _features(*pair))
    if past.screen is not None and past.attempts:
        yield _Reading(features, _clipped(past.screen / past.attempts), DISCORDANT / past.attempts)
    if past.record.check == "confirmation" and past.record.verdict in CONFIRMED:
        value = CONFIRMED[past.record.verdict]
        if past.record.verdict is Decision.UNDECIDED:
            value += PER_NAT * math.log(max(past.record.e_value or 1.0, LEAST_E))
        yield _Reading(features, _clipped(value), CONFIRMED_SD**2)


def _clipped(value: float) -> float:
    return max(-LARGEST, min(LARGEST, value))


def _solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solve a symmetric positive definite system by Cholesky's decomposition."""
    size = len(right)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(rest) if i == j else rest / lower[j][j]
    forward: list[float] = []
    for i in range(size):
        forward.append((right[i] - sum(lower[i][k] * forward[k] for k in range(i))) / lower[i][i])
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (forward[i] - sum(lower[k][i] * found[k] for k in range(i + 1, size))) / lower[i][i]
    return found
