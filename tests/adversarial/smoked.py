"""Plays the attacks by smoke tests: what the gate makes of one, put as the record of a rollout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from adversarial.smoking import Smoking
from adversarial.world import unwritable
from harnessx.errors import Outcome
from harnessx.harness import HarnessConfig
from harnessx.runner.tryout import try_out
from harnessx.sandbox import backend
from harnessx.trajectory import Trajectory

STALL_S = 2.0
"""After which one that is known to stall is given up; all others have a minute."""
REPLAY = True
"""Whether the harness of a test that passed is played, as the gate's next checks do."""
_VICTIM = """
def test_it(build):
    import ctypes, time
    ctypes.CDLL(None).prctl(15, b"{name}", 0, 0, 0)
    time.sleep({lasts})
    assert False, "it does not work"
"""

Rollout = Callable[[HarnessConfig], Awaitable[Trajectory]]


async def smoked(
    attack: Smoking, told: Mapping[str, Any], isolation: str, rollout: Rollout
) -> tuple[Trajectory, dict[str, Any]]:
    """The attack's smoke test; passed, if a broken harness would be let through for it."""
    harness = attack.harness(told)
    patience = STALL_S if attack.stalls else 60.0
    found = await try_out(backend(isolation), harness, {"assets/x.py": attack.source(told)}, patience)
    if found.ok and attack.broken and REPLAY:
        return await rollout(harness), {}
    passed = found.ok and attack.broken
    record = Trajectory("smoke", 0, "")
    record.outcome = Outcome.PASSED if passed else Outcome.FAILED if found.ok else Outcome.HARNESS_ERROR
    record.error, record.claims = found.error, _carried_out(found.error)
    what = "a record that cannot be written"
    return record, {what: True} if unwritable(record) else {}


async def victim(attack: Smoking, told: Mapping[str, Any], isolation: str) -> tuple[Trajectory, dict[str, Any]]:
    """An honest smoke test that fails, beside the attack; passed, if somebody else has answered for it."""
    source = _VICTIM.format(name=told["victim"], lasts=1.0)
    found = await try_out(backend(isolation), attack.harness(told), {"assets/x.py": source}, 60.0)
    record = Trajectory("victim", 0, "")
    record.outcome, record.error = Outcome.PASSED if found.ok else Outcome.HARNESS_ERROR, found.error
    return record, {}


def _carried_out(error: str) -> dict[str, Any]:
    """The loot in an error, as `Attack` has it in its claims."""
    _, loot, text = error.partition("loot:")
    _, reached, mark = error.partition("reached:")
    return ({"loot": [text]} if loot else {}) | ({"reached": mark} if reached else {})
