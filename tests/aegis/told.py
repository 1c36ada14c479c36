"""`aegis.evolve` that notes in the file ``$TOLD`` which rollouts it stores although they are stored."""

from __future__ import annotations

import os
import runpy
import sys

from aegis.store import RunStore

_put = RunStore.put_rollout


def put_rollout(store: RunStore, key: str, body: str, trajectory: str | None = None) -> None:
    """Store it, and tell if that was done before."""
    if store.rollout(key) is not None and (trajectory is None or store.trajectory(key) is not None):
        with open(os.environ["TOLD"], "a") as file:
            file.write(f"{key}\n")
    _put(store, key, body, trajectory)


if __name__ == "__main__":
    RunStore.put_rollout = put_rollout  # type: ignore[method-assign]
    sys.argv[0] = "aegis.evolve"
    runpy.run_module("aegis.evolve", run_name="__main__", alter_sys=True)
