"""What refusals and faults of a provider cost: throughput at random 429s, and what becomes of the rollouts.

    python scripts/faults.py --out results/faults.json

The provider is an HTTP server on loopback that misbehaves on a seeded schedule (``tests/harnessx/misbehaving.py``).
What it grants is measured first: a client that holds 16 requests open and repeats a refused one at once. Then
rollouts run against it through a pool, 16 at a time, each four calls long.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOME = ROOT / "tests/harnessx"
sys.path[:0] = [str(HOME)]

from misbehaving import FAULTS, OK, Misbehaving, Thin, at_random, misbehaving  # noqa: E402
from runner_world import jobs  # noqa: E402

from aegis.provenance import publish  # noqa: E402
from harnessx.errors import ModelFailure  # noqa: E402
from harnessx.messages import Conversation, Message, ModelRequest  # noqa: E402
from harnessx.model_config import ModelConfig  # noqa: E402
from harnessx.models.base import CallContext  # noqa: E402
from harnessx.models.patience import Patience  # noqa: E402
from harnessx.runner.pool import Pool, PoolConfig  # noqa: E402

AT_ONCE = 16
ASK = ModelRequest("Speak.", Conversation([Message("user", "Say a word.")]))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rollouts", type=int, default=160)
    parser.add_argument("--share", type=float, default=0.3, help="of requests that are refused or spoilt")
    parser.add_argument("--latency", type=float, nargs="*", default=[0.5, 1.0], help="seconds before an answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the table goes; left out: it is printed")
    given = parser.parse_args()
    os.environ |= {"PYTHONPATH": os.pathsep.join([str(HOME), str(ROOT)]), "OPENAI_API_KEY": "loopback"}
    rows = [
        row(kinds, client, latency, given)
        for latency in given.latency
        for client in ("thin", "litellm")
        for kinds in (("429",), ("429 after",), FAULTS)
    ]
    table = {"at_once": AT_ONCE, "share": given.share, "seed": given.seed, "rows": rows}
    publish(table, given.out)


def row(kinds: Sequence[str], client: str, latency: float, given: argparse.Namespace) -> dict[str, Any]:
    """One kind of trouble met by one client."""
    schedule = at_random(given.share, kinds, given.seed)
    with misbehaving(schedule, latency) as server:
        granted = asyncio.run(greedy(server, given.rollouts * 2)) if kinds != FAULTS else None
    with misbehaving(schedule, latency) as server:
        outcomes = asyncio.run(rollouts(server, client, given.rollouts))
        answered = rate(server)
    found = {
        "faults": list(kinds),
        "client": client,
        "latency_s": latency,
        "granted_per_s": granted and round(granted, 2),
        "answered_per_s": round(answered, 2),
        "share_of_granted": granted and round(answered / granted, 3),
        "requests": len(server.seen),
        "spoilt": sum(request.kind != OK for request in server.seen),
        "outcomes": dict(outcomes),
    }
    print(found, flush=True)
    return found


def rate(server: Misbehaving) -> float:
    """Answers a second, from the first request to the last."""
    return server.count(OK) / (server.seen[-1].at + server.latency - server.seen[0].at)


async def greedy(server: Misbehaving, answers: int) -> float:
    """What the provider grants who asks as much as may be open, whatever it says."""
    model, left = Thin(server.server_port), list(range(answers))

    async def ask() -> None:
        while left:
            left.pop()
            while True:
                try:
                    await model.complete(ASK, CallContext())
                    break
                except ModelFailure:
                    continue

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return rate(server)


async def rollouts(server: Misbehaving, client: str, count: int) -> Counter[str]:
    """Outcomes of ``count`` rollouts."""
    model: dict[str, Any] = {"_target_": "misbehaving.Thin", "port": server.server_port}
    if client == "litellm":
        model = {"_target_": "harnessx.models.litellm.LiteLLM", "model": "openai/local", "api_base": server.base}
    with tempfile.TemporaryDirectory() as folder:
        rooms = {"_target_": "runner_world.Rooms", "log": f"{folder}/log"}
        config = PoolConfig(rooms, ModelConfig(model), lanes=2, concurrency=AT_ONCE, patience=Patience(timeout_s=2.5))
        async with Pool(config) as pool:
            await pool.run(jobs(2, confirming=True))  # lanes are up, and have imported what they need
            await asyncio.sleep(1)
            server.seen.clear()
            results = await pool.run(jobs(count + 2, confirming=True)[2:])
    return Counter(arms[0].outcome.value for arms in results)


if __name__ == "__main__":
    main()
