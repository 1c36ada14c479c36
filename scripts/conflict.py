"""Strategies on `household` by their true rates: what each peaks at, what it is left with, what it pays (paper §5).

    python scripts/conflict.py --seeds 60 61 62 63 64 65

Each arm is ``python -m aegis.evolve`` with the same proposer, seeds, rounds and candidates a round; finished runs
are not run again. Everything that a run deployed is then measured on fresh tasks, of a benchmark of another seed:
a first set of them says which round was the peak, a second one, on which nothing was chosen, measures start, peak
and end. So a peak is no best of noisy measurements, and a fall none of a lucky start. Writes ``results/conflict.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aegis.evaluator import SEALED, VALIDATION, Evaluator
from aegis.lineage import deployed
from aegis.provenance import publish
from aegis.record import Decision
from aegis.routing import RoutedPool, System
from aegis.settings import Settings
from aegis.statistics import hierarchical
from aegis.views.folder import RunFolder
from harnessx.runner.pool import Pool, PoolConfig

ARMS = {
    "global_, seesaw": ("strategy=global_", "gate=seesaw", "gate.drift_pairs=0"),
    "ensemble, seesaw": ("strategy=ensemble", "gate=seesaw", "gate.drift_pairs=0"),
    "global_, paired": ("strategy=global_", "gate=paired"),
    "ensemble, paired": ("strategy=ensemble", "gate=paired"),
}
"""The rules of the paper as they are, without this project's watch for drift; and the default gate."""
FRESH = 100_000
"""Added to a run's seed for the tasks that it is measured on afterwards."""
Rates = Mapping[str, Sequence[float]]


def main() -> None:
    """Run, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[60, 61, 62, 63, 64, 65])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--choose", type=int, default=200, help="fresh tasks that say which round was the peak")
    parser.add_argument("--tasks", type=int, default=500, help="further fresh tasks that measure it")
    parser.add_argument("--work", type=Path, default=Path("results/conflict"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=Path("results/conflict.json"))
    parser.add_argument("overrides", nargs="*", help="further settings for aegis.evolve")
    arguments = parser.parse_args()
    settings = _settings(arguments.rounds, arguments.overrides)
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arguments.arms}
    for seed in arguments.seeds:
        folders = {arm: arguments.work / f"{arm.replace(', ', '-')}-{seed}" for arm in arguments.arms}
        for arm, folder in folders.items():
            evolve(folder, seed, [*settings, *ARMS[arm]])
        measured = asyncio.run(measure(list(folders.values()), seed, arguments.choose, arguments.tasks))
        for arm, folder, rates in zip(folders, folders.values(), measured, strict=True):
            found[arm].append({"seed": seed, **rates, **spent(RunFolder.read(folder))})
            print(arm, json.dumps(_brief(found[arm][-1])), flush=True)
        tasks = {"choose": arguments.choose, "measure": arguments.tasks}
        report = {"settings": settings, "tasks": tasks, **table(found)}
        publish(report, arguments.out)


def table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The arms over the seeds so far, and each run in short."""
    return {
        "seeds": [run["seed"] for run in next(iter(found.values()))],
        "rows": [row(arm, runs) for arm, runs in found.items()],
        "differences": differences(found),
        "runs": {arm: [_brief(run) for run in runs] for arm, runs in found.items()},
    }


def _settings(rounds: int, overrides: Sequence[str]) -> list[str]:
    """Decisions and pairs grow with the rounds; nobody stops early, so that all had the same number of tries."""
    scaled = [f"gate.decisions={4 * rounds}", f"gate.run_cap={670 * rounds}"]
    return [f"rounds={rounds}", f"patience={rounds}", *scaled, "benchmark.splits.sealed=60", *overrides]


