"""The corpus as a table: what each attack wants, where it bites, and what the static policy says of its source.

``python -m adversarial.table`` (with ``tests`` on the path) prints it. The policy is a filter and no wall, so it
is passed by where containment is tested; here is what it would have refused before anything ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from adversarial.attack import Attack, Bite
from adversarial.corpus import CORPUS, FAMILIES
from aegis.gate.source import SourceFinding, findings_in

_AT = {"words": ("a", "b"), "mark": "mark"}


@cache
def refusals() -> Mapping[str, Sequence[SourceFinding]]:
    """What the policy finds in the source of each attack, by its name."""
    return {attack.name: findings_in({"assets/attack.py": attack.source(_AT)}) for attack in CORPUS}


def lines() -> list[str]:
    """A row for each attack, one for each family, and the sum."""
    rows, found = [], refusals()
    for family, attacks in FAMILIES.items():
        rows.append(f"{family}: {_sum(attacks)}")
        for attack in attacks:
            first = f"{found[attack.name][0]}" if found[attack.name] else "passes the static policy"
            where = (attack.lax and f"without {attack.lax}") or attack.bite.value
            rows.append(f"  {attack.name} | {attack.sentinel.name} | {where} | {first}")
    return [*rows, f"the static policy would refuse {_sum(CORPUS)}"]


def _sum(attacks: Sequence[Attack]) -> str:
    refused = sum(bool(refusals()[attack.name]) for attack in attacks)
    unwalled = sum(attack.bite is Bite.UNWALLED for attack in attacks)
    return f"{refused} of {len(attacks)} ({unwalled} bite with isolation=none alone)"


if __name__ == "__main__":
    print("\n".join(lines()))
