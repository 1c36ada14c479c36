"""Measures what every catalog entry is truly worth, alone and greedily together.

    python scripts/catalog_effects.py --tasks 400 --seed 900
    python scripts/catalog_effects.py --levers modern --tasks 200 --seed 900

Each variant is applied to H_0 and compared with it, paired, on sealed tasks of a benchmark seed that no
run uses. The greedy ceiling adds, one by one, the variant that helps most, until none helps. Writes
``results/catalog_effects.csv`` and ``results/catalog_ceiling.json``; of ``--levers modern``, those that only
``meta.levers=all`` searches, ``results/modern_effects.csv`` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aegis.evaluator import EVOLVE, SEALED, Evaluation, Evaluator
from aegis.history import History
from aegis.meta.catalog import modern
from aegis.meta.catalog.catalog import LEVERS, Catalog
from aegis.meta.catalog.lever import Lever, Scene, Variant
from aegis.provenance import versions
from aegis.stages.digester import digest
from aegis.statistics import Interval, paired_difference
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.runner.pool import Pool, PoolConfig


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--levers", choices=("usual", "modern"), default="usual")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.tasks, arguments.seed, arguments.out, arguments.levers))


async def measure(tasks: int, seed: int, out: Path, which: str) -> None:
    """All variants on H_0, then greedily."""
    levers = LEVERS if which == "usual" else modern.LEVERS
    pool = Pool(
        PoolConfig(
            {"_target_": "benchmarks.household.Household", "seed": seed},
            ModelConfig(main={"_target_": "benchmarks.bounded.Bounded"}),
            seed=seed,
            persist=False,
        )
    )
    h0 = pool.benchmark.harness()
    splits = {SEALED: pool.benchmark.tasks(SEALED, tasks), EVOLVE: pool.benchmark.tasks(EVOLVE, 100)}
    async with pool:
        evaluator = Evaluator(pool, splits)
        baseline = await evaluator.evaluate(h0, SEALED, 1)
        variants = await collect(evaluator, h0, levers)
        rows = []
        for lever, bucket, variant in variants:
            harness = variant.edit.apply(h0)
            effect = difference(baseline, await evaluator.evaluate(harness, SEALED, 1), seed)
            measured = {"baseline": baseline.mean, "effect": effect.mean, "lo": effect.lo, "hi": effect.hi}
            rows.append({"lever": lever, "bucket": bucket, "variant": variant.title, **measured, "tasks": effect.n})
            points = " ".join(f"{100 * value:+6.1f}" for value in (effect.mean, effect.lo, effect.hi))
            print(f"{points}  {bucket:9} {variant.title}", flush=True)
        rows.sort(key=lambda r: -float(str(r["effect"])))
        if which == "modern":
            write(rows, out / "modern_effects.csv")
            return
        ceiling = await greedy(evaluator, h0, [v for _, _, v in variants], rows)
    made = versions()
    write(rows, out / "catalog_effects.csv")
    report = {"baseline": baseline.mean, **ceiling, "tasks": tasks, "seed": seed, "commit": made.commit,
              "python": made.python}  # fmt: skip
    (out / "catalog_ceiling.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """A row for each variant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


async def collect(
    evaluator: Evaluator, h0: HarnessConfig, levers: Sequence[Lever] = LEVERS
) -> list[tuple[str, str, Variant]]:
    """Every variant of every lever on H_0, aimed at all of its failures."""
    _, trajectories = await evaluator.record(h0, 1)
    clusters = {t.id: t.cluster for t in evaluator.tasks[EVOLVE]}
    digested = await digest(trajectories, clusters, h0, History(), Catalog())
    scene = Scene(h0, digested.failing, trajectories)
    return [(lever.name, lever.bucket.value, v) for lever in levers for v in lever.variants(scene)]


async def greedy(
    evaluator: Evaluator, h0: HarnessConfig, variants: list[Variant], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Add variants in the order of their own effect, keeping each that raises the rate."""
    order = [row["variant"] for row in rows if row["effect"] > 0]
    harness, best, kept = h0, (await evaluator.evaluate(h0, SEALED, 1)).mean, []
    for title in order:
        variant = next(v for v in variants if v.title == title)
        try:
            trial = variant.edit.apply(harness)
        except HarnessInvalid:
            continue
        mean = (await evaluator.evaluate(trial, SEALED, 1)).mean
        if mean > best:
            harness, best = trial, mean
            kept.append({"variant": title, "rate": mean})
    return {"ceiling": best, "kept": kept}


def difference(before: Evaluation, after: Evaluation, seed: int) -> Interval:
    """After minus before, paired by task."""
    a, b = before.outcomes, after.outcomes
    shared = a.keys() & b.keys()
    return paired_difference({t: a[t] for t in shared}, {t: b[t] for t in shared}, seed)


if __name__ == "__main__":
    main()
