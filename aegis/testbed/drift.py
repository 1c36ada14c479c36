"""Forced small losses, round after round: when does a run's own watch for drift speak? (STATISTICS rule 9)"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from aegis.evaluator import VALIDATION
from aegis.gate.confirmation import Draws
from aegis.gate.drift import DriftConfig, DriftWatch
from aegis.statistics import Interval, clopper_pearson
from aegis.testbed.parallel import each
from aegis.testbed.population import Effect, Population
from aegis.testbed.runner import SimulatedRunner, edit_of
from harnessx.harness import HarnessConfig

ROUNDS = 15
FORCED = 5
LOSS = 0.015
PAIRS = (206, 412, 824)
SCOPES = (0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """Runs whose rounds 1-5 each lose 1.5 points, by pairs a round and the share of tasks an edit touches.

    ``by_5`` and ``by_8`` are the shares of runs with an alarm by the end of that round, ``before_5_points``
    those with one while less than 5 points were lost. With ``loss`` 0 every alarm is a false one: ``ever``.
    """

    loss: float
    scope: float
    pairs: int
    by_5: Interval
    by_8: Interval
    before_5_points: Interval
    ever: Interval


def study(runs: int, seed: int) -> list[Row]:
    """Every price and scope, with losses and without."""
    return [
        _row(loss, scope, pairs, each(_run, [(loss, scope, pairs, seed + i) for i in range(runs)]))
        for loss in (LOSS, 0.0)
        for scope in SCOPES
        for pairs in PAIRS
    ]


def _row(loss: float, scope: float, pairs: int, found: Sequence[tuple[int, float]]) -> Row:
    def share(count: int) -> Interval:
        return clopper_pearson(count, len(found))

    return Row(
        loss,
        scope,
        pairs,
        share(sum(alarm <= 5 for alarm, _ in found)),
        share(sum(alarm <= 8 for alarm, _ in found)),
        share(sum(alarm <= ROUNDS and lost < 0.05 for alarm, lost in found)),
        share(sum(alarm <= ROUNDS for alarm, _ in found)),
    )


def _run(loss: float, scope: float, pairs: int, seed: int) -> tuple[int, float]:
    """The round of the alarm (one more than there are: none), and the true loss at that point."""
    rng = random.Random(f"drift/{seed}")
    population, losing = _room(rng, loss, scope)
    effects = {effect.name: effect for effect in losing}
    runner = SimulatedRunner(population, effects, seed)
    draws = Draws(runner.tasks()[VALIDATION], seed)
    best = current = HarnessConfig()
    watch = DriftWatch(runner, draws, best, DriftConfig(pairs, ROUNDS, check=1, cap=(pairs + 2) * ROUNDS))
    for number in range(1, ROUNDS + 1):
        if number <= FORCED:
            current = edit_of(losing[number - 1]).apply(current)
        seen = asyncio.run(watch.check(current))
        if seen is not None and seen.alarmed:
            return number, runner.truth(best) - runner.truth(current)
    return ROUNDS + 1, runner.truth(best) - runner.truth(current)


def _room(rng: random.Random, loss: float, scope: float) -> tuple[Population, list[Effect]]:
    """A population, and the edits that are forced on it; with no loss, edits that move rates to no effect."""
    while True:
        population = Population.drawn(rng)
        try:
            return population, [
                population.useful(f"e{i}", rng, scope=scope, gain=-loss)
                if loss
                else population.useless(f"e{i}", rng, scope=scope, moved=LOSS)
                for i in range(FORCED)
            ]
        except ValueError:  # no room for the effect: another population
            continue
