"""Candidates made by hand, and the results a gate may see."""

from __future__ import annotations

from evolve_drive import insert

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import Evaluation
from aegis.manifest import Manifest, Signature
from aegis.record import Bucket, Prediction
from harnessx.algebra import Edit
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import RolloutResult
from harnessx.sandbox import BACKENDS

PASSES = "def test_it(build):\n    assert build\n"
REMIND = insert("Instructions", text="Think.")
WALL = next(b.name for b in BACKENDS if b.name in ("landlock", "none") and not b.missing())


def source(body: str, imports: str = "") -> str:
    return f"""\
from dataclasses import dataclass
{imports}
from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        {body}
"""


def result(task: str, attempt: int, passed: bool) -> RolloutResult:
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    return RolloutResult(
        "", task, attempt, "", outcome, StopReason.FINISHED, float(passed), 1, 1, None, 1, 0, "", "", 0.0
    )


def evaluation(**tasks: str) -> Evaluation:
    """``a="01"``: task a failed its first attempt and passed its second."""
    return Evaluation(
        "", "evolve", tuple(result(t, i, o == "1") for t, row in tasks.items() for i, o in enumerate(row))
    )


def candidate(*operations, smoke=None, bucket=("config",)) -> Candidate:
    manifest = Manifest("C-R1-01", "t", tuple(Bucket(b) for b in bucket), (), (), Prediction(),
                        Signature("tool_call", "x"), "f", "r", "t", "a")  # fmt: skip
    return Candidate.of(Proposal(Edit.from_json(operations), manifest, smoke or {}), HarnessConfig(), 1)


def with_code(text: str, test: str) -> Candidate:
    asset = {"op": "set_asset", "path": "assets/x.py", "text": text}
    return candidate(asset, insert("assets/x.py:X"), smoke={"assets/x.py": test})
