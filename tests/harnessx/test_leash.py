"""A host that is killed leaves no process, whatever moment of a start that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from starts import session

from harnessx.sandbox import BACKENDS
from harnessx.sandbox.leash import Leash

HOST = """
import signal, subprocess
from harnessx.sandbox.leash import Leash
leash = Leash()
program = "trap '' TERM HUP; sleep 60 & echo running; sleep 60"
subprocess.Popen(["/bin/sh", "-c", program], process_group=leash.group)
signal.pause()
"""


def ended(number: int) -> bool:
    """Whether no process of a session is left, now or in a moment."""
    until = time.monotonic() + 5
    while session(number) and time.monotonic() < until:
        time.sleep(0.01)
    return not session(number)


def test_what_never_asked_to_end_with_its_parent_ends_with_the_host():
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert host.stdout.readline() == "running\n"
    until = time.monotonic() + 5
    while len(session(host.pid)) < 5 and time.monotonic() < until:  # the host, the keeper, a shell and its children
        time.sleep(0.01)
    assert len(session(host.pid)) == 5
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    assert ended(host.pid)


def test_its_end_kills_what_is_on_it_and_frees_its_number():
    leash = Leash()
    child = subprocess.Popen(["sleep", "60"], process_group=leash.group)
    leash.end()
    assert child.wait(5) == -signal.SIGKILL
    leash.end()
    with pytest.raises(ProcessLookupError):
        os.killpg(leash.group, 0)


def test_what_is_on_it_goes_on_without_it_and_still_ends_with_it():
    leash = Leash()
    child = subprocess.Popen(["sleep", "60"], process_group=leash.group)
    os.kill(leash.group, signal.SIGKILL)
    assert child.poll() is None
    leash.end()
    assert child.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize(("wall", "within_s"), [("bubblewrap", 0.03), ("landlock", 0.2), ("none", 0.15)])
def test_hosts_killed_at_random_moments_of_a_start_leave_nothing(wall, within_s):
    lacking = next(sandbox.missing() for sandbox in BACKENDS if sandbox.name == wall)
    if lacking:
        pytest.skip(lacking)
    file = os.path.join(os.path.dirname(__file__), "starts.py")
    killed = [sys.executable, file, wall, "20", "7", str(within_s)]
    done = subprocess.run(killed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60, check=True)
    assert done.stdout == ""
