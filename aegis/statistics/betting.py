"""E-processes: evidence that may be looked at after every pair.

A pair gives d = candidate − incumbent ∈ {−1, 0, +1}. A bettor who doubts a claim about the mean μ of
d stakes a fraction b of his capital on a payoff x(d) ≥ −1 that is unfavourable if the claim holds:
capital becomes ∏(1 + b·x_s), a nonnegative supermartingale under the claim. By Ville's inequality it
*ever* reaches 1/α with probability at most α, so one may stop whenever one likes.

No single stake suits every effect, so the capital is spread evenly over a grid of stakes: a mixture
of supermartingales is one. Nothing is fitted to the data, which keeps it valid for draws with
replacement (look any time) and for complete passes over the tasks (look at pass ends only: within a
pass E∏(1 + b·x_i) ≤ (1 + b·mean x)ⁿ by AM–GM). It is **not** valid for a fixed order looked at after
every pair, nor for a martingale without replacement, which tests the realised mean. (STATISTICS rules 2 and 3.)
The value depends on the counts of −1, 0, +1 alone, not on their order.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (2024).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

BETS: tuple[float, ...] = tuple(step / 20 for step in range(1, 20))
"""Stakes 0.05 … 0.95. The best one for a gain g and a loss l per pair is (g − l) / (g + l)."""

MEI = 0.03
"""Minimum effect of interest: smaller gains are not worth the pairs that would confirm them."""

_LOG_CAP = 700.0  # e^700 is a float and so is a sum of a thousand of them


@functools.cache
def _mixture(payoffs: tuple[float, float, float], bets: tuple[float, ...]) -> Callable[[float, float, float], float]:
    """The log e-value as a function of the counts, remembered: many tests pass through the same counts."""
    log_factors = [[math.log1p(bet * x) for x in payoffs] for bet in bets]

    @functools.lru_cache(maxsize=1 << 16)
    def log_e(losses: float, ties: float, wins: float) -> float:
        logs = [a * losses + b * ties + c * wins for a, b, c in log_factors]
        peak = max(logs)
        return peak + math.log(math.fsum(math.exp(log - peak) for log in logs) / len(logs))

    return log_e


class EProcess:
    """Evidence against a claim about μ, as a mixture over fixed stakes.

    ``payoffs`` are x(−1), x(0), x(+1), each ≥ −1; the process is valid for every claim under which
    their mean is ≤ 0. Starts at 1.
    """

    def __init__(self, payoffs: tuple[float, float, float], bets: Sequence[float] = BETS) -> None:
        if not bets or not all(0 <= bet < 1 for bet in bets):
            raise ValueError(f"bets must be fractions in [0, 1), got {tuple(bets)}")
        if min(payoffs) < -1:
            raise ValueError(f"a payoff may not lose more than the stake, got {payoffs}")
        self._log_e = _mixture(payoffs, tuple(bets))
        self._counts = [0, 0, 0]

    def update(self, d: int) -> None:
        """Bet on one more pair."""
        if d not in (-1, 0, 1):
            raise ValueError(f"a pair differs by -1, 0 or 1, not {d!r}")
        self._counts[d + 1] += 1

    def log_e_at(self, losses: float, ties: float, wins: float) -> float:
        """Natural log of the e-value after these counts (fractional ones: along an expected path)."""
        return self._log_e(losses, ties, wins)

    @property
    def log_e_value(self) -> float:
        """Natural log of the e-value."""
        return self.log_e_at(*self._counts)

    @property
    def e_value(self) -> float:
        """The capital, ≥ 0. Held at e^700 so that it stays a finite number."""
        return math.exp(min(self.log_e_value, _LOG_CAP))


class Superiority(EProcess):
    """Evidence against "μ ≤ 0": the candidate is better. E = mean over bets of ∏(1 + b·d_s)."""

    def __init__(self, bets: Sequence[float] = BETS) -> None:
        super().__init__((-1.0, 0.0, 1.0), bets)


class Harm(EProcess):
    """Evidence against "μ ≥ 0": the candidate is worse."""

    def __init__(self, bets: Sequence[float] = BETS) -> None:
        super().__init__((1.0, 0.0, -1.0), bets)


class Futility(EProcess):
    """Evidence against "μ ≥ ``mei``": whatever gain there is, it is below the effect of interest.

    The payoff is (mei − d) / (1 − mei). ``stop`` is where testing ends: a candidate that does have
    the effect is given up with probability at most 1/``stop``.
    """

    def __init__(self, mei: float = MEI, *, stop: float = 10.0, bets: Sequence[float] = BETS) -> None:
        if not 0 <= mei < 1:
            raise ValueError(f"the minimum effect of interest is a fraction in [0, 1), not {mei}")
        super().__init__(((mei + 1) / (1 - mei), mei / (1 - mei), -1.0), bets)
        self.stop = stop


class NonInferiority(EProcess):
    """Evidence against "μ ≤ −``margin``": whatever is lost, it is less than the margin.

    The payoff is (d + margin) / (1 − margin), which mirrors `Futility`.
    """

    def __init__(self, margin: float, bets: Sequence[float] = BETS) -> None:
        if not 0 < margin < 1:
            raise ValueError(f"a margin is a fraction in (0, 1), not {margin}")
        super().__init__((-1.0, margin / (1 - margin), (1 + margin) / (1 - margin)), bets)


class ClusterProof:
    """Proves of each cluster that it loses less than ``margin`` (rule 8, optional).

    If some cluster loses as much or more, all are ever proved with probability at most ``alpha``: that cluster's own
    process then has to reach 1/alpha, so nothing is split between them. The price, in pairs of a harmless cluster at
    a margin of 10 points and .05: 44 where the arms never differ, 89 on average where they differ by chance in a
    tenth of the pairs, 192 where in a quarter; at 5 points 90, 311 and 740.
    """

    def __init__(
        self, clusters: Iterable[str], margin: float, alpha: float = 0.05, bets: Sequence[float] = BETS
    ) -> None:
        self.margin = margin
        self._processes = {cluster: NonInferiority(margin, bets) for cluster in sorted(set(clusters))}
        self._threshold = 1 / alpha
        self._proved: set[str] = set()

    def update(self, cluster: str, d: int) -> None:
        """Count one pair drawn from ``cluster``; one that is missing as its worst case.

        Raises:
            KeyError: the cluster was not declared.
        """
        process = self._processes[cluster]
        process.update(d)
        if process.e_value >= self._threshold:
            self._proved.add(cluster)

    @property
    def unproved(self) -> tuple[str, ...]:
        """The clusters whose process never reached the threshold, by name."""
        return tuple(cluster for cluster in self._processes if cluster not in self._proved)


class ClusterHarm:
    """Watches each of C clusters for harm (rule 8); a cluster is harmed once its process reaches C/α.

    If no cluster is worse off, one is named with probability at most ``alpha`` (union of Ville
    bounds). A limit, not a proof of safety: a cluster of 17 tasks that loses 10 points is noticed
    with power .24 after 100 pairs of its own, .79 after 300.
    """

    def __init__(self, clusters: Iterable[str], alpha: float = 0.05, bets: Sequence[float] = BETS) -> None:
        self._processes = {cluster: Harm(bets) for cluster in sorted(set(clusters))}
        self._threshold = len(self._processes) / alpha
        self._harmed: set[str] = set()

    def update(self, cluster: str, d: int) -> None:
        """Count one pair drawn from ``cluster``.

        Raises:
            KeyError: the cluster was not declared; the threshold counts them in advance.
        """
        process = self._processes[cluster]
        process.update(d)
        if process.e_value >= self._threshold:
            self._harmed.add(cluster)

    @property
    def harmed(self) -> tuple[str, ...]:
        """The clusters that ever reached the threshold, by name."""
        return tuple(sorted(self._harmed))


class DriftDetector:
    """Notices that the harness has slid below the best confirmed one, whenever the slide began (rule 9).

    Each of ``rounds`` planned rounds starts a harm process of its own on d = current − best; their
    mean E = (1/R) Σ E⁽ʲ⁾ (those not yet started stand at 1) is one e-process, so that an alarm at 20
    is false in at most 5 % of *runs* in which no round is worse than the best.
    """

    def __init__(self, rounds: int, *, alarm: float = 20.0, bets: Sequence[float] = BETS) -> None:
        if rounds < 1:
            raise ValueError(f"drift is watched over at least one round, not {rounds}")
        self._rounds, self._alarm, self._bets = rounds, alarm, tuple(bets)
        self._processes: list[Harm] = []
        self._alarmed = False

    def start_round(self) -> None:
        """Start this round's process.

        Raises:
            ValueError: more rounds than planned, which would break the bound.
        """
        if len(self._processes) == self._rounds:
            raise ValueError(f"drift was planned over {self._rounds} rounds, all have started")
        self._processes.append(Harm(self._bets))

    def update(self, d: int) -> None:
        """Count one pair, current against best, in every process started so far."""
        if not self._processes:
            raise ValueError("start a round before its pairs")
        for process in self._processes:
            process.update(d)

    @property
    def alarmed(self) -> bool:
        """Whether the alarm was reached at this look or an earlier one. Looking seldom or often is both valid."""
        self._alarmed = self._alarmed or self.e_value >= self._alarm
        return self._alarmed

    @property
    def e_value(self) -> float:
        """The mean of the R processes."""
        waiting = self._rounds - len(self._processes)
        return (math.fsum(process.e_value for process in self._processes) + waiting) / self._rounds
