"""The measurements refuse what they do not know, and decide as the gate does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from aegis.record import Decision
from harnessx.errors import Outcome, StopReason
from harnessx.runner.jobs import RolloutResult
from harnessx.tasks import Task

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.parametrize(("script", "known"), [("testbed.py", "null, power, drift, conflict"), ("plots.py", "replay")])
def test_a_name_that_a_script_does_not_know_is_refused_with_those_it_does(script: str, known: str) -> None:
    done = subprocess.run([sys.executable, SCRIPTS / script, "nulls"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "'nulls'" in done.stderr
    assert known in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def replay_off() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("replay_off", SCRIPTS / "replay_off.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["replay_off"] = module  # its dataclasses look themselves up
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(SCRIPTS))


def played(*outcomes: tuple[bool, bool], cluster: str = "a") -> list[tuple[Task, RolloutResult, RolloutResult]]:
    return [(Task("", "t", cluster), _result(before), _result(after)) for before, after in outcomes]


def _result(passed: bool) -> RolloutResult:
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    return RolloutResult("k", "t", 0, "h", outcome, StopReason.FINISHED, 1.0, 1, 1, 0.0, 1, 0, "", "", 0.0)


def test_pairs_are_judged_in_their_order_until_the_gate_would_stop(replay_off: ModuleType) -> None:
    better, same, worse = (False, True), (True, True), (True, False)
    decision, used = replay_off.verdict(played(*[better] * 40), ["a", "b"], 480)
    assert decision is Decision.SHIP
    assert used < 40
    assert replay_off.verdict(played(*[same] * 8), ["a", "b"], 480) == (Decision.UNDECIDED, 8)
    assert replay_off.verdict(played(*[worse] * 40), ["a", "b"], 480)[0] is not Decision.SHIP
    assert replay_off.verdict(played(*[better] * 40), ["a", "b"], used - 1) == (Decision.UNDECIDED, used - 1)


def test_a_harmed_cluster_outweighs_what_the_others_gain(replay_off: ModuleType) -> None:
    pairs = [
        *played(*[(True, False)] * 10, cluster="b"),
        *played(*[(False, True)] * 60),
    ]
    assert replay_off.verdict(pairs, ["a", "b"], 480)[0] is Decision.REJECT


def test_a_ship_that_becomes_a_reject_is_counted(replay_off: ModuleType) -> None:
    rows = [{"on": "ship", "off": "reject"}, {"on": "reject", "off": "undecided"}, {"on": "ship", "off": "ship"}]
    found = replay_off.table(rows, "off")
    assert found["ship_to_reject_or_back"] == 1
    assert found["counts"]["reject"] == {"ship": 0, "reject": 0, "undecided": 1}