def evolve(folder: Path, seed: int, overrides: Sequence[str]) -> None:
    """One run; a finished or interrupted one is resumed, which costs little."""
    command = [sys.executable, "-m", "aegis.evolve", f"seed={seed}", f"run.dir={folder}", "tracking=none"]
    if not (folder / "summary.json").exists():
        subprocess.run([*command, "run.resume=true", *overrides], check=True, stderr=subprocess.DEVNULL)


async def measure(folders: Sequence[Path], seed: int, choose: int, tasks: int) -> list[dict[str, Any]]:
    """Of each run: rates by fresh task of its ``start``, ``peak`` and ``final``; the round whose end was the peak."""
    pool = Pool(_fresh(folders[0], seed))
    lines = [deployed(RunFolder.read(folder), pool.benchmark.harness()) for folder in folders]
    fresh = pool.benchmark.tasks(SEALED, tasks)
    known: dict[tuple[str, str], Rates] = {}

    async def rates(system: System, split: str) -> Rates:
        if (system.digest, split) not in known:
            known[system.digest, split] = (await evaluator.evaluate(system, split, 1)).outcomes
        return known[system.digest, split]

    async with pool:
        evaluator = Evaluator(pool, {VALIDATION: pool.benchmark.tasks(VALIDATION, choose), SEALED: fresh})
        found = []
        for line in lines:
            seen = [_mean(await rates(system, VALIDATION)) for system in line]
            best = len(seen) - 1 - seen[::-1].index(max(seen))  # the latest of equals: an unchanged harness fell by 0
            parts = {"start": line[0], "peak": line[best], "final": line[-1]}
            measured = {name: await rates(system, SEALED) for name, system in parts.items()}
            found.append({**measured, "peak_round": best, "by_round": seen, "variants": _variants(line[-1])})
    return found


def _fresh(folder: Path, seed: int) -> PoolConfig:
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text())
    pool = Settings.of({**config, "run": {"dir": None, "resume": False}}).pool
    return PoolConfig({**pool.benchmark, "seed": seed + FRESH}, pool.model, seed=seed, persist=False)


def _variants(system: System) -> int:
    return len(set(system.routes.values())) if isinstance(system, RoutedPool) else 1


def _mean(rates: Rates) -> float:
    return sum(sum(values) / len(values) for values in rates.values()) / len(rates)


def spent(run: RunFolder) -> dict[str, Any]:
    """What a run shipped, and what its rounds cost: calibration and gate included, the final evaluation not."""
    assert run.summary is not None
    return {
        "ships": len(run.summary.having(Decision.SHIP)),
        "forks": sum(c.check == "fork" and c.verdict is Decision.SHIP for c in run.candidates),
        "rollouts": sum(point.rollouts for point in run.curves.rounds),
        "tokens": sum(point.tokens for point in run.curves.rounds),
    }


def row(arm: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One arm over its seeds; ``fall`` is peak − final on the same tasks."""
    rates = {name: _interval([run[name] for run in runs]) for name in ("start", "peak", "final")}
    fall = _interval([_minus(run["peak"], run["final"]) for run in runs])
    counts = ("ships", "forks", "rollouts", "tokens", "variants", "peak_round")
    return {"rule": arm, **rates, "fall": fall, **{name: _average(run[name] for run in runs) for name in counts}}


def differences(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Final rates of every two arms, first − second, paired by seed and task."""
    return {
        f"{a} - {b}": _interval([_minus(x["final"], y["final"]) for x, y in zip(found[a], found[b], strict=True)])
        for a, b in itertools.combinations(found, 2)
    }


def _minus(first: Rates, second: Rates) -> Rates:
    return {t: [sum(first[t]) / len(first[t]) - sum(second[t]) / len(second[t])] for t in first if t in second}


def _interval(by_seed: Sequence[Rates]) -> dict[str, Any]:
    return asdict(hierarchical(by_seed, 0))


def _average(values: Iterable[float]) -> float:
    counted = list(values)
    return sum(counted) / len(counted)


def _brief(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _mean(value) if name in ("start", "peak", "final") else value for name, value in run.items()}


if __name__ == "__main__":
    main()
