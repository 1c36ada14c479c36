"""Check 4: the harness builds, and its smoke tests pass, behind the same wall as its rollouts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from typing import Any

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from harnessx.sandbox.base import INSTALL
from harnessx.sandbox.choose import backend
from harnessx.sandbox.scratch import furnish
from harnessx.sandbox.view import environment


class Smoke:
    """New code needs a smoke test that runs (paper §3, level 1). Level 2 is the effect on replay."""

    name = "smoke"

    def __init__(self, isolation: str, timeout_s: float = 30.0) -> None:
        self._isolation, self._timeout_s = isolation, timeout_s

    async def __call__(self, candidate: Candidate) -> Finding | None:
        code = candidate.new_code
        if not code:
            return None
        if self._isolation == "inprocess":
            return Finding(self.name, f"code edits are refused without a wall (isolation=inprocess): {INSTALL}")
        untested = [path for path in code if path not in candidate.proposal.smoke]
        if untested:
            return Finding(self.name, f"new code without a smoke test: {', '.join(untested)}")
        answer = await self._run(candidate)
        if not answer["ok"]:
            return Finding(self.name, answer["error"])
        if not answer["tests"]:
            return Finding(self.name, "the smoke test defines no test_* function")
        return None

    async def _run(self, candidate: Candidate) -> dict[str, Any]:
        order = {"harness": candidate.harness.to_json(), "tests": dict(candidate.proposal.smoke)}
        with tempfile.TemporaryDirectory(prefix="smoke-") as name:
            folder = os.path.realpath(name)
            process = await asyncio.create_subprocess_exec(
                *backend(self._isolation).command("harnessx.runner.smoke", (), folder),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env=environment(), cwd=furnish(folder), start_new_session=True,
            )  # fmt: skip
            try:
                out, _ = await asyncio.wait_for(process.communicate(json.dumps(order).encode()), self._timeout_s)
                answer = json.loads(out.rsplit(b"\n", 1)[-1])  # the code under test may have printed before it
            except TimeoutError:
                return {"ok": False, "error": f"no answer within {self._timeout_s:g} s", "tests": 0}
            except ValueError:
                return {"ok": False, "error": "the process died or wrote nonsense", "tests": 0}
            finally:
                with contextlib.suppress(ProcessLookupError):  # whatever the test started goes with it
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        valid = isinstance(answer, dict) and {"ok", "tests", "error"} <= answer.keys()
        return answer if valid else {"ok": False, "error": "the process wrote nonsense", "tests": 0}
