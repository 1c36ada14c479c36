"""A run with language models that is killed and taken up again: the same bytes, and no answer paid for twice."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
import warm
from evolve_drive import LASTING, good_code, lasting, rounds
from loopback import Provider, Script, call, serving
from meta_drive import LLM, DeathAt, plainly, sessions, tells, writes

from aegis.store import RunStore

GOOD = good_code()
CODED = writes("procedures", *GOOD["edit"], smoke=GOOD["smoke"], bucket=["processor"],
               file_changes=[{"path": "assets/procedures.py", "action": "add", "summary": "s"}])  # fmt: skip
TRY = call("try_candidate", name="procedures", tasks=["ev-0002"])
SCRIPT = Script({
    ("Evolver", "ask", 1): [call("search", text="nothing happens"), CODED, TRY, {"candidates": ["procedures"]}],
    ("Planner", "mend", 2): ["no"],
    ("Evolver", "ask", 2): [tells("late", "Be brief."), {"candidates": ["late"]}],
    ("Critic", "ask", 2): [{"ranking": ["C-R2-01"], "requests": {"C-R2-01": "shorter"}}],
})  # fmt: skip
DEATHS = (3, 5, 7)
"""Calls of a sitting: amid the Digesters, then amid the Evolver's session, then in round 2."""


def go(folder: Path, provider: Provider, number: int = 0, *more: str) -> int:
    settings = (*LLM, *plainly(provider), "rounds=2", "meta.digesters=1", "gate.alpha=0.9", "gate.calibration=0",
                "benchmark.splits.sealed=3", "budget.usd=5", "budget.confirm=yes", f"run.dir={folder}")  # fmt: skip
    done = warm.call("aegis.evolve", (*settings, "run.resume=true", *more), around=DeathAt(number))
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The run nobody disturbed, and the run that died three times; with what each asked for."""
    home, found = tmp_path_factory.mktemp("resume"), []
    with serving(SCRIPT) as provider:
        for name, deaths in (("whole", ()), ("killed", DEATHS)):
            provider.seen.clear()
            for number in deaths:
                assert go(home / name, provider, number) == -signal.SIGKILL
            assert go(home / name, provider) == 0
            found.append((home / name, [json.dumps(asked.body) for asked in provider.seen]))
    return found


def test_a_killed_run_is_the_run_it_would_have_been(both):
    (whole, _), (killed, _) = both
    assert rounds(whole)[0]["shipped"] == ["C-R1-01"]
    one, other = (lasting(folder, (*LASTING, "R*/meta/*")) for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert any(name.startswith("R1/meta/propose-") for name in one)


def test_no_answer_is_asked_for_twice_and_the_account_has_what_the_sessions_cost(both):
    (whole, first), (killed, second) = both
    assert Counter(first) == Counter(second)
    for folder in (whole, killed):
        with RunStore.read(folder) as store:
            paid = store.paid()["meta"]
        assert paid.tokens == sum(s["tokens"] for s in sessions(folder)) == 110 * len(first)
        assert paid.usd == pytest.approx(110e-6 * len(first))


def test_a_spent_account_of_the_meta_agent_ends_the_run_with_what_was_confirmed(tmp_path):
    with serving(SCRIPT) as provider:
        assert go(tmp_path / "run", provider, 0, "budget.roles.meta.tokens=800") == 0
        asked = len(provider.seen)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["stopped"] == "the budget of 800 tokens for meta is spent"
    assert asked == 8  # 110 tokens each: the eighth reaches the cap, and is the last
