"""The record of an ablation (`aegis.record` says what a record is)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aegis.record import Calls, Record, Versions
from aegis.schema import LATER
from aegis.statistics import Interval


class Place(StrEnum):
    """What leaving one edit out of the final harness showed."""

    EARNS = "earns its place"
    NO_LONGER = "no longer earns its place"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One comparison of the final harness with one that lacks ``candidates``.

    ``fallen`` are later edits that do not apply without them, and so are missing too; the verdict is on
    all of these together. ``effect`` is final − left out on the drawn pairs, so above 0 the edits help;
    None where nothing was drawn. ``e_value`` is the evidence that they help, against 1/``alpha``.
    """

    candidates: tuple[str, ...]
    title: str
    harness: str
    fallen: tuple[str, ...]
    verdict: Place
    reason: str
    alpha: float | None = None
    e_value: float | None = None
    pairs: int = 0
    diverged: int = 0
    effect: Interval | None = None


@dataclass(frozen=True)
class Ablation(Record):
    """``ablation/ablation.json``: the final harness without each of its edits in turn.

    ``together`` is the check of leaving out all that no longer earn their place, None where that was
    one harness already tested. ``removed`` are the edits that ``proposed`` (a digest; the bundle is
    ``ablation/proposed/``) lacks; None where no removal is proposed.
    """

    final: str
    edits: tuple[LeftOut, ...]
    together: LeftOut | None
    removed: tuple[str, ...]
    proposed: str | None
    alpha: float
    cap: int
    mei: float
    guarantee: str
    rollouts: int
    model_calls: Calls
    tokens: int
    versions: Versions
    hosts: tuple[str, ...] = field(default=(), metadata=LATER)
    """What evolved code was allowed to ask."""
