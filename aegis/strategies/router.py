"""What the evolve attempts say of each variant on each cluster: all that routes are fitted on (STATISTICS rule 13).

Everything here is a proposal. A rate of ten attempts that looked best of four flatters itself; what is adopted is
decided on fresh validation attempts (`aegis.gate.routes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aegis.evaluator import Evaluation
from aegis.routing import RoutedPool
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


@dataclass(slots=True)
class Fit:
    """Pass rates of harnesses on the evolve tasks, and the routes that follow from them."""

    clusters: Mapping[str, tuple[str, ...]]
    """Cluster -> its evolve tasks."""
    rates: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """Harness digest -> task -> pass rate."""

    @classmethod
    def over(cls, tasks: Sequence[Task]) -> Fit:
        """Nothing measured yet on these evolve tasks."""
        clusters: dict[str, tuple[str, ...]] = {}
        for task in tasks:
            clusters[task.cluster] = (*clusters.get(task.cluster, ()), task.id)
        return cls(dict(sorted(clusters.items())))

    def add(self, evaluation: Evaluation) -> None:
        """A harness on every evolve task."""
        self.rates[evaluation.harness] = evaluation.rates

    def knows(self, harness: HarnessConfig) -> bool:
        """Whether it was measured."""
        return harness.digest in self.rates

    def solved(self, harness: HarnessConfig, cluster: str) -> float:
        """Tasks of ``cluster`` solved, each counted by its rate; one without a result counts as unsolved."""
        rates = self.rates[harness.digest]
        return sum(rates.get(task, 0.0) for task in self.clusters[cluster])

    def overall(self, harness: HarnessConfig) -> float:
        """The same over all clusters."""
        return sum(self.solved(harness, cluster) for cluster in self.clusters)

    def failing(self, pool: RoutedPool, index: int) -> float:
        """Unsolved tasks among those routed to a variant."""
        variant, routed = pool.variants[index], pool.clusters(index)
        return sum(len(self.clusters[c]) - self.solved(variant, c) for c in routed)

    def helped(self, pool: RoutedPool, fork: HarnessConfig) -> dict[str, float]:
        """The clusters on which ``fork`` solves a task or more beyond who serves them now: how many, the most first."""
        gains = {c: self.solved(fork, c) - self.solved(pool.variants[pool.routes[c]], c) for c in self.clusters}
        return {c: gains[c] for c in sorted(gains, key=lambda c: (-gains[c], c)) if gains[c] >= 1}

    def gain(self, before: RoutedPool, after: RoutedPool) -> float:
        """The difference of the two pools' mean rates over the evolve tasks."""
        return (self._served(after) - self._served(before)) / sum(map(len, self.clusters.values()))

    def fitted(self, pool: RoutedPool) -> RoutedPool:
        """Each cluster to the variant that solves most of it; ties leave it where it is."""
        return replace(pool, routes={c: self._best(pool, c, range(len(pool.variants))) for c in self.clusters})

    def settled(self, pool: RoutedPool) -> RoutedPool:
        """Clusters without a route to the variant with the best overall rate (paper §3, deployment)."""
        places = range(len(pool.variants))
        return replace(pool, default=max(places, key=lambda i: (self.overall(pool.variants[i]), i == pool.default)))

    def retired(self, pool: RoutedPool, keep: int) -> RoutedPool:
        """The pool without its weakest variant (never ``keep``): the one whose clusters lose least elsewhere."""
        options = [self._retiring(pool, index) for index in range(len(pool.variants)) if index != keep]
        return max(options, key=self._served)

    def _retiring(self, pool: RoutedPool, index: int) -> RoutedPool:
        others = [i for i in range(len(pool.variants)) if i != index]
        routes = {c: self._best(pool, c, others) if pool.routes[c] == index else pool.routes[c] for c in pool.routes}
        default = max(others, key=lambda i: (self.overall(pool.variants[i]), i == pool.default))
        return RoutedPool(pool.variants, routes, default).without(index)

    def _best(self, pool: RoutedPool, cluster: str, places: Sequence[int]) -> int:
        return max(places, key=lambda i: (self.solved(pool.variants[i], cluster), i == pool.routes[cluster], -i))

    def _served(self, pool: RoutedPool) -> float:
        return sum(self.solved(pool.variants[index], cluster) for cluster, index in pool.routes.items())
