"""Tasks that want different harnesses: what each strategy is left with, by the true rates (paper §3 and §5)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aegis.gate.config import GateConfig
from aegis.statistics import Interval, bootstrap_mean
from aegis.strategies.base import Strategy
from aegis.strategies.ensemble import Ensemble
from aegis.strategies.global_ import Global
from aegis.testbed.parallel import each
from aegis.testbed.population import Effect, Population
from aegis.testbed.simulate import Plan, simulate, unlimited

ROUNDS = 10


def conflicts(population: Population, rng: random.Random, number: int) -> Sequence[Effect]:
    """Two edits that half of the clusters like, one of them a net loss; a rare fatal trigger; a useful one."""
    return [
        population.conflicting(f"r{number}-conflict", rng, gain=0.06, net=0.0),
        population.conflicting(f"r{number}-costly", rng, gain=0.06, net=-0.01),
        population.rare_harm(f"r{number}-rare", rng),
        population.useful(f"r{number}-gain", rng, scope=0.3, gain=0.03),
    ]


def _plan(gate: GateConfig, strategy: Callable[[], Strategy]) -> Plan:
    return Plan(conflicts, rounds=ROUNDS, attempts=2, gate=gate, strategy=strategy)


SEESAW, PAIRED = unlimited(rule="seesaw"), unlimited()
DEFAULT = GateConfig(run_cap=4000 * ROUNDS // 6, max_trials=3, bundle=False)
"""As the gate comes, without bundles: it screens, tests three a round and gives up what falls behind its course."""
PLANS = {
    "global_, seesaw": _plan(SEESAW, Global),
    "ensemble, seesaw": _plan(SEESAW, Ensemble),
    "global_, paired": _plan(PAIRED, Global),
    "ensemble, paired": _plan(PAIRED, Ensemble),
    "global_, default gate": _plan(DEFAULT, Global),
    "ensemble, default gate": _plan(DEFAULT, Ensemble),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One strategy under one rule. Rates are true ones, fractions; ``fall`` is the peak over rounds minus the end."""

    rule: str
    runs: int
    start: Interval
    peak: Interval
    final: Interval
    fall: Interval
    ships: float
    false_ships: float
    rollouts: float


def study(runs: int, seed: int) -> list[Row]:
    """Every plan on the same ``runs`` populations."""
    return [_row(name, each(_facts, [(name, seed + i) for i in range(runs)]), seed) for name in PLANS]


def _facts(name: str, seed: int) -> tuple[float, float, float, int, int, int]:
    run = simulate(PLANS[name], seed)
    return run.truth[0], max(run.truth), run.truth[-1], len(run.ships), run.false_ships, run.rollouts


def _row(name: str, facts: Sequence[tuple[float, float, float, int, int, int]], seed: int) -> Row:
    starts, peaks, finals, ships, false, rollouts = zip(*facts, strict=True)
    falls = [peak - final for peak, final in zip(peaks, finals, strict=True)]

    def mean(values: Sequence[float]) -> Interval:
        return bootstrap_mean({str(i): [value] for i, value in enumerate(values)}, seed)

    n = len(facts)
    return Row(
        name, n, mean(starts), mean(peaks), mean(finals), mean(falls), sum(ships) / n, sum(false) / n, sum(rollouts) / n
    )
