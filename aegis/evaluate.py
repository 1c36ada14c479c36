"""``python -m aegis.evaluate``: score a harness without evolving it; two harnesses: paired."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aegis.start import start

if TYPE_CHECKING:
    from pathlib import Path

    from aegis.evaluator import Evaluation, Meter
    from aegis.routing import System
    from aegis.sealed import Readings
    from aegis.statistics import Interval
    from harnessx.runner.pool import Pool


def evaluate(config: dict[str, Any]) -> float | None:
    """Print the score (and the paired difference, second minus first); returns the last mean.

    A reading of sealed tasks is recorded and counted, and may need ``unseal=true``; see `aegis.sealed`.
    """
    import asyncio

    from aegis.evaluator import SPLITS
    from aegis.settings import no_secrets, one_of, whole
    from aegis.statistics import paired_difference
    from harnessx.errors import UserError

    no_secrets(config)
    names = config["harness"] if isinstance(config["harness"], list) else [config["harness"]]
    if not 1 <= len(names) <= 2:
        raise UserError(f"harness takes one or two harnesses, not {len(names)}")
    whole("attempts", config["attempts"])
    one_of("split", config["split"], SPLITS)
    one_of("json", config["json"], (True, False))
    one_of("unseal", config["unseal"], (True, False))
    if config["limit"] is not None:
        whole("limit", config["limit"])
    evaluations, meter, read = asyncio.run(_measure(config, names))
    hosts = config["sandbox"]["allow_hosts"]
    seed, tasks = config["seed"], len({result.task_id for result in evaluations[0].results})
    rows: dict[str, Interval | None] = {
        f"{index + 1}. {name or 'h0'}": evaluation.interval(seed)
        for index, (name, evaluation) in enumerate(zip(names, evaluations, strict=True))
    }
    difference = None
    if len(evaluations) == 2:
        first, second = (e.outcomes for e in evaluations)
        shared = first.keys() & second.keys()
        before, after = ({t: outcomes[t] for t in shared} for outcomes in (first, second))
        difference = paired_difference(before, after, seed) if shared else None
    if config["json"]:
        named = {name: _plain(i) for name, i in rows.items()}
        print(json.dumps({"benchmark": config["benchmark"]["name"], "split": config["split"], "seed": seed,
                          "tasks": tasks, "attempts": config["attempts"], "scores": named,
                          "difference": _plain(difference), "rollouts": meter.rollouts,
                          "tokens": meter.tokens, "missing": meter.missing,
                          **({"sealed_readings": read.runs + read.evaluations} if read else {}),
                          **({"allow_hosts": hosts} if hosts else {})}))  # fmt: skip
    else:
        _show(config, rows, difference, meter, tasks)
        if read is not None and read.line:
            print(read.line)
    last = list(rows.values())[-1]
    return last.mean if last is not None else None


def _show(
    config: dict[str, Any], rows: dict[str, Interval | None], difference: Interval | None, meter: Meter, tasks: int
) -> None:
    """The scores as a table."""
    from aegis.views import notation

    on = f"{config['benchmark']['name']}, {config['split']} split, seed {config['seed']}: {tasks} tasks"
    print(f"{on}, attempts of each: {config['attempts']}")
    for name, interval in rows.items():
        print(f"{name:40} {notation.percent(interval)} {notation.bounds(interval)}")
    if difference is not None:
        print(f"{'difference (2 - 1), paired':40} {notation.points(difference)} {notation.point_bounds(difference)}")
    missing = f", of which {meter.missing} could not be run and count nowhere" if meter.missing else ""
    print(f"{meter.rollouts} rollouts{missing}, {notation.count(meter.tokens)} tokens")
    if config["sandbox"]["allow_hosts"]:
        print(notation.reachable(config["sandbox"]["allow_hosts"]))
    if config.get("servers"):
        print(notation.served(sorted(config["servers"])))


async def _measure(config: dict[str, Any], names: list[str | None]) -> tuple[list[Evaluation], Meter, Readings | None]:
    from aegis.evaluator import SEALED, Evaluator
    from aegis.gate.permitted import check_permitted
    from aegis.settings import budget, load_system, pool_config
    from harnessx.errors import BudgetSpent, UserError
    from harnessx.runner.pool import Pool
    from harnessx.runner.purse import Purse

    pool, allowed = Pool(pool_config(config)), budget(config["budget"])
    purse = Purse(allowed.caps)
    pool.charge(purse)
    systems = [load_system(name, pool.benchmark, pool.isolation) for name in names]
    for system in systems:
        check_permitted(system, pool)
    split = config["split"]
    limit = config["limit"] if config["limit"] is not None else config["benchmark"]["splits"][split]
    tasks = {split: pool.benchmark.tasks(split, limit)}
    if config["limit"] is not None and len(tasks[split]) < limit:
        raise UserError(f"{split} has {len(tasks[split])} tasks; set limit to at most that")
    read = _recorded(config, pool, dict(zip(names, systems, strict=True)), limit) if split == SEALED else None
    async with pool:
        evaluator = Evaluator(pool, tasks, budget=allowed, purse=purse)
        try:
            evaluations = [await evaluator.evaluate(s, split, config["attempts"]) for s in systems]
        except BudgetSpent as reason:
            raise UserError(
                f"{reason}, and part of the tasks is no score: a larger budget, or a smaller limit or attempts"
            ) from reason
    return evaluations, evaluator.meter, read


def _recorded(config: dict[str, Any], pool: Pool, systems: dict[str | None, System], tasks: int) -> Readings:
    """Record that these ``systems`` are read on ``tasks`` sealed tasks, where they may be; and how often any was."""
    from aegis.sealed import Reading, beside, check_frozen, readings, record

    benchmark = pool.benchmark.digest
    folders = beside(_runs(config), systems)
    h0 = pool.benchmark.harness().digest
    named = {name: system.digest for name, system in systems.items() if name is not None and system.digest != h0}
    unsealed = check_frozen(folders, benchmark, named, unseal=config["unseal"])
    digests = tuple(system.digest for system in systems.values())
    record(folders, Reading(benchmark, pool.config.model.digest, digests, tasks, config["attempts"], unsealed))
    return readings(folders, benchmark)


def _runs(config: dict[str, Any]) -> Path:
    """The folder of the runs that share the sealed tasks."""
    from pathlib import Path

    from harnessx.errors import UserError

    runs = config["runs"]
    if runs is None:
        return Path("results", str(config["benchmark"]["name"]))
    if not isinstance(runs, str) or not runs or Path(runs).is_file():
        raise UserError(f"runs={runs!r} must be the folder that holds the runs, such as results/household")
    return Path(runs)


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {n: getattr(interval, n) for n in ("mean", "lo", "hi", "n")}


if __name__ == "__main__":
    start("evaluate", evaluate)
