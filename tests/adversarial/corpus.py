"""All attacks, by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adversarial import (
    escapes,
    exhaustion,
    leaking,
    lifetime,
    network,
    planting,
    processes,
    reading,
    smoking,
    tampering,
    timing,
    wire,
    writing,
)
from adversarial.attack import QUIET, Attack
from adversarial.sentinels import TOLD

FAMILIES: Mapping[str, Sequence[Attack]] = {
    module.__name__.rpartition(".")[2]: module.ATTACKS
    for module in (
        reading, escapes, writing, planting, tampering, processes, network, lifetime, timing, exhaustion, leaking, wire,
        smoking,
    )
}  # fmt: skip
CORPUS: Sequence[Attack] = tuple(attack for attacks in FAMILIES.values() for attack in attacks)
HARMLESS = Attack("nothing at all", "pass", TOLD, QUIET)
"""What reaches no sentinel anywhere."""
PLAYABLE: Sequence[Attack] = (*CORPUS, HARMLESS)
