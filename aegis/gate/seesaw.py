"""The paper's rule, for comparison: no task solved before may be unsolved after (paper §3).

On the cached evolve attempts, pass@k as in the paper. It rejects an identical copy with fresh
randomness most of the time and accepts noise the rest (PAPER §6).
"""

from __future__ import annotations

from aegis.evaluator import Evaluation
from aegis.gate.base import Finding
from harnessx.runner.jobs import RolloutResult


def solved(results: tuple[RolloutResult, ...] | list[RolloutResult]) -> set[str]:
    """Tasks passed on any attempt."""
    return {r.task_id for r in results if r.passed}


def seesaw(baseline: Evaluation, candidate: Evaluation) -> Finding | None:
    """None when every task the incumbent solved is still solved, and at least one more is."""
    before, after = solved(baseline.results), solved(candidate.results)
    broken = sorted(before - after)
    if broken:
        return Finding("seesaw", f"{len(broken)} solved tasks regress: {', '.join(broken[:5])}")
    if not after - before:
        return Finding("seesaw", "no further task is solved")
    return None
