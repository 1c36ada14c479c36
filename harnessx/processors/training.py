"""D9, training bridge: rollouts as rows that trainers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harnessx.errors import Outcome, UserError
from harnessx.hooks import Event, Hook, TaskEndEvent, TaskStartEvent
from harnessx.messages import Message
from harnessx.processor import Dimension, Order, Processor
from harnessx.trajectory import Trajectory

if TYPE_CHECKING:
    from datasets import Features


@dataclass
class TrainingExport(Processor):
    """Leaves the finished conversation as the claim ``training``: one chat-format row.

    A claim is what the harness says of itself; `export_dataset` reads the host's record instead.
    """

    hooks = (Hook.TASK_START, Hook.TASK_END)
    group = "training_export"
    order = Order.POST
    dimension = Dimension.TRAINING

    _system: str = field(default="", init=False, repr=False)

    def process(self, event: TaskStartEvent | TaskEndEvent) -> Iterator[Event]:
        if isinstance(event, TaskStartEvent):
            self._system = event.system_prompt
        else:
            self.ctx.claims["training"] = {
                "task": event.task_id,
                "attempt": self.ctx.attempt,
                "stop_reason": event.stop_reason.value,
                "messages": chat(self._system, event.messages),
            }
        yield event


def chat(system: str, messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages in the chat-completions format; arguments of calls are JSON text."""
    rows: list[dict[str, Any]] = [_row(Message("system", system))] if system else []
    return rows + [_row(message) for message in messages]


def _row(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.text,
        "tool_calls": [call.to_chat() for call in message.tool_calls],
        "tool_call_id": message.tool_call_id,
    }


def training_rows(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    """One row per answer of the agent: the exact ``prompt`` it saw, and its ``completion``.

    Each answer is so replayed under its own harness's prompt, reminders included, and loss falls on
    the completion alone (paper §4). Token ids and log-probabilities are there where the model gave
    them. Answers of other paths (judges, sub-agents) are not the agent's and are left out.
    """
    system, request = "", list[Message]()
    for step in trajectory.steps:
        for exchange in step.exchanges:
            if exchange.path != "main":
                continue
            system = system if exchange.system is None else exchange.system
            request = [*request[: exchange.kept], *exchange.sent]
            answer = exchange.response
            yield {
                "task": trajectory.task_id,
                "attempt": trajectory.attempt,
                "harness": trajectory.harness,
                "step": step.index,
                "prompt": chat(system, request),
                "completion": chat("", [answer.to_message()]),
                "reward": trajectory.reward,
                "passed": trajectory.passed,
                "token_ids": list(answer.token_ids or ()),
                "logprobs": list(answer.logprobs or ()),
            }


def export_dataset(trajectories: Iterable[Trajectory], path: Path | str, *, min_reward: float | None = None) -> Path:
    """Write trajectories as a Hugging Face dataset on disk, for RL (all) or SFT (``min_reward``).

    The columns are those of `training_rows`; ``task`` is the GRPO group, whatever the harness.
    Trajectories that no verifier scored are left out. Read it with ``datasets.load_from_disk``.

    Raises:
        UserError: nothing qualifies, so there would be no row.
    """
    from datasets import Dataset

    rows = [
        row
        for trajectory in trajectories
        if trajectory.outcome in (Outcome.PASSED, Outcome.FAILED)
        and (min_reward is None or trajectory.reward >= min_reward)
        for row in training_rows(trajectory)
    ]
    if not rows:
        bound = "" if min_reward is None else f" with a reward of at least {min_reward}"
        raise UserError(f"nothing to write to {path}: no scored trajectory{bound} has an answer; score some first")
    Dataset.from_list(rows, features=_features()).save_to_disk(str(path))
    return Path(path)


def _features() -> Features:
    """The column types, stated so that data sets of different rounds concatenate."""
    from datasets import Features, List, Value

    text, integer = Value("string"), Value("int64")
    call = {"id": text, "type": text, "function": {"name": text, "arguments": text}}
    message = {"role": text, "content": text, "tool_calls": List(call), "tool_call_id": text}
    return Features(
        task=text,
        attempt=integer,
        harness=text,
        step=integer,
        prompt=List(message),
        completion=List(message),
        reward=Value("float64"),
        passed=Value("bool"),
        token_ids=List(integer),
        logprobs=List(Value("float64")),
    )
