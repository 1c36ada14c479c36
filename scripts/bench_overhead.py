"""What the framework adds to the time that a model takes: rollouts at once against a server that thinks for a while.

    python scripts/bench_overhead.py --out results/overhead.json

A server on loopback speaks OpenAI's protocol and answers each request after ``--latency`` seconds; a rollout is four
requests long. The ideal schedule gives each of the places the next rollout the moment it is free, and knows no other
time than the server's. ``thin`` is a client of a few lines, so that its row is the framework alone; ``litellm`` is the
client that providers are asked through. Lanes are up, and have imported what they need, before the clock starts; how
long that took is a figure of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOME = ROOT / "tests/harnessx"
sys.path[:0] = [str(HOME)]

from misbehaving import TURNS, Misbehaving, in_turn, misbehaving  # noqa: E402
from runner_world import jobs  # noqa: E402

from aegis.provenance import publish  # noqa: E402
from harnessx.model_config import ModelConfig  # noqa: E402
from harnessx.models.patience import Patience  # noqa: E402
from harnessx.runner.pool import Pool, PoolConfig  # noqa: E402

CALLS = TURNS + 1
"""Of a rollout."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rollouts", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds before an answer")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--clients", nargs="*", default=["thin", "litellm"])
    parser.add_argument("--out", type=Path, help="where the table goes; left out: it is printed")
    given = parser.parse_args()
    os.environ |= {"PYTHONPATH": os.pathsep.join([str(HOME), str(ROOT)]), "OPENAI_API_KEY": "loopback"}
    rows = [asyncio.run(row(client, given)) for client in given.clients]
    table = {"rollouts": given.rollouts, "at_once": given.at_once, "latency_s": given.latency, "lanes": given.lanes}
    publish({**table, "calls_of_a_rollout": CALLS, "cores": os.cpu_count(), "rows": rows}, given.out)


async def row(client: str, given: argparse.Namespace) -> dict[str, Any]:
    """One client: wall time over the ideal schedule, and what else there is to know of it."""
    with misbehaving(in_turn(()), given.latency) as server, tempfile.TemporaryDirectory() as folder:
        rooms = {"_target_": "runner_world.Rooms", "log": f"{folder}/log"}
        patience = Patience(timeout_s=120)
        model = ModelConfig(reference(client, server))
        began = time.monotonic()
        pool = Pool(PoolConfig(rooms, model, lanes=given.lanes, concurrency=given.at_once, patience=patience))
        async with pool:
            await pool.run(jobs(given.at_once, confirming=True))
            warm = time.monotonic() - began - CALLS * given.latency
            server.seen.clear()
            began, load = time.monotonic(), os.getloadavg()[0]
            results = await pool.run(jobs(given.rollouts + given.at_once, confirming=True)[given.at_once :])
            wall = time.monotonic() - began
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert all(arms[0].passed for arms in results)
    assert len(server.seen) == CALLS * given.rollouts
    ideal = math.ceil(given.rollouts / given.at_once) * CALLS * given.latency
    return {
        "client": client,
        "ideal_s": ideal,
        "wall_s": round(wall, 3),
        "added_percent": round(100 * (wall / ideal - 1), 2),
        "startup_s": round(warm, 2),
        "most_at_once": max(request.at_once for request in server.seen),
        "lanes_cpu_s_so_far": round(spent.ru_utime + spent.ru_stime, 1),
        "load_before": round(load, 1),
    }


def reference(client: str, server: Misbehaving) -> dict[str, Any]:
    """The model behind a client."""
    if client == "thin":
        return {"_target_": "misbehaving.Thin", "port": server.server_port}
    return {"_target_": "harnessx.models.litellm.LiteLLM", "model": "openai/local", "api_base": server.base}


if __name__ == "__main__":
    main()
