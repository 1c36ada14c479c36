"""What the deterministic part of the Digester takes for ten million tokens: time, memory, and what it says in the end.

    python scripts/bench_digester.py --out results/digester.json

The trajectories are made: as many tasks and attempts as GAIA's round of the paper, each a search through long pages
with the failures that `aegis.stages.symptoms` knows. They are written to a file, and digested from it in a process
of its own. A token is four characters of what comes in, and three of what goes out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from aegis.history import History
from aegis.provenance import versions
from aegis.stages.digester import without_judgement
from aegis.stages.evidence import CHARACTERS, evidence
from aegis.stages.reading import read_trajectories
from harnessx.errors import Outcome, StopReason
from harnessx.messages import Message, ModelResponse, ToolCall, Usage
from harnessx.trajectory import Exchange, Step, ToolExchange, Trajectory

TASKS, ATTEMPTS, STEPS = 103, 2, 20
WORDS = "the archive says page found nothing near river council minutes of year table column value next link".split()


def page(rng: random.Random, characters: int) -> str:
    """A page of words."""
    words: list[str] = []
    size = 0
    while size < characters:
        word = rng.choice(WORDS) + (str(rng.randrange(10_000)) if rng.random() < 0.2 else "")
        words.append(word)
        size += len(word) + 1
    return " ".join(words)


def made(task: int, attempt: int, characters: int) -> Trajectory:
    """An attempt with about so many characters of pages; every third passes, the others fail in different ways."""
    rng = random.Random(f"{task}/{attempt}")
    record = Trajectory(f"t{task:03}", attempt, "h", "m")
    prompt = f"Answer from the sources.\nYour task is to: find the {rng.choice(WORDS)} of entry {task}"
    sent: tuple[Message, ...] = (Message("user", prompt),)
    for index in range(1, STEPS + 1):
        query = "again" if task % 4 == 1 else f"entry {task} part {index % 7 if task % 4 == 2 else index}"
        call = ToolCall(f"c{index}", "open", {"query": query}, raw="{broken" if task % 4 == 3 and index == 5 else None)
        answer = ModelResponse("", (call,), Usage(10, 5))
        done = ToolExchange(call, page(rng, characters // STEPS), is_error=False)
        record.steps.append(Step(index, [Exchange("main", 2 * index - 2, sent, answer)], [done]))
        sent = (answer.to_message(), Message("tool", done.content, (), call.id))
    passed = (task + attempt) % 3 == 0
    record.outcome = Outcome.PASSED if passed else Outcome.FAILED
    record.stop_reason = StopReason.FINISHED if task % 2 else StopReason.STEP_LIMIT
    return record


def write(path: Path, tokens: int) -> None:
    """A file of about ``tokens`` tokens, and not fewer."""
    each = 4 * tokens // (TASKS * ATTEMPTS) + 4 * STEPS
    with open(path, "w", encoding="utf-8") as file:
        for attempt in range(ATTEMPTS):
            for task in range(TASKS):
                file.write(made(task, attempt, each).to_jsonl())


def digest(path: Path) -> dict[str, float]:
    """Digest the file here, and say what it took."""
    seen = 0

    def counted() -> Iterator[Trajectory]:
        nonlocal seen
        for record in read_trajectories(path):
            seen += sum(len(done.content) for step in record.steps for done in step.calls)
            yield record

    began, cpu = time.monotonic(), time.process_time()
    said = evidence(without_judgement(counted(), {}, History()))
    return {
        "tokens_in": seen // 4,
        "tokens_out": -(-len(said) // CHARACTERS),
        "tasks_named": sum(f"\nt{task:03}: " in said for task in range(TASKS)),
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Write the file, digest it in another process, print and keep what it took."""
    parser = argparse.ArgumentParser(description="What the deterministic part of the Digester takes.")
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--digest", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.digest is not None:
        print(json.dumps(digest(chosen.digest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "evolve.jsonl")
        write(file, chosen.tokens)
        command = [sys.executable, __file__, "--digest", str(file)]
        size = file.stat().st_size
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    from_ = versions()
    report = {**found, "bytes_in": size, "cores": os.cpu_count(), "python": from_.python, "commit": from_.commit}
    text = json.dumps(report, indent=1) + "\n"
    if chosen.out is not None:
        chosen.out.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
