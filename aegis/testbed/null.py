"""How often a run ships something false, by acceptance rule (STATISTICS rules 2, 5, 12)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aegis.gate.confirmation import Confirmation, Trial
from aegis.statistics import Elond, Interval, PairedTest, Verdict, clopper_pearson
from aegis.statistics.prices import mcnemar_critical
from aegis.testbed.parallel import each
from aegis.testbed.population import Effect, Kind, Population
from aegis.testbed.simulate import Plan, simulate, unlimited

FIXED_PAIRS = 206
"""Pairs of the fixed-n rule: two per task."""
REAL_ROUNDS = (1, 4, 7, 10, 13)
"""Rounds in which the runs with real effects are offered one."""


def nothing(population: Population, rng: random.Random, number: int) -> Sequence[Effect]:
    """Four edits without a true gain: inert, useless on 10 % and on 30 % of the tasks, and a rare fatal trigger."""
    return [
        population.inert(f"r{number}-inert"),
        population.useless(f"r{number}-narrow", rng, scope=0.1, moved=0.02),
        population.useless(f"r{number}-wide", rng, scope=0.3, moved=0.04),
        population.rare_harm(f"r{number}-rare", rng),
    ]


def copies(population: Population, rng: random.Random, number: int) -> Sequence[Effect]:
    """Four copies of the incumbent, each drawn anew: chance alone leaves some ahead, and what is ahead is bundled."""
    return [population.inert(f"r{number}-copy{i}") for i in range(4)]


def five_real(population: Population, rng: random.Random, number: int) -> Sequence[Effect]:
    """Four useless edits; in five of the rounds one of them is replaced by a gain of 8 points on 30 % of the tasks."""
    offered = nothing(population, rng, number)
    if number not in REAL_ROUNDS:
        return offered
    return [population.useful(f"r{number}-real", rng, scope=0.3, gain=0.08), *offered[1:]]


class FixedN(Confirmation):
    """The classical rule: `FIXED_PAIRS` pairs, one exact McNemar test at .05 for each candidate."""

    def open(self, candidate: object) -> Trial:
        trial = super().open(candidate)  # type: ignore[arg-type]
        trial.test = _McNemar(0.05, FIXED_PAIRS)
        return trial


class _McNemar(PairedTest):
    """One look, after ``cap`` pairs."""

    def __init__(self, alpha: float, pairs: int) -> None:
        super().__init__(alpha, cap=pairs, look_every=pairs)

    def _look(self) -> None:
        super()._look()
        look = self.trace[-1]
        ships = look.wins >= mcnemar_critical(look.wins + look.losses, self.alpha)
        self.verdict = Verdict.SHIP if ships else Verdict.REJECT


EVERY = replace(unlimited(), bundle=True)
"""Tests every candidate to its end, and bundles: more chances to ship something false than the default gate takes."""
PLANS: Mapping[str, Plan] = {
    "paired, spending": Plan(nothing, gate=EVERY),
    "paired, as it comes": Plan(nothing),
    "paired, spending, copies": Plan(copies, gate=EVERY),
    "paired, e-LOND": Plan(nothing, gate=EVERY, ledger=Elond),
    "paired, spending, five real": Plan(five_real, gate=EVERY),
    "paired, e-LOND, five real": Plan(five_real, gate=EVERY, ledger=Elond),
    "seesaw, pass@2": Plan(nothing, gate=replace(unlimited(), rule="seesaw"), attempts=2),
    f"fixed n = {FIXED_PAIRS}, .05 each": Plan(nothing, gate=unlimited(), confirmation=FixedN),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One rule: the shares of runs that ship anything, and that ship something without a true gain.

    ``copies_rejected`` is the share of inert candidates (copies of the incumbent, drawn anew) found harmful.
    """

    rule: str
    runs: int
    shipped: Interval
    shipped_false: Interval
    true_ships: float
    copies_rejected: float
    pairs_per_candidate: float
    change: float


def study(rules: Sequence[str], runs: int, seed: int) -> list[Row]:
    """Every rule on the same ``runs`` populations."""
    rows = []
    for rule in rules:
        facts = each(_facts, [(rule, seed + i) for i in range(runs)])
        rows.append(_row(rule, facts))
    return rows


@dataclass(frozen=True, slots=True)
class _Facts:
    ships: int
    false: int
    copies: int
    copies_rejected: int
    candidates: int
    pairs: int
    change: float


def _facts(rule: str, seed: int) -> _Facts:
    run = simulate(PLANS[rule], seed)
    copies = [fate for fate in run.fates if fate.kind is Kind.INERT]
    return _Facts(
        len(run.ships),
        run.false_ships,
        len(copies),
        sum(fate.harmful for fate in copies),
        len(run.fates),
        sum(fate.pairs for fate in run.fates),
        run.truth[-1] - run.truth[0],
    )


def _row(rule: str, facts: Sequence[_Facts]) -> Row:
    runs = len(facts)
    copies = sum(f.copies for f in facts)
    return Row(
        rule,
        runs,
        clopper_pearson(sum(f.ships > 0 for f in facts), runs),
        clopper_pearson(sum(f.false > 0 for f in facts), runs),
        sum(f.ships - f.false for f in facts) / runs,
        sum(f.copies_rejected for f in facts) / copies,
        sum(f.pairs for f in facts) / sum(f.candidates for f in facts),
        sum(f.change for f in facts) / runs,
    )
