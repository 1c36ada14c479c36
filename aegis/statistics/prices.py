"""What a confirmation costs, before it is run: `PairedTest` on many drawn paths at once.

The rule is `PairedTest`'s, evaluated on whole arrays; a test holds the two against each other pair by pair.
`fixed_n` is the classical price to compare with: the exact one-sided McNemar test at a size fixed in advance.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from aegis.statistics.betting import BETS, MEI, Futility

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

PATHS = 400
_BLOCK, _PATHS = 64, 400
"""Pairs and paths that are drawn at once."""
ROUNDING = 1e-9
"""By so much chances may miss their sum."""
_SHIPS = -1
"""In the place of a number of pairs: with these counts the test ships."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An edit as a pair sees it: the chances that d = +1, that d = −1, and that the requests differ at all."""

    gain: float
    loss: float
    scope: float = 1.0

    def __post_init__(self) -> None:
        if min(self.gain, self.loss) < 0 or not self.gain + self.loss <= self.scope + ROUNDING <= 1 + 2 * ROUNDING:
            raise ValueError(f"gain {self.gain}, loss {self.loss}, scope {self.scope}: no chances of one pair")


@dataclass(frozen=True)
class Prices:
    """One entry per path: the pairs drawn until the verdict, how many diverged, and whether it was a ship.

    Pairs are what the incumbent runs (shared by the candidates of a round); diverged pairs are what the
    candidate runs.
    """

    pairs: Ints
    diverged: Ints
    shipped: NDArray[np.bool_]

    def power(self, pairs: int | None = None) -> float:
        """The share of paths that ship, within ``pairs`` drawn pairs."""
        within = self.shipped if pairs is None else self.shipped & (self.pairs <= pairs)
        return float(within.mean())

    def power_within(self, diverged: int) -> float:
        """The share of paths that ship within ``diverged`` rollouts of the candidate."""
        return float((self.shipped & (self.diverged <= diverged)).mean())

    def pairs_for(self, power: float) -> int | None:
        """The pairs within which a share ``power`` of the paths ships; None where it never does."""
        import numpy as np

        stops = np.sort(self.pairs[self.shipped])
        needed = math.ceil(power * len(self.pairs))
        return int(stops[needed - 1]) if 0 < needed <= len(stops) else None


