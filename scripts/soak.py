"""Does a long run stay flat? Memory, file handles and the price of store operations, as rollouts add up.

    python scripts/soak.py --rollouts 20000 --out results/soak.json

Rollouts of H_0 on ``household`` with the offline player, each a fresh attempt that is stored as a confirming
one is; one in ``--own`` brings code of its own, which runs in a worker. Host and lanes are looked at every
``--every`` rollouts; growth counts from ``--settled`` on.
Store operations are timed on stores of 1,000, 10,000 and 100,000 rollouts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aegis.provenance import publish
from aegis.store import RunStore
from harnessx.algebra import set_asset
from harnessx.hooks import Hook
from harnessx.model_config import ModelConfig
from harnessx.runner.cassette import Entry
from harnessx.runner.jobs import Job
from harnessx.runner.pool import Pool, PoolConfig
from harnessx.spec import Spec

SIZES = (1_000, 10_000, 100_000)
TIMED = 500
CODE = """\
from dataclasses import dataclass

from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        yield event
"""
HELD = ("host_mb", "host_handles", "lanes_mb", "lanes_handles")


@dataclass(frozen=True, slots=True)
class Sample:
    """What host and lanes hold after so many rollouts."""

    rollouts: int
    host_mb: float
    host_handles: int
    lanes_mb: float
    lanes_handles: int
    seconds: float


def main() -> None:
    """Soak, time the store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rollouts", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--settled", type=int, default=2_000)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--own", type=int, default=20, help="one rollout in so many brings code of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the table goes; left out: it is printed")
    arguments = parser.parse_args()
    given = (arguments.rollouts, arguments.every, arguments.tasks, arguments.seed, arguments.own)
    samples = asyncio.run(soak(*given))
    since = next(sample for sample in samples if sample.rollouts >= min(arguments.settled, samples[-1].rollouts))
    table = {
        "rollouts": arguments.rollouts,
        "tasks": arguments.tasks,
        "own_code_share": 1 / arguments.own,
        "seed": arguments.seed,
        "settled": since.rollouts,
        "growth": {name: _growth(samples, since, name) for name in HELD},
        "samples": [asdict(sample) for sample in samples],
        "store_us": {str(size): asdict(store_prices(size)) for size in SIZES},
    }
    publish(table, arguments.out)


def _growth(samples: list[Sample], since: Sample, name: str) -> float:
    """The most that was ever held after ``since``, as a share above what was held then."""
    then = float(getattr(since, name))
    return round(max(getattr(s, name) for s in samples if s.rollouts >= since.rollouts) / then - 1, 4)


async def soak(rollouts: int, every: int, tasks: int, seed: int, share: int) -> list[Sample]:
    """Run, and look every so often."""
    pool = Pool(
        PoolConfig(
            {"_target_": "benchmarks.household.Household", "seed": seed},
            ModelConfig(main={"_target_": "benchmarks.bounded.Bounded"}),
            seed=seed,
            lanes=2,
        )
    )
    harness = pool.benchmark.harness()
    own = set_asset(harness, "assets/x.py", CODE).insert(Hook.BEFORE_MODEL, Spec("assets/x.py:X"))
    drawn = pool.benchmark.tasks("validation", tasks)
    samples: list[Sample] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, RunStore.open(Path(folder), {}, resume=False) as store:
        pool.attach(store)
        async with pool:
            for start in range(0, rollouts, every):
                numbers = range(start, min(start + every, rollouts))
                arms = [(harness if n % share else own,) for n in numbers]
                jobs = [
                    Job("validation", drawn[n % len(drawn)], 1_000 + n, arm, confirming=True)
                    for n, arm in zip(numbers, arms, strict=True)
                ]
                results = await pool.run(jobs)
                assert all(len(arms) == 1 and not arms[0].missing for arms in results)
                samples.append(look(start + len(jobs), time.monotonic() - began))
                print(samples[-1], flush=True)
    return samples


def look(rollouts: int, seconds: float) -> Sample:
    """What this process and the lanes below it hold."""
    lanes = _children(os.getpid())
    return Sample(
        rollouts,
        _megabytes(os.getpid()),
        _handles(os.getpid()),
        sum(map(_megabytes, lanes)),
        sum(map(_handles, lanes)),
        round(seconds, 1),
    )


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in listed for child in file.read_text().split()]


def _megabytes(pid: int) -> float:
    """Resident memory that is the process's own."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("RssAnon")]
    return round(int(line.split()[1]) / 1024, 2)


def _handles(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@dataclass(frozen=True, slots=True)
class Prices:
    """Microseconds of CPU time per store operation, the median of many."""

    put_rollout: float
    get_rollout: float
    miss_rollout: float
    put_recording: float
    get_recordings: float
    put_memo: float


def store_prices(size: int) -> Prices:
    """Prices in a store that holds ``size`` rollouts, each with recordings and a memo beside it."""
    body, rng = json.dumps({"answer": "x" * 600}), random.Random(size)
    with tempfile.TemporaryDirectory() as folder, RunStore.open(Path(folder), {}, resume=False) as store:
        with store._db:
            store._db.executemany("INSERT INTO rollout VALUES (?, ?, NULL)", ((_key(n), body) for n in range(size)))
            rows = ((f"s/{n}", f"k{k}", "o", body) for n in range(size) for k in range(2))
            store._db.executemany("INSERT INTO recording VALUES (?, ?, ?, ?)", rows)
            store._db.executemany("INSERT INTO memo VALUES (?, ?)", ((_key(n), body) for n in range(size)))
        return Prices(
            _price(lambda n: store.put_rollout(_key(size + n), body)),
            _price(lambda n: store.rollout(_key(rng.randrange(size)))),
            _price(lambda n: store.rollout(_key(-1 - n))),
            _price(lambda n: store.put_recordings({f"s/{size + n}": [Entry("k", "o", body)]})),
            _price(lambda n: store.recordings(f"s/{rng.randrange(size)}")),
            _price(lambda n: store.put_memo(_key(size + n), body)),
        )


def _key(number: int) -> str:
    """Keys arrive in no order, as digests do."""
    return f"{random.Random(number).getrandbits(128):032x}"


def _price(operation: Callable[[int], Any]) -> float:
    spent = []
    for number in range(TIMED):
        began = time.process_time_ns()
        operation(number)
        spent.append((time.process_time_ns() - began) / 1_000)
    return round(statistics.median(spent), 1)


if __name__ == "__main__":
    main()
