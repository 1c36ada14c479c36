"""Check 4: the harness builds, and its smoke tests pass, behind the same wall as its rollouts."""

from __future__ import annotations

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from harnessx.runner.tryout import try_out
from harnessx.sandbox.base import INSTALL
from harnessx.sandbox.choose import backend


class Smoke:
    """New code needs a smoke test that runs (paper §3, level 1). Level 2 is the effect on replay."""

    name = "smoke"

    def __init__(self, isolation: str, timeout_s: float = 30.0) -> None:
        self._isolation, self._timeout_s = isolation, timeout_s

    async def __call__(self, candidate: Candidate) -> Finding | None:
        code, tests = candidate.new_code, candidate.proposal.smoke
        if not code:
            return None
        if self._isolation == "inprocess":
            return Finding(self.name, f"code edits are refused without a wall (isolation=inprocess): {INSTALL}")
        untested = [path for path in code if path not in tests]
        if untested:
            return Finding(self.name, f"new code without a smoke test: {', '.join(untested)}")
        found = await try_out(backend(self._isolation), candidate.harness, tests, self._timeout_s)
        if not found.ok:
            return Finding(self.name, found.error)
        return None if found.tests > 0 else Finding(self.name, "the smoke test defines no test_* function")
