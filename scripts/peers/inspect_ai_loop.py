"""The work of ``bench_loop.py``'s scenario ``one`` in inspect_ai. Runs in a venv of its own; prints JSON.

Measured from the first model call to the last, so that starting an evaluation does not count.
"""

import json
import sys
import tempfile
import time

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

STEPS, REPEAT = int(sys.argv[1]), int(sys.argv[2])
TEXT = ("You see a shelf with a lamp, a book and a mug on it. " * 5)[:194]


@tool
def look():
    async def execute(place: int) -> str:
        """Look at a place.

        Args:
            place: Its number.
        """
        return f"{place:5d} {TEXT}"

    return execute


def measure() -> float:
    times = []

    def answer(input, tools, tool_choice, config):
        times.append(time.perf_counter())
        if len(times) < STEPS:
            output = ModelOutput.for_tool_call("mockllm", "look", {"place": len(times)})
        else:
            output = ModelOutput.from_content("mockllm", "done")
        output.usage = ModelUsage(input_tokens=100, output_tokens=10, total_tokens=110)
        return output

    task = Task([Sample("Look at every place in turn.")], solver=[use_tools(look()), generate()])
    model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
    with tempfile.TemporaryDirectory() as folder:
        (log,) = eval(task, model=model, log_dir=folder, display="none", score=False, log_realtime=False)
    if log.status != "success" or len(times) != STEPS:
        raise SystemExit(f"{log.status} after {len(times)} steps: {log.error}")
    return (STEPS - 1) / (times[-1] - times[0])


print(json.dumps({"inspect_ai": max(measure() for _ in range(REPEAT))}))
