"""How fast the run loop is when the model and the world cost nothing.

    python scripts/bench_loop.py                    # a table
    python scripts/bench_loop.py --json             # the same as JSON
    python scripts/bench_loop.py --out FILE         # and written to FILE, e.g. results/bench_loop.json
    python scripts/bench_loop.py --peers            # also other frameworks, on the same work, now

The model answers at once from a script, the tool does nothing and returns 200 characters, six control
processors guard the loop, contracts and deadlines are on, trajectories go to disk. Three scenarios:

=========  ===========================================================================================
one        one agent, 50 steps
hundred    100 agents at once in one event loop, 20 steps each; peak memory per agent
long       one agent, 400 steps, results of 2,000 characters; the cost of its last steps over its
           first ones; peak memory
=========  ===========================================================================================

``floor`` does the same calls with nothing between them but asyncio and one JSON line per step. Speeds
are the best of several repetitions, by the wall clock and by the process's CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
import tracemalloc
import venv
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aegis import provenance
from harnessx import HarnessConfig, Limits, ModelConfig, Outcome, Slots, Task
from harnessx.messages import Conversation, Message, ModelRequest, ModelResponse, ToolCall, ToolSchema, Usage
from harnessx.models.base import CallContext
from harnessx.permissions import Effect
from harnessx.processors.budget import CostGuard, StepBudgetReminder, TokenBudget
from harnessx.processors.context import ToolResultTruncation
from harnessx.processors.control import LoopDetection, RepeatedFailureGuard
from harnessx.tasks import Environment, Score, ToolResult
from harnessx.trajectory import Trajectory

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bench_loop"
AGENTS = 100
PROMPT = "Look at every place in turn."
PLACE = {"type": "object", "properties": {"place": {"type": "integer"}}}
SCHEMA = ToolSchema("look", "Look at a place.", PLACE, frozenset({Effect.READ}))


@dataclass
class Answers:
    """A model that answers at once: looks at the next place, and is done after ``steps`` answers."""

    steps: int
    waits: bool = False
    """Whether it lets other agents run first, as a call over a network would."""
    times: list[float] | None = None
    """When each request came, in seconds of CPU time, if somebody wants to know."""
    name: str = "answers"
    digest: str = "answers"

    def __post_init__(self) -> None:
        usage = Usage(100, 10, 0, 0.0)
        calls = [ToolCall(f"call_{i}", "look", {"place": i}) for i in range(self.steps - 1)]
        self._script = [ModelResponse("", (call,), usage, "answers", "tool_calls") for call in calls]
        self._script.append(ModelResponse("done", (), usage, "answers"))

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        if self.waits:
            await asyncio.sleep(0)
        if self.times is not None:
            self.times.append(time.process_time())
        return self._script[len(request.messages.log) // 2]


class Room:
    """A world whose one tool does nothing and says ``size`` characters, each time others."""

    tools = (SCHEMA,)

    def __init__(self, size: int) -> None:
        self._text = ("You see a shelf with a lamp, a book and a mug on it. " * (size // 50 + 1))[: size - 6]

    async def reset(self) -> str:
        return ""

    async def step(self, call: ToolCall) -> ToolResult:
        return ToolResult(f"{call.arguments['place']:5d} {self._text}")

    async def close(self) -> None:
        return None


class Accept:
    """A verifier that accepts a finished rollout."""

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        return Score(answer == "done", 1.0)


def harness(steps: int) -> HarnessConfig:
    """Six control processors, every limit set."""
    processors = (
        StepBudgetReminder(limit=steps, every=5),
        TokenBudget(max_tokens=10**9),
        CostGuard(max_usd=10.0),
        LoopDetection(),
        RepeatedFailureGuard(),
        ToolResultTruncation(max_chars=4000),
    )
    return HarnessConfig(processors, Slots(limits=Limits(steps, 10**9, 10.0, 600.0)))


async def rollouts(folder: Path, steps: int, size: int, rounds: int, width: int, model: Answers) -> None:
    """``rounds`` times ``width`` rollouts at once, each written to a file of its own."""
    agent = ModelConfig(model).agentic(harness(steps))

    async def one(name: str) -> None:
        record = await agent.run(Task(PROMPT), Room(size), Accept(), trajectory=f"{folder}/{name}.jsonl")
        if record.outcome is not Outcome.PASSED or len(record.steps) != steps:
            raise RuntimeError(f"the rollout ended as {record.outcome}: {record.error}")

    for number in range(rounds):
        if width == 1:
            await one(f"{number}")
        else:
            await asyncio.gather(*(one(f"{number}_{place}") for place in range(width)))


async def floor(folder: Path, steps: int, size: int, rounds: int) -> None:
    """The same calls and one JSON line a step, with no framework between them."""
    for number in range(rounds):
        model, room = Answers(steps), Room(size)
        messages = [Message("user", PROMPT)]
        with (folder / f"{number}.jsonl").open("w", encoding="utf-8") as file:
            while True:
                request = ModelRequest("", Conversation(messages), (SCHEMA,))
                answer = await model.complete(request, CallContext())
                messages.append(answer.to_message())
                row: dict[str, Any] = {"content": answer.content}
                for call in answer.tool_calls:
                    result = await room.step(call)
                    messages.append(Message("tool", result.content, (), call.id))
                    row |= {"call": dict(call.arguments), "result": result.content}
                file.write(json.dumps(row) + "\n")
                if not answer.tool_calls:
                    break


def speed(work: Callable[[Path], Coroutine[Any, Any, None]], steps: int, repeat: int) -> dict[str, float]:
    """Best steps per second of ``repeat`` runs of ``work``, by the wall clock and by CPU time."""
    wall, cpu = [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as name:
            gc.collect()
            began = time.perf_counter(), time.process_time()
            asyncio.run(work(Path(name)))
            wall.append(time.perf_counter() - began[0])
            cpu.append(time.process_time() - began[1])
    return {"steps_per_s": round(steps / min(wall)), "steps_per_cpu_s": round(steps / min(cpu))}


def memory_mb(work: Callable[[Path], Coroutine[Any, Any, None]]) -> float:
    """Peak of what one run of ``work`` allocates, in MB."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(work(Path(name)))  # warm: imports and caches are not the run's
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            asyncio.run(work(Path(name)))
            return (tracemalloc.get_traced_memory()[1] - before) / 1e6
        finally:
            tracemalloc.stop()


