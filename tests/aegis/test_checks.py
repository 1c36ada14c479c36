"""Single checks of the gate: policy, smoke test, risk, limits."""

from __future__ import annotations

import pytest
from evolve_drive import SMALL, edit, insert, lasting, run, script
from gate_drive import PASSES, REMIND, WALL, candidate, source, with_code

from aegis.approvals import Desk
from aegis.gate.approval import Approval, Risk, risk
from aegis.gate.cost import wider_limits
from aegis.gate.permitted import Consent
from aegis.gate.smoke import Smoke
from aegis.gate.source import MAX_SOURCE, findings_in


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("import socket", "import"),
        ("from os import path", "import"),
        ("import collections, subprocess", "import"),
        ("from . import x", "import"),
        ("from harnessx.runner.host import Host", "reflection"),
        ("from harnessx import loop", "reflection"),
        ("x = exec('1')", "dynamic"),
        ("x = open('/etc/passwd')", "dynamic"),
        ("x = getattr(1, 'real')", "dynamic"),
        ("x = ().__class__.__bases__", "dunder"),
        ("x = __builtins__", "dunder"),
        ("x = lambda self: self.ctx.task_id[:2] == 'va'", "identity"),
        ("x = lambda self: self.ctx.attempt >= 1000", "identity"),
        ("match 1:\n    case int(task_id=x):\n        pass", "identity"),
        ("x = (lambda: 0).f_globals", "reflection"),
        ("x = 'the answer of task-0007'", "task literal"),
        ("x = f'{1} of task-0007'", "task literal"),
        ("\u0435val = 1", "identifier"),
        ("def", "syntax"),
        ("x = '" + "x" * MAX_SOURCE + "'", "size"),
    ],
)
def test_policy_names_the_place_and_the_rule(body, rule):
    found = findings_in({"assets/x.py": f"y = 1\n{body}\n"}, ["task-0007"])
    assert found
    assert str(found[0]).startswith("assets/x.py:")
    assert f": {rule}: " in str(found[0])


def test_policy_lets_ordinary_processors_through():
    usual = source("yield event.remind(json.dumps({'a': math.floor(1.5)}))", "import json, math, re")
    assert findings_in({"assets/x.py": usual}, ["task-0007"]) == []


async def test_a_smoke_test_may_print_and_use_what_it_builds():
    test = "def test_it(build):\n    print('working')\n    assert build('assets/x.py:X').ctx.attempt == 0\n"
    assert await Smoke(WALL)(with_code(source("yield event"), test)) is None


async def test_a_smoke_test_that_ends_its_process_has_not_passed():
    finding = await Smoke(WALL)(with_code(source("yield event"), "import os\nos._exit(0)\n"))
    assert finding is not None
    assert finding.reason == "the process died or wrote nonsense"


async def test_a_component_that_cannot_be_built_fails_the_smoke_check():
    broken = source("yield event") + "\n    def __post_init__(self):\n        raise ValueError('no way')\n"
    finding = await Smoke(WALL)(with_code(broken, PASSES))
    assert finding is not None
    assert "no way" in finding.reason


async def test_without_a_wall_new_code_is_refused_with_the_remedy():
    finding = await Smoke("inprocess")(with_code(source("yield event"), PASSES))
    assert finding is not None
    assert "refused without a wall (isolation=inprocess): install bubblewrap" in finding.reason


async def test_a_smoke_test_runs_behind_the_wall(tmp_path):
    (tmp_path / "answers").write_text("42")
    peek = f"def test_it(build):\n    assert open({str(tmp_path / 'answers')!r}).read() == '42'\n"
    assert await Smoke("none")(with_code(source("yield event"), peek)) is None
    if WALL == "none":
        pytest.skip("landlock is not available here")
    finding = await Smoke(WALL)(with_code(source("yield event"), peek))
    assert finding is not None
    assert "answers" in finding.reason
    daemon = await Smoke(WALL)(with_code(source("yield event"), "import os\ndef test_it(build):\n    os.fork()\n"))
    assert daemon is not None
    assert "Operation not permitted" in daemon.reason


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (candidate(REMIND, bucket=["prompt"]), Risk.PROMPT),
        (candidate(REMIND, bucket=["prompt", "config"]), Risk.CONFIG),
        (candidate(REMIND, bucket=["processor"]), Risk.CONFIG),
        (candidate(REMIND, bucket=["config", "tools"]), Risk.TOOLS),
        (with_code(source("yield event"), PASSES), Risk.CODE),
    ],
)
async def test_risk_follows_what_an_edit_can_change_and_denial_starts_above_the_threshold(made, expected):
    assert risk(made) is expected
    for threshold in Risk:
        refused = await Approval(Consent(Desk("deny")), threshold)(made)
        assert (refused is not None) == (expected > threshold)
        assert await Approval(Consent(Desk("auto")), threshold)(made) is None


@pytest.mark.parametrize(
    ("path", "value", "wider"),
    [("limits.steps", 51, 1), ("limits.steps", 49, 0), ("limits.tokens", 1000, 0), ("limits.wall_s", None, 1)],
)
def test_a_wider_limit_is_found(path, value, wider):
    made = candidate({"op": "set_slot", "path": path, "value": value})
    assert len(wider_limits(made.parent, made.harness)) == wider


def test_findings_do_not_depend_on_the_process(tmp_path):
    """Two literals in one text: which is named may not follow the hash seed of the process."""
    both = edit("both", insert("Instructions", text="ev-0001 ev-0002 ev-0003 ev-0004 ev-0005"))
    named = script(tmp_path / "script.yaml", {"propose": [both]})
    files = []
    for seed in ("1", "2"):
        done = run(*SMALL, named, f"run.dir={tmp_path / seed}", "rounds=1", env={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
        files.append(lasting(tmp_path / seed))
    assert files[0] == files[1]
