"""``python -m aegis.evaluate``: score a harness without evolving it; two harnesses: paired."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aegis.start import start

if TYPE_CHECKING:
    from aegis.evaluator import Evaluation, Meter
    from aegis.statistics import Interval


def evaluate(config: dict[str, Any]) -> float | None:
    """Print the score (and the paired difference, second minus first); returns the last mean."""
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
    if config["limit"] is not None:
        whole("limit", config["limit"])
    evaluations, meter = asyncio.run(_measure(config, names))
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
                          **({"allow_hosts": hosts} if hosts else {})}))  # fmt: skip
    else:
        _show(config, rows, difference, meter, tasks)
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


async def _measure(config: dict[str, Any], names: list[str | None]) -> tuple[list[Evaluation], Meter]:
    from aegis.evaluator import Evaluator
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
    async with pool:
        evaluator = Evaluator(pool, tasks, budget=allowed, purse=purse)
        try:
            evaluations = [await evaluator.evaluate(s, split, config["attempts"]) for s in systems]
        except BudgetSpent as reason:
            raise UserError(
                f"{reason}, and part of the tasks is no score: a larger budget, or a smaller limit or attempts"
            ) from reason
    return evaluations, evaluator.meter


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {n: getattr(interval, n) for n in ("mean", "lo", "hi", "n")}


if __name__ == "__main__":
    start("evaluate", evaluate)
