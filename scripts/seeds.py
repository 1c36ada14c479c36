"""Evolves over many seeds and compares searches at equal budget.

    python scripts/seeds.py --seeds 0 1 2 3 4 5 6 7 8 9 --arms directed random_search shuffled

Each run is ``python -m aegis.evolve`` with the default configuration and one seed; the seed changes
tasks, draws and search together. Generations are then measured on fresh tasks (a benchmark of another
seed), for the share of the gain that each shipped edit brought. Writes ``results/seeds.json`` (every
figure with its seed, commit and versions) and ``results/seeds.csv`` (one row per run).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aegis.evaluator import Evaluator
from aegis.lineage import shipped_edits
from aegis.provenance import versions
from aegis.record import Decision, Summary
from aegis.settings import Settings
from aegis.statistics import hierarchical
from aegis.views.folder import RunFolder
from harnessx.harness import HarnessConfig
from harnessx.runner.pool import Pool, PoolConfig

ARMS = {
    "directed": [],
    "random_search": ["strategy=random_search"],
    "shuffled": ["meta.shuffle=true"],
}
FRESH = 100_000
"""Added to a run's seed for the tasks its generations are measured on afterwards."""


def main() -> None:
    """Run, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["directed"])
    parser.add_argument("--tasks", type=int, default=400, help="fresh tasks per generation")
    parser.add_argument("--work", type=Path, default=Path("results/seeds"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where the tables go")
    parser.add_argument("overrides", nargs="*", help="further settings for aegis.evolve")
    arguments = parser.parse_args()
    rows = []
    for arm in arguments.arms:
        for seed in arguments.seeds:
            folder = arguments.work / f"{arm}-{seed}"
            evolve(folder, seed, [*ARMS[arm], *arguments.overrides])
            rows.append(row(arm, seed, folder, arguments.tasks))
            print(json.dumps({k: v for k, v in rows[-1].items() if k != "shares"}), flush=True)
    write(arguments.out, rows, arguments.work)


def evolve(folder: Path, seed: int, overrides: list[str]) -> None:
    """One run; a finished or interrupted one is resumed, which costs little."""
    command = [sys.executable, "-m", "aegis.evolve", f"seed={seed}", f"run.dir={folder}", "tracking=none"]
    subprocess.run([*command, "run.resume=true", *overrides], check=True, stderr=subprocess.DEVNULL)


def row(arm: str, seed: int, folder: Path, tasks: int) -> dict[str, Any]:
    """The figures of one run."""
    summary = Summary.from_json(json.loads((folder / "summary.json").read_text()))
    sealed = summary.splits["sealed"]
    assert sealed.baseline is not None
    assert sealed.final is not None
    assert sealed.difference is not None
    rates = asyncio.run(lineage_rates(folder, seed, tasks)) if arm == "directed" else []
    steps = [after - before for before, after in itertools.pairwise(rates)]
    gain = rates[-1] - rates[0] if len(rates) > 1 else 0.0
    return {
        "arm": arm,
        "seed": seed,
        "baseline": sealed.baseline.mean,
        "final": sealed.final.mean,
        "gain": sealed.difference.mean,
        "gain_lo": sealed.difference.lo,
        "gain_hi": sealed.difference.hi,
        "rounds": summary.rounds,
        "shipped": len(summary.having(Decision.SHIP)),
        "rejected": len(summary.having(Decision.REJECT)),
        "undecided": len(summary.having(Decision.UNDECIDED)),
        "rollouts": summary.rollouts,
        "tokens": summary.tokens,
        "fresh_gain": gain,
        "largest_share": max((s / gain for s in steps), default=0.0) if gain > 0 else 0.0,
        "shares": steps,
        "buckets": sorted({b.value for c in summary.having(Decision.SHIP) for b in c.bucket}),
    }


async def lineage_rates(folder: Path, seed: int, tasks: int) -> list[float]:
    """The pass rate of each generation, baseline first, on tasks no part of the run has seen."""
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text())
    settings = Settings.of({**config, "run": {"dir": None, "resume": False}})
    pool_config = PoolConfig(
        {**settings.pool.benchmark, "seed": seed + FRESH}, settings.pool.model, seed=seed, persist=False
    )
    pool = Pool(pool_config)
    harnesses = lineage(folder, pool.benchmark.harness())
    async with pool:
        evaluator = Evaluator(pool, {"sealed": pool.benchmark.tasks("sealed", tasks)})
        return [(await evaluator.evaluate(h, "sealed", 1)).mean for h in harnesses]


def lineage(folder: Path, baseline: HarnessConfig) -> list[HarnessConfig]:
    """The incumbents that led to a run's final harness, rebuilt from their edits."""
    run = RunFolder.read(folder)
    assert run.summary is not None
    assert run.summary.digests.final is not None
    edits = shipped_edits(run, baseline, run.summary.digests.final)
    return list(itertools.accumulate(edits, lambda harness, shipped: shipped.edit.apply(harness), initial=baseline))


def events(folder: Path) -> Counter[str]:
    """What happened in a run: no-ops of each stage, the Critic's duties, the gate's findings."""
    found: Counter[str] = Counter()
    for line in (folder / "data/rounds.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["stop"]:
            found[f"no-op: {record['stop'].split(':')[0]}"] += 1
        if record["strategy_concern"]:
            found["critic: concern relayed"] += 1
    for line in (folder / "data/candidates.jsonl").read_text().splitlines():
        record = json.loads(line)
        found[f"{record['check']}: {record['verdict']}"] += 1
    for decision in folder.glob("R*/decision.md"):
        text = decision.read_text()
        found["critic: ranking"] += "* ranking: C-" in text
        found["critic: revised on request"] += " was revised when asked: " in text
    return +found


def write(out: Path, rows: list[dict[str, Any]], work: Path) -> None:
    """The tables, with what produced them."""
    out.mkdir(parents=True, exist_ok=True)
    arms: dict[str, Any] = {}
    for arm in dict.fromkeys(r["arm"] for r in rows):
        of_arm = [r for r in rows if r["arm"] == arm]
        folders = [work / f"{arm}-{r['seed']}" for r in of_arm]
        gains = []
        for folder in folders:
            sealed = json.loads((folder / "data/sealed.json").read_text())
            gains.append({t: [sealed["final"][t] - sealed["baseline"][t]] for t in sealed["final"]})
        interval = hierarchical(gains, 0)
        counted: Counter[str] = sum((events(f) for f in folders), Counter())
        arms[arm] = {
            "gain": {"mean": interval.mean, "lo": interval.lo, "hi": interval.hi, "seeds": len(of_arm)},
            "positive": sum(r["gain_lo"] > 0 for r in of_arm),
            "baseline": [r["baseline"] for r in of_arm],
            "largest_share": max(r["largest_share"] for r in of_arm),
            "buckets": dict(Counter(b for r in of_arm for b in r["buckets"])),
            "rollouts": sum(r["rollouts"] for r in of_arm),
            "events": dict(sorted(counted.items())),
        }
    made = versions()
    report = {"arms": arms, "runs": rows, "versions": {"python": made.python, "packages": dict(made.packages)},
              "commit": made.commit}  # fmt: skip
    (out / "seeds.json").write_text(json.dumps(report, indent=1) + "\n")
    with (out / "seeds.csv").open("w", newline="") as file:
        names = [n for n in rows[0] if n not in ("shares", "buckets")]
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(json.dumps(arms, indent=1))


if __name__ == "__main__":
    main()