def growth(steps: int, repeat: int, window: int = 50) -> float:
    """The cost of the last ``window`` steps over that of the first, medians of ``repeat`` rollouts."""
    ratios = []
    for _ in range(repeat):
        model = Answers(steps, times=[])
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(rollouts(Path(name), steps, 2000, 1, 1, model))
        times = model.times or []
        ratios.append((times[-1] - times[-1 - window]) / (times[1 + window] - times[1]))
    return round(statistics.median(ratios), 2)


def measure(repeat: int, steps: int) -> dict[str, Any]:
    """All scenarios."""

    def one(folder: Path) -> Coroutine[Any, Any, None]:
        return rollouts(folder, steps, 200, 100, 1, Answers(steps))

    def hundred(folder: Path) -> Coroutine[Any, Any, None]:
        return rollouts(folder, 20, 200, 1, AGENTS, Answers(20, waits=True))

    def long(folder: Path) -> Coroutine[Any, Any, None]:
        return rollouts(folder, 400, 2000, 1, 1, Answers(400))

    floor_speed = speed(lambda folder: floor(folder, steps, 200, 100), 100 * steps, repeat)
    scenarios = {
        "one": speed(one, 100 * steps, repeat),
        "hundred": {
            **speed(hundred, 20 * AGENTS, repeat),
            "memory_mb_per_agent": round(memory_mb(hundred) / AGENTS, 3),
        },
        "long": {
            **speed(long, 400, repeat),
            "memory_mb": round(memory_mb(long), 2),
            "last_over_first": growth(400, repeat),
        },
    }
    share = scenarios["one"]["steps_per_cpu_s"] / floor_speed["steps_per_cpu_s"]
    return {"floor": floor_speed, "scenarios": scenarios, "one_over_floor": round(share, 2)}


def peers(steps: int, repeat: int) -> tuple[dict[str, float], dict[str, str]]:
    """Steps per second of other frameworks on scenario ``one``, each in a venv of its own, and their versions."""
    speeds: dict[str, float] = {}
    versions: dict[str, str] = {}
    for package, program in (("inspect-ai", "inspect_ai_loop.py"), ("mini-swe-agent", "mini_swe_agent_loop.py")):
        python = CACHE / package / "bin" / "python"
        if not python.exists():
            venv.create(CACHE / package, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
        environment = {**os.environ, "MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": str(CACHE)}
        command = [python, ROOT / "scripts" / "peers" / program, str(steps), str(repeat)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        speeds |= json.loads(done.stdout.splitlines()[-1])
        asked = [python, "-c", f"from importlib.metadata import version; print(version({package!r}))"]
        versions[package] = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    return {name: round(value) for name, value in speeds.items()}, versions


def table(found: dict[str, Any]) -> str:
    """The measurement, for people."""
    rows = [f"{'':24}{'steps/s':>10}{'per CPU s':>12}"]
    for name, speeds in {"floor": found["floor"], **found["scenarios"]}.items():
        rest = ", ".join(f"{k} {v}" for k, v in speeds.items() if not k.startswith("steps"))
        rows.append(f"{name:24}{speeds['steps_per_s']:>10,}{speeds['steps_per_cpu_s']:>12,}  {rest}".rstrip())
    for name, value in found.get("peers", {}).items():
        rows.append(f"{name:24}{value:>10,}{'':12}  one / this: {found['ratios'][name]}")
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50, help="steps of a rollout in scenario 'one'")
    parser.add_argument("--repeat", type=int, default=9, help="repetitions, of which the best counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to FILE")
    parser.add_argument("--peers", action="store_true", help="also measure other frameworks (installs them from PyPI)")
    arguments = parser.parse_args()
    found = measure(arguments.repeat, arguments.steps)
    versions = {"python": platform.python_version(), "harnessx-aegis": version("harnessx-aegis")}
    if arguments.peers:
        found["peers"], others = peers(arguments.steps, 3)
        one = found["scenarios"]["one"]["steps_per_s"]
        found["ratios"] = {name: round(one / value, 1) for name, value in found["peers"].items()}
        versions |= others
    found |= {"schema": 1, "commit": provenance.versions().commit, "versions": versions, "cores": os.cpu_count()}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
