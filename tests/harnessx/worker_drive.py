"""Harnesses with code of their own, hostile ones too, and one way to run them in real workers."""

from __future__ import annotations

from textwrap import dedent, indent

from loop_drive import ECHO, Accept, World, harness

from harnessx.harness import HarnessConfig
from harnessx.hooks import Hook
from harnessx.model_config import ModelConfig, Models
from harnessx.models.scripted import Scripted
from harnessx.runner.isolation import Workers
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.sandbox import BACKENDS
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

WALL = next(b.name for b in BACKENDS if b.name in ("landlock", "none") and not b.missing())
"""What workers of the tests run behind: what a machine has without installing anything."""
_TAKE_OVER = """
import gc, json, os
port = next(o for o in gc.get_objects() if type(o).__name__ == "WirePort")
ask = {"t": "complete", "id": 1, "path": "main", "keep": 0, "add": [], "role": "main", "system": "", "tools": []}
call = {"t": "call", "id": 1, "call": {"id": "", "name": "meet", "arguments": {}}}
end = {"t": "end", "stop": "finished", "answer": "done", "claims": {}}
def send(body, length=None):
    size = len(body) if length is None else length
    port._sock.sendall(size.to_bytes(4, "big") + body)
def tell(frame):
    send(json.dumps(frame).encode())
try:
    pass
ATTACK
finally:
    await asyncio.Event().wait()
yield event
"""


def code(body: str, *hooks: Hook, **options) -> HarnessConfig:
    """A harness of one processor, whose ``process`` is ``body``."""
    return harness(dedent(body), *hooks, **options)


def hostile(attack: str) -> HarnessConfig:
    """A harness that takes over its own end of the wire, and says ``attack``; then it waits for ever."""
    return harness(_TAKE_OVER.replace("ATTACK", indent(dedent(attack).strip(), "    ")), Hook.TASK_START)


async def rollout(
    workers: Workers, harness: HarnessConfig, world=None, verifier=None, script=(ECHO, "done"), models=None, attempt=0
) -> Trajectory:
    """The record of one rollout, its harness run by ``workers``."""
    models = Models(models or ModelConfig(Scripted(list(script), loop=True)))
    order = Rollout(harness, Task("Say hello.", "t"), attempt)
    return await run_rollout(order, models, world or World(), verifier or Accept(), execute=workers.execute)
