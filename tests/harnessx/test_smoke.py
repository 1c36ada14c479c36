"""The smoke process: builds a harness, runs its tests, and says what went wrong, whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import pytest
from loop_drive import harness
from starts import session
from worker_drive import WALL

from harnessx.hooks import Hook
from harnessx.runner.tryout import Tryout, _claimed
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


HOST = """
import asyncio, sys
sys.path[:0] = [{path!r}]
from test_smoke import REMINDER, WALL
from harnessx.runner.tryout import try_out
from harnessx.sandbox import backend
from harnessx.sandbox.view import view
view()
print("here", flush=True)
endless = "def test_it(build):\\n    while True: pass"
asyncio.run(try_out(backend(WALL), REMINDER, {{"endless": endless}}, 60))
"""


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.5])
def test_it_ends_with_its_host_at_whatever_moment_that_is_killed(after_s):
    program = HOST.format(path=os.path.dirname(__file__))
    host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert host.stdout.readline() == "here\n"
    time.sleep(after_s)
    host.kill()
    host.wait()
    host.stdout.close()
    until = time.monotonic() + 5
    while session(host.pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert session(host.pid) == []


def test_what_the_process_claims_is_bounded_and_typed():
    answers = {
        b"": "died or wrote nonsense",
        b"[" * 50_000: "died or wrote nonsense",
        b'{"ok": "yes", "tests": 1, "error": ""}': "wrote nonsense",
        b'{"ok": true, "tests": true, "error": ""}': "wrote nonsense",
        b'{"ok": true, "tests": 1, "error": 1}': "wrote nonsense",
        b"x" * 70_000: "wrote more than 64 KB",
    }
    for said, error in answers.items():
        found = _claimed(said)
        assert (found.ok, error in found.error) == (False, True)
    _claimed(b'{"ok": false, "tests": 0, "error": "\\ud800"}').error.encode()
    assert _claimed(b'noise\n{"ok": true, "tests": 2, "error": ""}') == Tryout(True, 2)
