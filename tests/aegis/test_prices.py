"""What a confirmation costs: the arrays say what the test itself says, and the tables hold together."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.statistics import PairedTest, Verdict
from aegis.statistics.power import PlannedTest, detectable, null_ship_rate, power_table, touching
from aegis.statistics.prices import Effect, _Course, _drawn, fixed_n, mcnemar_critical, mcnemar_power, prices


class _Replayed:
    """A generator whose draws are kept."""

    def __init__(self, seed: int) -> None:
        self._rng, self.kept = np.random.default_rng(seed), []

    def random(self, size):
        self.kept.append(self._rng.random(size))
        return self.kept[-1]


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.0, 0.5), st.floats(0.0, 0.4), st.floats(0.0005, 0.2), st.sampled_from([0.2, 0.3, 0.6, math.inf]),
    st.integers(1, 300), st.integers(0, 10_000),
)  # fmt: skip
def test_the_arrays_stop_where_the_test_stops(gain, loss, alpha, slack, cap, seed):
    rng = _Replayed(seed)
    pairs, diverged, shipped = _drawn(Effect(gain, loss, 0.95), _Course(alpha, cap, 0.03, slack), 1, rng)
    draws = np.concatenate([block[0] for block in rng.kept])
    test = PairedTest(alpha, cap=cap, mei=0.03, slack=slack)
    for u in draws:
        won, lost = u < gain, gain <= u < gain + loss
        if test.update(bool(lost), bool(won)) is not None:
            break
    assert test.verdict is not None
    assert test.trace[-1].pairs == pairs[0]
    assert (test.verdict is Verdict.SHIP) == shipped[0]
    assert diverged[0] == (draws[: pairs[0]] < 0.95).sum()


def test_the_same_seed_gives_the_same_prices():
    first, second = (prices(Effect(0.2, 0.1), alpha=0.01, cap=300, paths=900, seed=3) for _ in range(2))
    assert (first.pairs == second.pairs).all()
    assert first.power() == second.power()


def test_an_edit_without_effect_ships_no_more_often_than_its_level():
    rate = null_ship_rate(PlannedTest(0.05, 2000, 0.0001, math.inf), 0.3, paths=2000)
    assert 0.005 < rate <= 0.05  # it can err, and keeps its promise


def test_the_classical_test_has_the_size_and_power_it_says():
    for discordant in (1, 5, 17, 60):
        critical = mcnemar_critical(discordant, 0.05)
        tail = sum(math.comb(discordant, k) for k in range(critical, discordant + 1)) / 2**discordant
        one_less = tail + math.comb(discordant, critical - 1) / 2**discordant
        assert tail <= 0.05 < one_less
    n = fixed_n(0.3, 0.1, alpha=0.01, power=0.9)
    assert mcnemar_power(0.3, 0.1, n, alpha=0.01) >= 0.9 > mcnemar_power(0.3, 0.1, n // 2, alpha=0.01)
    assert fixed_n(0.1, 0.1, alpha=0.01, power=0.9, limit=1000) is None


def test_more_pairs_mean_more_power_and_a_smaller_gain():
    small, large = (PlannedTest(0.05 / 24, cap, 0.03, math.inf) for cap in (200, 1000))
    by_cap = [{(r.gain, r.scope): r for r in power_table(test, 0.13)} for test in (small, large)]
    assert all(by_cap[1][kind].power >= by_cap[0][kind].power for kind in by_cap[0])
    assert detectable(large, 0.13, 1.0) < detectable(small, 0.13, 1.0)
    row = by_cap[1][0.10, 1.0]
    assert row.pairs == tuple(sorted(row.pairs))
    assert row.candidate <= row.incumbent


def test_no_scope_holds_more_than_its_room():
    assert touching(0.2, 0.1, 0.0) is None
    assert touching(0.27, 0.3, 0.1) is not None  # all the room there is, though .27 + .3 * .1 is a hair more
    assert detectable(PlannedTest(0.05 / 24, 480, 0.03, 0.3), 0.1, 0.3) == pytest.approx(0.08, abs=0.02)
    with pytest.raises(ValueError, match="no chances of one pair"):
        Effect(0.2, 0.1, 0.2)


def test_the_command_prints_the_table_and_takes_the_gates_settings():
    def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "aegis.power", *arguments], capture_output=True, text=True)

    table = json.loads(asked("json=true", "gate.cap=2000", "gate.decisions=10", "noise=0.2").stdout)
    assert table["test"] == {"alpha": 0.005, "cap": 2000, "mei": 0.03, "slack": 0.3}
    assert {row["gain"] for row in table["rows"]} == {0.03, 0.05, 0.1}
    shown = asked("gate.cap=300", "tokens=1000")
    assert shown.returncode == 0
    assert "at most 300 pairs" in shown.stdout
    for wrong in ("gate.alpha=1.5", "noise=2", "gate=seesaw", "gate.cap=0"):
        failed = asked(wrong)
        assert (failed.returncode, failed.stdout) == (2, "")
        assert len(failed.stderr.splitlines()) == 1
