"""What a second draw of an unchanged harness would show: low scores rise and high ones fall by chance alone.

Whoever names the tasks that failed and waits sees some of them solved, whatever was done meanwhile. How many, follows
from how alike the attempts of one task end: where they always do, none; where success is a coin's, about as many as
succeed at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def chance_of_rise(rates: Mapping[str, float], attempts: int, named: Sequence[str]) -> float | None:
    """The share of ``named`` tasks whose pass rate would be higher if all were played again by the same harness.

    Empirical Bayes: success rates of tasks are taken as Beta distributed, with the mean and the spread within tasks
    that ``rates`` (of ``attempts`` attempts, by task) show; a task that passed k of n is expected to pass like the
    tasks that do. Fresh draws are meant: a task on which nothing changes and nothing is drawn anew cannot rise.

    None where it cannot be known: with one attempt a task's luck and its difficulty look alike; or nothing is named.
    """
    known = [rates[task] for task in named if task in rates]
    if attempts < 2 or not known:
        return None
    mean = sum(rates.values()) / len(rates)
    within = sum(p * (1 - p) for p in rates.values()) / len(rates) * attempts / (attempts - 1)
    between = mean * (1 - mean) - within
    if within <= 0:  # all attempts of a task end alike
        return 0.0
    concentration = within / between if between > 0 else math.inf
    return sum(_rise(rate, mean, concentration, attempts) for rate in known) / len(known)


def _rise(rate: float, mean: float, concentration: float, attempts: int) -> float:
    """P(more than ``rate`` of ``attempts``) for a task that has just passed ``rate`` of as many."""
    passed = round(rate * attempts)
    higher = range(passed + 1, attempts + 1)
    if math.isinf(concentration):
        return sum(math.comb(attempts, k) * mean**k * (1 - mean) ** (attempts - k) for k in higher)
    a, b = concentration * mean + passed, concentration * (1 - mean) + attempts - passed
    return sum(math.comb(attempts, k) * math.exp(_log_beta(a + k, b + attempts - k) - _log_beta(a, b)) for k in higher)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