def prices(
    effect: Effect,
    *,
    alpha: float,
    cap: int,
    mei: float = MEI,
    slack: float = math.inf,
    paths: int = PATHS,
    seed: int = 0,
) -> Prices:
    """Draw ``paths`` confirmations of ``effect`` at level ``alpha`` and at most ``cap`` pairs."""
    import numpy as np

    course = _course(alpha, cap, mei, slack)
    parts = [
        _drawn(effect, course, min(_PATHS, paths - start), np.random.default_rng([seed, start]))
        for start in range(0, paths, _PATHS)
    ]
    return Prices(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _drawn(
    effect: Effect, course: _Course, paths: int, rng: np.random.Generator
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Pairs, diverged pairs and whether it ships, for each of ``paths``; only paths without a verdict go on."""
    import numpy as np

    cap = course.cap
    pairs, diverged, shipped = np.full(paths, cap), np.zeros(paths, dtype=np.int64), np.zeros(paths, dtype=bool)
    going, wins, losses = np.arange(paths), np.zeros(paths, dtype=np.int64), np.zeros(paths, dtype=np.int64)
    for start in range(0, cap, _BLOCK):
        draws = rng.random((len(going), min(_BLOCK, cap - start)))
        gained, changed = draws < effect.gain, draws < effect.gain + effect.loss
        won = wins[going, None] + np.cumsum(gained, axis=1)
        lost = losses[going, None] + np.cumsum(changed ^ gained, axis=1)
        ends, ship = course.at(lost, won, np.arange(start + 1, start + 1 + draws.shape[1]))
        ended = ends.any(axis=1)
        last = np.where(ended, ends.argmax(axis=1), draws.shape[1] - 1)
        row = np.arange(len(going))
        pairs[going], shipped[going] = start + 1 + last, ship[row, last]
        diverged[going] += np.cumsum(draws < effect.scope, axis=1)[row, last]
        wins[going], losses[going] = won[:, -1], lost[:, -1]
        going = going[~ended]
        if not len(going):
            break
    return pairs, diverged, shipped


class _Course:
    """Where a test ends, by its counts.

    Whether it ships depends on losses and wins alone, and between two pairs that differ it only comes nearer
    to being given up: so each (losses, wins) has one number of pairs from which on it has ended. Found once
    and remembered, since all paths of all effects pass through the same counts.
    """

    def __init__(self, alpha: float, cap: int, mei: float, slack: float) -> None:
        import numpy as np

        self.cap = cap
        self._need, self._stop_futile = -math.log(alpha), math.log(Futility(mei).stop)
        self._hopes, self._slack = ((mei + 1) / (1 - mei), mei / (1 - mei), -1.0), slack
        self._ends_from = np.zeros((0, 0), dtype=np.int64)  # 0: not known yet

    def at(self, losses: Ints, wins: Ints, drawn: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the test has ended with these counts after ``drawn`` pairs, and whether it ships."""
        import numpy as np

        self._hold(int(losses.max()) + 1, int(wins.max()) + 1)
        cells = losses * self._ends_from.shape[1] + wins
        known = self._ends_from.reshape(-1)
        missing = cells[known[cells] == 0]
        if missing.size:
            new = np.unique(missing)
            known[new] = self._find(*np.divmod(new, self._ends_from.shape[1]))
        ends_from = known[cells]
        ship: NDArray[np.bool_] = ends_from == _SHIPS
        ends: NDArray[np.bool_] = ends_from <= drawn
        return ends, ship

    def _hold(self, losses: int, wins: int) -> None:
        """Make room for that many of each."""
        import numpy as np

        old = self._ends_from
        rows, columns = old.shape
        if losses > rows or wins > columns:
            room = (max(rows, 2 * losses), max(columns, 2 * wins))
            self._ends_from = np.zeros(room, dtype=np.int64)
            self._ends_from[:rows, :columns] = old

    def _find(self, losses: Ints, wins: Ints) -> Ints:
        """The first number of pairs with which each ends, cap + 1 where none does, by bisection."""
        import numpy as np

        evidence = _log_mixture((-1.0, 0.0, 1.0), losses, 0 * losses, wins)
        lo, hi = losses + wins, np.full(len(losses), self.cap + 1)
        while (lo < hi).any():
            middle = (lo + hi) // 2
            futile = _log_mixture(self._hopes, losses, middle - losses - wins, wins) >= self._stop_futile
            over = futile | (evidence < self._need * (middle / self.cap - self._slack))
            lo, hi = np.where(over | (lo >= hi), lo, middle + 1), np.where(over, middle, hi)
        found: Ints = np.where(evidence >= self._need, _SHIPS, np.maximum(hi, 1))
        return found


@functools.lru_cache(maxsize=8)
def _course(alpha: float, cap: int, mei: float, slack: float) -> _Course:
    """That of a test; the effects that are priced for one test share it."""
    return _Course(alpha, cap, mei, slack)


def _log_mixture(payoffs: tuple[float, float, float], losses: Ints, ties: Ints, wins: Ints) -> Floats:
    """Natural log of the mean over bets of the capital, for every entry."""
    import numpy as np

    factors = [[math.log1p(bet * x) for x in payoffs] for bet in BETS]
    logs = np.stack([a * losses + b * ties + c * wins for a, b, c in factors])
    peak = logs.max(axis=0)
    result: Floats = peak + np.log(np.exp(logs - peak).mean(axis=0))
    return result


def fixed_n(gain: float, loss: float, *, alpha: float, power: float, limit: int = 100_000, seed: int = 0) -> int | None:
    """The pairs that an exact one-sided McNemar test, its size fixed in advance, needs for ``power``.

    Returns:
        None where ``limit`` pairs do not suffice.
    """

    def reached(n: int) -> bool:
        return mcnemar_power(gain, loss, n, alpha=alpha, seed=seed) >= power

    lo, hi = 0, 16
    while not reached(hi):
        if hi >= limit:
            return None
        lo, hi = hi, 2 * hi
    while hi - lo > max(1, hi // 200):
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if reached(middle) else (middle, hi)
    return hi


def mcnemar_power(gain: float, loss: float, n: int, *, alpha: float, seed: int = 0, draws: int = 2000) -> float:
    """The chance that ``n`` pairs show a gain by the exact one-sided McNemar test at level ``alpha``."""
    import numpy as np

    rng = np.random.default_rng(seed)
    wins, losses, _ = rng.multinomial(n, [gain, loss, max(0.0, 1 - gain - loss)], size=draws).T
    critical = [mcnemar_critical(int(discordant), alpha) for discordant in wins + losses]
    return float(np.mean(wins >= critical))


@functools.lru_cache(maxsize=1 << 16)
def mcnemar_critical(discordant: int, alpha: float) -> int:
    """The least number of wins among ``discordant`` pairs whose one-sided p-value is at most ``alpha``."""
    tail, wins = 0.0, discordant + 1
    log_half = discordant * math.log(0.5)
    log_all = math.lgamma(discordant + 1)
    while wins > 0:
        chance = math.exp(log_all - math.lgamma(wins) - math.lgamma(discordant - wins + 2) + log_half)
        if tail + chance > alpha:
            break
        tail, wins = tail + chance, wins - 1
    return wins
