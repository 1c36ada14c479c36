"""What a runner is asked to do, and what it answers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harnessx.canonical import digest_of
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.models.spend import Spend
from harnessx.tasks import Task


@dataclass(frozen=True, slots=True)
class Job:
    """Several harnesses on one (split, task, attempt), in this order, sharing one response tape.

    The order is the coupling: what an earlier arm asked, a later one replays. ``keep_tape`` keeps the
    tape in memory for later jobs of the same scope; ``trajectories`` returns the full records; a
    ``confirming`` job's missing results are kept too (a resumed run may not try its luck again), and its
    tape replays only what `Freshness` allows.
    """

    split: str
    task: Task
    attempt: int
    arms: tuple[HarnessConfig, ...]
    keep_tape: bool = False
    trajectories: bool = False
    confirming: bool = False

    @property
    def scope(self) -> str:
        """The scope of the response tape, without the benchmark (one store serves one benchmark)."""
        return f"{self.split}/{self.task.id}/{self.attempt}"


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """The summary of a finished rollout.

    ``requests`` is the hash of all requests it made, in order: two arms with equal ``requests`` never
    diverged. ``trail`` marks each request and action, four characters each, the one that failed included:
    up to the first difference, two arms have the same trail.
    """

    key: str
    task_id: str
    attempt: int
    harness: str
    outcome: Outcome
    stop_reason: StopReason
    reward: float
    steps: int
    tokens: int
    cost_usd: float | None
    model_calls: int
    replayed_calls: int
    requests: str
    error: str
    wall_s: float
    trail: str = ""
    side_calls: int = 0
    """Model calls asked for by processors; ``model_calls`` counts them too."""
    tool_calls: int = 0
    """Tool calls that reached the environment."""
    paid: Mapping[str, Spend] = field(default_factory=dict)
    """What its model calls cost, by account; those that replayed another rollout's cost nothing."""

    @property
    def passed(self) -> bool:
        """Whether the verifier accepted it."""
        return self.outcome is Outcome.PASSED

    @property
    def missing(self) -> bool:
        """Whether the world, not the agent, is to blame."""
        return self.outcome is Outcome.INFRA_ERROR

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "paid": {account: spend.to_json() for account, spend in self.paid.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RolloutResult:
        """Inverse of `to_json`; what a store adds is passed over."""
        fields = {name: data[name] for name in cls.__slots__ if name in data}
        outcome, stop_reason = Outcome(data["outcome"]), StopReason(data["stop_reason"])
        paid = {account: Spend(*row) for account, row in data.get("paid", {}).items()}
        return cls(**{**fields, "outcome": outcome, "stop_reason": stop_reason, "paid": paid})


@functools.cache
def code_hash() -> str:
    """Hash of this package's source: a rollout of other code is another rollout."""
    root = Path(__file__).parents[1]
    tree = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        tree.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return tree.hexdigest()


def rollout_key(harness: str, model: str, benchmark: str, split: str, task: str, attempt: int, seed: int) -> str:
    """The identity of a rollout (digests in, digest out): the same key is not run twice."""
    return digest_of([harness, model, benchmark, split, task, attempt, seed, code_hash()])
