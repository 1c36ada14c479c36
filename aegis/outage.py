"""Where nothing could be run there is nothing to decide: the run ends with the cause, and can go on later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harnessx.errors import StopReason, UserError
from harnessx.runner.jobs import RolloutResult

BY_CHANCE = 8
"""Of fewer draws, all may be missing without anything being broken."""


class Outage(UserError):
    """Every rollout of an evaluation is missing."""


def check_some_ran(results: Sequence[RolloutResult], split: str) -> None:
    """Refuse to go on with ``results`` that are all missing. Who asks forgets them, so that a resumed run asks again.

    Raises:
        Outage: says how many there were, what broke most often, and what to look at.
    """
    if not results or not all(result.missing for result in results):
        return
    what = f"none of the {len(results)} rollouts on {split} could be run"
    ((cause, _),) = Counter(_cause(result) for result in results).most_common(1)
    raise Outage(f"{what}: {cause}")


def _cause(result: RolloutResult) -> str:
    if result.stop_reason is StopReason.WALL_LIMIT:
        return "each ran out of its wall time; widen the harness's slots.limits.wall_s"
    kind, _, said = result.error.partition(": ")
    if kind == "ModelFailure":
        return f"{said.removeprefix('model: ').rstrip('.')}; see to task_model, its API key and its endpoint"
    return result.error or "no cause is known"
