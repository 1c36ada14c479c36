"""The smoke process: builds a harness, runs its tests, and says what went wrong, whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile

import pytest
from loop_drive import harness
from worker_drive import WALL

from harnessx.hooks import Hook
from harnessx.sandbox import backend
from harnessx.sandbox.scratch import furnish
from harnessx.sandbox.view import environment

REMINDER = harness("yield event.remind('be kind')", Hook.BEFORE_MODEL)
TEST = """
from harnessx.hooks import BeforeModelEvent
from harnessx.messages import Conversation, Message

async def test_it_reminds(build):
    processor = build("assets/p.py:P")
    event = BeforeModelEvent(1, Conversation([Message("user", "hi")]), "hi")
    (out,) = [e async for e in processor.process(event)]
    assert out.appended == "be kind"

def test_it_is_bound(build):
    assert build("assets/p.py:P").ctx.scratch().is_dir()
"""


def smoke(harness, **tests: str) -> dict:
    """The answer of a smoke process, like the gate's."""
    order = json.dumps({"harness": harness.to_json(), "tests": tests})
    with tempfile.TemporaryDirectory() as folder:
        command = backend(WALL).command("harnessx.runner.smoke", (), os.path.realpath(folder))
        home, told = furnish(os.path.realpath(folder)), order.encode()
        done = subprocess.run(
            command, input=told, capture_output=True, env=environment(), cwd=home, timeout=30, check=True
        )
    return json.loads(done.stdout)


def test_every_test_function_runs_plain_and_async():
    assert smoke(REMINDER, good=TEST) == {"ok": True, "tests": 2, "error": ""}


def test_what_prints_does_not_garble_the_answer():
    noisy = "print('hello')\ndef test_noise(build): print('{\"ok\": true}' * 10_000)"
    assert smoke(REMINDER, noisy=noisy) == {"ok": True, "tests": 1, "error": ""}


@pytest.mark.parametrize(
    ("test", "error"),
    [
        ("def test_no(build): assert 1 == 2, 'not equal'", "AssertionError: not equal"),
        ("async def test_no(build): raise ValueError('oh')", "ValueError: oh"),
        ("def test_no(build): build('assets/other.py:P')", "assets/other.py"),
        ("def test_no(build):", "IndentationError"),
        ("def test_no(build): raise SystemExit('bye')", "SystemExit: bye"),
        (
            "import os\ndef test_env(build): assert not os.environ.get('HOME')\ndef test_no(build): 1 / 0",
            "ZeroDivision",
        ),
    ],
)
def test_what_fails_is_the_finding(test, error):
    answer = smoke(REMINDER, bad=test)
    assert answer["ok"] is False
    assert error in answer["error"]


def test_a_harness_that_cannot_be_built_is_the_finding():
    broken = harness("yield event", Hook.BEFORE_MODEL, state="limit: int = field(default_factory=lambda: 1 / 0)")
    answer = smoke(broken, good="def test_yes(build): pass")
    assert answer["ok"] is False
    assert "ZeroDivisionError" in answer["error"]


def test_it_ends_where_nobody_is_left_to_read_its_answer():
    """A host that is killed closes its end, whatever became of the processes between."""
    order = {"harness": REMINDER.to_json(), "tests": {"endless": "def test_it(build):\n    while True: pass"}}
    with tempfile.TemporaryDirectory() as folder:
        furnish(folder)
        command = backend(WALL).command("harnessx.runner.smoke", (), os.path.realpath(folder))
        process = subprocess.Popen(
            command, env=environment(), cwd=f"{folder}/home", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.stdout.close()
        assert process.wait(5.0) != 0
