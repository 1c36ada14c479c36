"""What the null calibration before round 1 found: ``data/calibration.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aegis.schema import LATER, Record
from aegis.statistics import Interval
from aegis.statistics.power import PowerRow


@dataclass(frozen=True, slots=True)
class InertPairs:
    """H_0 beside an edit of it that says nothing: ``diverged`` of the pairs sent another request."""

    pairs: int
    discordant: int
    diverged: int
    difference: Interval
    e_value: float


@dataclass(frozen=True)
class Calibration(Record):
    """What the gate says of two copies of H_0, and what it can confirm (STATISTICS rule 12).

    Of ``pairs`` pairs of attempts, ``discordant`` ended differently: ``noise`` is their share. ``e_value`` is
    the evidence that the arms differ, alarm at ``alarm``; ``null_ship_rate`` how often an edit without effect
    would ship at that noise, against the ``alpha`` of one decision. ``detectable`` is the smallest gain that
    ships with power .8, by share of attempts the edit acts on; ``rows`` the prices. ``inert`` is None where
    there were no pairs for it.
    """

    pairs: int
    discordant: int
    noise: float
    difference: Interval
    e_value: float
    alarm: float
    alpha: float
    null_ship_rate: float
    tokens_per_rollout: float
    detectable: Mapping[str, float | None]
    rows: tuple[PowerRow, ...]
    inert: InertPairs | None = field(default=None, metadata=LATER)
