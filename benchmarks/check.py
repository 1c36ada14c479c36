"""Is a benchmark sound here? Its own reference solutions must win every task, doing nothing none.

    python -m benchmarks.check household --split sealed --limit 50

Exit code 0: sound; 1: not; 2: wrong input, said in one line.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.registry import TARGETS, create
from harnessx.errors import Failure, UserError
from harnessx.messages import ToolCall
from harnessx.tasks import Benchmark, Environment, Task, ToolResult
from harnessx.trajectory import Trajectory


@dataclass
class Play:
    """What one player did on all tasks. Times are in seconds."""

    player: str
    tasks: int = 0
    lost: list[str] = field(default_factory=list)
    resets: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    @property
    def wins(self) -> int:
        """How many tasks the verifier passed."""
        return self.tasks - len(self.lost)


async def play(benchmark: Benchmark, task: Task, oracle: bool, into: Play) -> None:
    """Play one task with the reference solution, or with an agent that says nothing and leaves."""
    environment = benchmark.environment(task, attempt=0)
    answer = ""
    try:
        if environment is not None:
            started = time.perf_counter()
            await environment.reset()
            into.resets.append(time.perf_counter() - started)
            _time_steps(environment, into.steps)
        if oracle:
            answer = await benchmark.oracle(task, environment)
        record = Trajectory(task.id, answer=answer)
        score = await benchmark.verifier.score(task, answer, environment, record)
    finally:
        if environment is not None:
            await environment.close()
    into.tasks += 1
    if not score.passed:
        into.lost.append(task.id)


async def check(benchmark: Benchmark, split: str, limit: int) -> tuple[Play, Play]:
    """Play the first ``limit`` tasks of ``split`` twice: by the oracle, and by the null agent.

    Raises:
        UserError: unknown split, missing data, a split without tasks, or a limit below 1.
    """
    if limit < 1:
        raise UserError(f"--limit {limit}: at least 1 task is needed")
    tasks = benchmark.tasks(split, limit)
    if not tasks:
        raise UserError(f"{benchmark.name} has no tasks in {split}: nothing to check")
    plays = Play("oracle"), Play("null")
    for into in plays:
        for task in tasks:
            await play(benchmark, task, into.player == "oracle", into)
    return plays


def table(plays: Sequence[Play]) -> str:
    """The plays, one line each; times in milliseconds."""
    lines = [f"{'player':<8} {'wins':>9} {'steps':>7} {'reset ms':>9} {'step ms':>9}"]
    for p in plays:
        wins, steps = f"{p.wins}/{p.tasks}", f"{len(p.steps) / p.tasks:.1f}"
        lines.append(f"{p.player:<8} {wins:>9} {steps:>7} {_mean_ms(p.resets):>9} {_mean_ms(p.steps):>9}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__.splitlines()[0])
    parser.add_argument("name", help=f"benchmark: {', '.join(sorted(TARGETS))}")
    parser.add_argument("--split", default="evolve", help="evolve (default), validation, sealed, or its own")
    parser.add_argument("--limit", type=int, default=20, help="tasks to play (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="the benchmark's seed (default 0)")
    options = parser.parse_args(arguments)
    try:
        benchmark = create(options.name, seed=options.seed)
        oracle, null = asyncio.run(check(benchmark, options.split, options.limit))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    print(table((oracle, null)))
    if oracle.lost:
        print(f"the oracle lost: {', '.join(oracle.lost)}")
    if null.wins:
        print(f"doing nothing wins {null.wins} of {null.tasks} tasks")
    return 1 if oracle.lost or null.wins else 0


def _time_steps(environment: Environment, seconds: list[float]) -> None:
    """Time each step in place: an oracle or a verifier may insist on its own kind of environment."""
    step = environment.step

    async def timed(call: ToolCall) -> ToolResult:
        started = time.perf_counter()
        try:
            return await step(call)
        finally:
            seconds.append(time.perf_counter() - started)

    environment.step = timed  # type: ignore[method-assign]


def _mean_ms(seconds: Sequence[float]) -> str:
    return f"{1e3 * sum(seconds) / len(seconds):.2f}" if seconds else "-"


if __name__ == "__main__":
    sys.exit(main())
