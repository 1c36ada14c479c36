"""What confirming a true gain costs, against tests whose size is fixed in advance (STATISTICS, prices)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeAlias

from aegis.statistics.power import GAINS, SCOPES
from aegis.statistics.prices import Effect as Seen
from aegis.statistics.prices import fixed_n, prices
from aegis.testbed.parallel import each
from aegis.testbed.population import Effect, Population

LEVEL = 0.05 / 60
SCOPE_CAP = 3000
"""Rollouts of the candidate at most."""
POPULATIONS = 20
FIXED_POWER = 0.99
"""Tests of fixed size are sized for this power at most: nobody asks for certainty."""


@dataclass(frozen=True, slots=True)
class Price:
    """One kind of edit. Rollouts of the candidate are the pairs in which its requests differ.

    ``power`` is within 200, 400, 800 rollouts of the candidate and at the cap; ``coupled`` and ``uncoupled``
    are what a test of fixed size of equal power needs: on the same draws, and on independent ones.
    """

    gain: float
    scope: float
    losses: float
    candidate_mean: float
    candidate_p95: float
    incumbent_mean: float
    power: tuple[float, float, float, float]
    coupled: int | None
    uncoupled: int | None

    @property
    def against_coupled(self) -> float | None:
        """Mean rollouts of the candidate over those of the fixed test on the same draws."""
        return self.candidate_mean / self.coupled if self.coupled else None

    @property
    def against_uncoupled(self) -> float | None:
        """Mean rollouts of the candidate over those of the fixed test on independent draws."""
        return self.candidate_mean / self.uncoupled if self.uncoupled else None


Kind: TypeAlias = tuple[float, float, float]
"""Gain, scope and losses of an edit, each a share of 1."""


def study(runs: int, seed: int) -> tuple[list[Price], list[Kind]]:
    """Every gain on every scope, without and with losses of a third of the gains; ``runs`` paths each.

    Returns:
        The prices, and the kinds that cannot be: so few tasks have no room for such a gain.
    """
    kinds: list[Kind] = [(gain, scope, losses) for scope in SCOPES for gain in GAINS for losses in (0.0, 1 / 3)]
    found = dict(zip(kinds, each(_price, [(*kind, runs, seed) for kind in kinds]), strict=True))
    return [price for price in found.values() if price is not None], [k for k, price in found.items() if price is None]


def _price(gain: float, scope: float, losses: float, runs: int, seed: int) -> Price | None:
    import numpy as np

    rng = random.Random(f"power/{seed}/{gain}/{scope}/{losses}")
    seen, everywhere = [], []
    for _ in range(POPULATIONS):
        population = Population.drawn(rng)
        try:
            effect = population.useful("edit", rng, scope=scope, gain=gain, losses=losses)
        except ValueError:  # this population has no room for it
            continue
        seen.append(_pair(population, effect, coupled=True))
        everywhere.append(_pair(population, effect, coupled=False))
    if not seen:
        return None
    cap = round(SCOPE_CAP / scope)
    each_runs = max(1, runs // len(seen))
    parts = [prices(s, alpha=LEVEL, cap=cap, paths=each_runs, seed=seed + i) for i, s in enumerate(seen)]
    pairs, diverged = (np.concatenate([getattr(p, name) for p in parts]) for name in ("pairs", "diverged"))
    shipped = np.concatenate([p.shipped for p in parts])
    power = float(shipped.mean())
    mean, wide = _mean(seen), _mean(everywhere)
    target = min(power, FIXED_POWER)
    return Price(
        gain, scope, losses,
        float(diverged.mean()), float(np.quantile(diverged, 0.95)), float(pairs.mean()),
        (*(float((shipped & (diverged <= k)).mean()) for k in (200, 400, 800)), power),  # type: ignore[arg-type]
        fixed_n(mean.gain / mean.scope, mean.loss / mean.scope, alpha=LEVEL, power=target),
        fixed_n(wide.gain, wide.loss, alpha=LEVEL, power=target),
    )  # fmt: skip


def _pair(population: Population, effect: Effect, *, coupled: bool) -> Seen:
    """A pair's chances: where the edit acts (or, without coupling, everywhere) both arms are drawn apart."""
    n, gain, loss, scope = len(population.rates), 0.0, 0.0, 0.0
    for task, p in enumerate(population.rates):
        acts = effect.acts[task] if coupled else 1.0
        q = population.rate(task, [effect] if effect.acts[task] else [])
        gain, loss, scope = gain + acts * q * (1 - p), loss + acts * p * (1 - q), scope + acts
    return Seen(gain / n, loss / n, scope / n)


def _mean(seen: list[Seen]) -> Seen:
    k = len(seen)
    return Seen(sum(s.gain for s in seen) / k, sum(s.loss for s in seen) / k, sum(s.scope for s in seen) / k)
