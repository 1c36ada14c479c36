"""The mechanical player on the real ALFWorld games: does what was evolved on `household` carry over?

    ALFWORLD_DATA=… python scripts/alfworld.py --best results/household/RUN/best

Measures H_0 and the given harness on the sealed games, paired by game, and compares how H_0 fails in
the two worlds, by failure category. Writes ``results/alfworld.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from aegis.evaluator import EVOLVE, SEALED, Evaluator
from aegis.provenance import versions
from aegis.stages.symptoms import observe
from aegis.statistics import paired_difference
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.runner.pool import Pool, PoolConfig

WORLDS = {"household": "benchmarks.household.Household", "alfworld": "benchmarks.alfworld.AlfWorld"}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--best", type=Path, required=True, help="a bundle evolved on household")
    parser.add_argument("--games", type=int, default=140)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    report = asyncio.run(measure(arguments.best, arguments.games, arguments.seed))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "alfworld.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


async def measure(best: Path, games: int, seed: int) -> dict[str, Any]:
    """Transfer on the sealed games, and failure categories in both worlds."""
    evolved = HarnessConfig.load(best)
    made = versions()
    report: dict[str, Any] = {"harness": evolved.digest, "seed": seed, "commit": made.commit,
                              "versions": {"python": made.python, **made.packages}}  # fmt: skip
    categories = {}
    for name, target in WORLDS.items():
        model = ModelConfig(main={"_target_": "benchmarks.bounded.Bounded"})
        pool = Pool(PoolConfig({"_target_": target, "seed": seed}, model, seed=seed, persist=False))
        h0 = pool.benchmark.harness()
        async with pool:
            tasks = {EVOLVE: pool.benchmark.tasks(EVOLVE, 100), SEALED: pool.benchmark.tasks(SEALED, games)}
            evaluator = Evaluator(pool, tasks)
            baseline, trajectories = await evaluator.record(h0, 1)
            failed = [t for t in trajectories if not t.passed]
            found = Counter(observe(t)[0].symptom.value for t in failed)
            shares = {category: count / len(failed) for category, count in sorted(found.items())}
            categories[name] = {"tasks": len(trajectories), "passed": baseline.mean, "share_of_failures": shares}
            if name == "alfworld":
                before = await evaluator.evaluate(h0, SEALED, 1)
                after = await evaluator.evaluate(evolved, SEALED, 1)
                gain = paired_difference(before.outcomes, after.outcomes, seed)
                report["transfer"] = {"h0": before.mean, "evolved": after.mean, "difference": gain.mean,
                                      "lo": gain.lo, "hi": gain.hi, "games": gain.n}  # fmt: skip
    return {**report, "failures": categories}


if __name__ == "__main__":
    main()
