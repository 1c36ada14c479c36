"""Do levers conflict? The effect of each on every cluster of `household`, alone on H_0, paired.

    python scripts/cluster_effects.py --tasks 360 --seed 777

Tasks are grouped in two ways: by what they ask for, which a router can read, and by whether all they ask for lies
behind closed doors, which nobody can read off a task. A lever conflicts if it surely helps one group and surely harms
another: |wins − losses| / √(wins + losses) of 1.96 or more on each, which happens to some groups by chance. Where no
lever conflicts by what is asked for, a pool of variants has nothing to keep apart, and ends where one harness does
(`scripts/conflict.py`). Writes ``results/cluster_effects.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog_effects import collect

from aegis.evaluator import EVOLVE, SEALED, Evaluation, Evaluator
from aegis.provenance import publish
from benchmarks.household.generate import scenario
from benchmarks.household.rooms import OPENABLE, kind
from harnessx.model_config import ModelConfig
from harnessx.runner.pool import Pool, PoolConfig
from harnessx.tasks import Task

SURE = 1.96


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=360)
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--out", type=Path, default=Path("results/cluster_effects.json"))
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.tasks, arguments.seed))
    report = {**found, "tasks": arguments.tasks, "seed": arguments.seed}
    publish(report, arguments.out)
    for grouping, count in report["conflicting"].items():
        print(f"{count} of {len(report['levers'])} levers conflict by {grouping}")


async def measure(tasks: int, seed: int) -> dict[str, Any]:
    """The rates of H_0 by cluster, and the first variant of every lever."""
    benchmark = {"_target_": "benchmarks.household.Household", "seed": seed}
    model = ModelConfig(main={"_target_": "benchmarks.bounded.Bounded"})
    pool = Pool(PoolConfig(benchmark, model, seed=seed, persist=False))
    h0, sealed = pool.benchmark.harness(), pool.benchmark.tasks(SEALED, tasks)
    groupings = {
        "goal": {task.id: task.cluster for task in sealed},
        "place": {task.id: "behind doors" if _hidden(seed, task) else "in sight" for task in sealed},
    }
    async with pool:
        evaluator = Evaluator(pool, {SEALED: sealed, EVOLVE: pool.benchmark.tasks(EVOLVE, 60)})
        before = await evaluator.evaluate(h0, SEALED, 1)
        first = {lever: (bucket, variant) for lever, bucket, variant in reversed(await collect(evaluator, h0))}
        levers = []
        for bucket, variant in first.values():
            after = await evaluator.evaluate(variant.edit.apply(h0), SEALED, 1)
            found = {name: effects(before, after, groups) for name, groups in groupings.items()}
            levers.append({"variant": variant.title, "bucket": bucket, "effects": found})
    return {
        "rates": {name: rates(before, groups) for name, groups in groupings.items()},
        "levers": levers,
        "conflicting": {
            name: sum({1, -1} <= {sign(e) for e in lever["effects"][name].values()} for lever in levers)
            for name in groupings
        },
    }


def _hidden(seed: int, task: Task) -> bool:
    split, index = task.id.split("-")
    game = scenario(seed, split, int(index))
    return all(kind(p) in OPENABLE for p, things in game.contents.items() if game.goal.object in map(kind, things))


def rates(evaluation: Evaluation, clusters: Mapping[str, str]) -> dict[str, float]:
    """The pass rate by cluster."""
    by_cluster: defaultdict[str, list[float]] = defaultdict(list)
    for task, rate in evaluation.rates.items():
        by_cluster[clusters[task]].append(rate)
    return {cluster: sum(values) / len(values) for cluster, values in sorted(by_cluster.items())}


def effects(before: Evaluation, after: Evaluation, clusters: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """By cluster: tasks, and how many only ``after`` passed (wins) or only ``before`` (losses)."""
    found: dict[str, dict[str, int]] = {c: {"tasks": 0, "wins": 0, "losses": 0} for c in sorted(set(clusters.values()))}
    a, b = before.rates, after.rates
    for task in a.keys() & b.keys():
        counts = found[clusters[task]]
        counts["tasks"] += 1
        counts["wins"] += b[task] > a[task]
        counts["losses"] += b[task] < a[task]
    return found


def sign(counts: Mapping[str, int]) -> int:
    """1 where the wins are surely more than the losses, −1 where fewer, 0 where neither is sure."""
    net, all_of_them = counts["wins"] - counts["losses"], counts["wins"] + counts["losses"]
    return 0 if abs(net) < SURE * math.sqrt(all_of_them) or not net else 1 if net > 0 else -1


if __name__ == "__main__":
    main()
