"""The work of ``bench_loop.py``'s scenario ``one`` in mini-swe-agent. Runs in a venv of its own; prints JSON.

Twice: without a trajectory file, and with one, which it writes anew after every step.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from minisweagent.agents.default import DefaultAgent
from minisweagent.exceptions import Submitted
from minisweagent.models.test_models import DeterministicModel, make_output

STEPS, REPEAT = int(sys.argv[1]), int(sys.argv[2])
TEXT = ("You see a shelf with a lamp, a book and a mug on it. " * 5)[:194]


class Room:
    """A world whose one command does nothing."""

    config = None

    def execute(self, action, cwd="", *, timeout=None):
        if action["command"] == "done":
            extra = {"exit_status": "Submitted", "submission": "done"}
            raise Submitted({"role": "exit", "content": "done", "extra": extra})
        return {"output": f"{action['command']:>5} {TEXT}", "returncode": 0, "exception_info": ""}

    def get_template_vars(self, **kwargs):
        return {}

    def serialize(self):
        return {}


def measure(path):
    commands = [str(i) for i in range(STEPS - 1)] + ["done"]
    outputs = [make_output("", [{"command": command}], cost=0.0) for command in commands]
    agent = DefaultAgent(
        DeterministicModel(outputs=outputs, cost_per_call=0.0),
        Room(),
        system_template="Be brief.",
        instance_template="{{task}}",
        step_limit=STEPS + 1,
        output_path=path,
    )
    began = time.perf_counter()
    agent.run("Look at every place in turn.")
    return STEPS / (time.perf_counter() - began)


with tempfile.TemporaryDirectory() as folder:
    bare = max(measure(None) for _ in range(REPEAT))
    saving = max(measure(Path(folder) / "t.json") for _ in range(REPEAT))
print(json.dumps({"mini_swe_agent": bare, "mini_swe_agent_saving": saving}))
