"""Estimates with 95 % intervals, and pass@k (STATISTICS rule 11).

The unit of evidence is the task: attempts at one task are not independent draws of tasks. So an
interval over several attempts resamples tasks; `clopper_pearson` and `wilson` are for one attempt per
task (Wilson over rollouts covers 86 % at 2 attempts a task, 72 % at 4).

No interval is made up: where there is nothing to estimate from, every function raises `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

ByTask: TypeAlias = Mapping[str, Sequence[float]]
"""Scores of one harness: task id -> one value in [0, 1] per attempt. Tasks may differ in attempts."""

LEVEL = 0.95
RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval, as fractions; ``n`` is the number of tasks behind it."""

    mean: float
    lo: float
    hi: float
    n: int


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of ``k`` attempts passes, given that ``c`` of ``n`` did.

    The unbiased estimator 1 − C(n−c, k) / C(n, k) of Chen et al., "Evaluating large language models
    trained on code" (2021), eq. 1.

    Raises:
        ValueError: ``k`` > ``n`` (undefined: the estimator needs k attempts), or counts out of range.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} of {n} attempts cannot have passed")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} is undefined with {n} attempts")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def clopper_pearson(passed: int, n: int) -> Interval:
    """Exact binomial interval: covers at least 95 % whatever the rate. One attempt per task.

    Clopper & Pearson (1934): each bound is the rate at which the count seen, or one further out, has
    a chance of 2.5 %.
    """
    _check_counts(passed, n)
    tail = (1 - LEVEL) / 2
    lo = 0.0 if passed == 0 else _bisect(lambda p: _binomial_tail(passed, n, p) - tail)
    hi = 1.0 if passed == n else 1 - _bisect(lambda q: _binomial_tail(n - passed, n, q) - tail)
    return Interval(passed / n, lo, hi, n)


def wilson(passed: int, n: int) -> Interval:
    """Score interval of Wilson (1927): 95 % on average over rates, shorter than the exact one."""
    _check_counts(passed, n)
    z, rate = NormalDist().inv_cdf((1 + LEVEL) / 2), passed / n
    shrink = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / shrink
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half), n)


def bootstrap_mean(values_by_task: ByTask, seed: int) -> Interval:
    """Mean over tasks of each task's mean, with a percentile bootstrap over tasks.

    It has no width where all tasks agree: say so beside it, or use `clopper_pearson`.
    """
    means = _task_means(values_by_task)
    return _percentile(float(means.mean()), _resampled_means(means, seed), len(means))


def paired_difference(a_by_task: ByTask, b_by_task: ByTask, seed: int) -> Interval:
    """Mean over tasks of (b − a), each task its own control; percentile bootstrap over tasks.

    Raises:
        ValueError: the two do not hold the same tasks.
    """
    unpaired = sorted(a_by_task.keys() ^ b_by_task.keys())
    if unpaired:
        raise ValueError(f"{len(unpaired)} tasks are in one arm only, {unpaired[0]!r} for one")
    differences = _task_means(b_by_task) - _task_means(a_by_task)
    return _percentile(float(differences.mean()), _resampled_means(differences, seed), len(differences))


def unpaired_difference(a_by_task: ByTask, b_by_task: ByTask, seed: int) -> Interval:
    """Mean of b − mean of a, over tasks of their own; each side's tasks are drawn anew in the bootstrap."""
    means, rows = [], []
    for side, values in enumerate((a_by_task, b_by_task)):
        tasks = _task_means(values)
        means.append(float(tasks.mean()))
        rows.append(_resampled_means(tasks, 2 * seed + side))
    return _percentile(means[1] - means[0], rows[1] - rows[0], len(a_by_task) + len(b_by_task))


def hierarchical(values_by_seed: Sequence[ByTask], seed: int) -> Interval:
    """Mean over seeds of the mean over tasks; the bootstrap draws seeds, then tasks within each.

    So the spread between seeds counts. With three seeds it is still a little short: the bootstrap
    cannot see a kind of run that never happened.
    """
    import numpy as np

    if not values_by_seed:
        raise ValueError("no seeds to average over")
    runs = [_task_means(values) for values in values_by_seed]
    rng = np.random.default_rng(seed)
    total = np.zeros(RESAMPLES)
    for _ in runs:
        drawn = rng.integers(len(runs), size=RESAMPLES)
        for index, means in enumerate(runs):
            rows = drawn == index
            total[rows] += rng.choice(means, size=(int(rows.sum()), len(means))).mean(axis=1)
    mean = float(np.mean([run.mean() for run in runs]))
    return _percentile(mean, total / len(runs), len(set().union(*values_by_seed)))


def _check_counts(passed: int, n: int) -> None:
    if n < 1 or not 0 <= passed <= n:
        raise ValueError(f"no rate in {passed} of {n}")


def _binomial_tail(count: int, n: int, p: float) -> float:
    """P(X ≥ count) for X ~ Binomial(n, p), 0 < p < 1."""
    log_p, log_q, log_all = math.log(p), math.log1p(-p), math.lgamma(n + 1)
    return math.fsum(
        math.exp(log_all - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(count, n + 1)
    )


def _bisect(rising: Callable[[float], float]) -> float:
    """The root in (0, 1) of a rising function, to within 2⁻⁵⁰."""
    lo, hi = 0.0, 1.0
    for _ in range(50):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if rising(middle) < 0 else (lo, middle)
    return (lo + hi) / 2


def _task_means(values_by_task: ByTask) -> Floats:
    """One mean per task, in the order of task ids: the caller's order must not steer the draws."""
    import numpy as np

    empty = [task for task, values in values_by_task.items() if not len(values)]
    if empty or not values_by_task:
        raise ValueError(f"task {empty[0]!r} has no attempts" if empty else "no tasks to average over")
    return np.array([math.fsum(v) / len(v) for _, v in sorted(values_by_task.items())])


def _resampled_means(values: Floats, seed: int) -> Floats:
    import numpy as np

    rng = np.random.default_rng(seed)
    means: Floats = rng.choice(values, size=(RESAMPLES, len(values))).mean(axis=1)
    return means


def _percentile(mean: float, resampled: Floats, n: int) -> Interval:
    import numpy as np

    lo, hi = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(lo), float(hi), n)
