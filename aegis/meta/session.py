"""One question to one role: its harness is run to an answer that can be read, or to the reason why there is none.

A session's model calls are recorded under its own scope, so that a run taken up again asks nothing twice. What a
model failed with is recorded too: it would be another session if it were asked again and answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aegis.meta.answers import Unreadable
from aegis.meta.base import NoAnswer
from aegis.meta.desk import Reader
from aegis.meta.workbench import Workbench
from aegis.record_session import Duty, Ending, SessionRecord
from harnessx.errors import Halt, LimitReached, ModelFailure, Outage, Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.messages import ModelRequest, ModelResponse
from harnessx.model_config import ModelConfig, Models
from harnessx.models.base import CallContext
from harnessx.models.spend import Spend
from harnessx.runner.cassette import Cassette, ResponseTape
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.slots import writable
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

T = TypeVar("T")

REPAIR_STEPS = 3
SHOWN = 6_000
"""Characters of an answer that is shown again to whoever is asked to mend it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: which duty, about what, in which round, on which incumbent."""

    round: int
    incumbent: str
    duty: Duty
    name: str
    said: str = ""

    @property
    def scope(self) -> str:
        """Where its recordings are kept."""
        return f"meta/R{self.round}/{self.incumbent[:12]}/{self.duty}/{self.name}"

    @property
    def file(self) -> str:
        """Where its transcript is kept, in the folder of the run."""
        return f"R{self.round}/meta/{self.duty}-{self.name}-{self.incumbent[:8]}.jsonl"


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """A session that is over. ``value`` is None where there is no answer, for the reason in the record."""

    value: T | None
    record: SessionRecord
    spend: Spend

    def given(self) -> T:
        """The answer.

        Raises:
            NoAnswer: there is none.
        """
        if self.value is None:
            raise NoAnswer(f"no answer to {self.record.duty} {self.record.name}: {self.record.problem}")
        return self.value


class _Lasting:
    """Models whose failures last: what one failed with, it fails with again when the session is taken up again."""

    def __init__(self, models: Models, cassette: Cassette) -> None:
        self._models, self._cassette = models, cassette
        self.roles, self.sampled, self.questions, self.read = (
            models.roles, models.sampled, models.questions, models.read
        )  # fmt: skip

    async def ask(self, request: ModelRequest, context: CallContext) -> tuple[int, ModelResponse]:
        """Answer, or fail as before."""
        key = f"failed:{context.path}:{request.digest()}:{context.n}"
        known = self._cassette.read(key)
        if known is not None:
            kind, said = json.loads(known.body)
            raise ModelFailure(said, transient=False) if kind == "model" else LimitReached(StopReason(kind), said)
        try:
            place, answer = await self._models.ask(request, context)
            if not writable(json.dumps(answer.to_json(), ensure_ascii=False)):
                raise ModelFailure("an answer that no encoding can hold", transient=False)
            return place, answer
        except Halt:
            raise
        except ModelFailure as failure:
            self._cassette.write(key, self._cassette.scope, ["model", str(failure).removeprefix("model: ")])
            raise
        except LimitReached as limit:
            self._cassette.write(key, self._cassette.scope, [limit.reason.value, str(limit)])
            raise


async def ask(
    bench: Workbench,
    asked: Asked,
    harness: HarnessConfig,
    model: ModelConfig,
    prompt: str,
    desk: Reader,
    read: Callable[[str], T],
) -> Answered[T]:
    """Run the session. An answer that ``read`` refuses is asked for once more, with what is wrong with it.

    Raises:
        BudgetSpent, Outage: the session was cut off, and goes on when the run does.
    """
    cassette = bench.cassette(asked.scope)
    models = _Lasting(bench.models(model), cassette)
    tape = ResponseTape(cassette)

    async def play(text: str, attempt: int, rule: HarnessConfig) -> Trajectory:
        rollout = Rollout(rule, Task(text, asked.name), attempt, bench.seed, key=asked.scope, model=model.digest)
        record = await run_rollout(rollout, models, desk, None, tape=tape)  # type: ignore[arg-type]
        _raise_what_halted(bench, desk, record)
        return record

    records = [await play(prompt, 0, harness)]
    value, problem = _value(records[0], read)
    ending = Ending.ANSWERED
    if value is None:
        mending = _mending(harness, records[0])
        if mending is not None:
            records.append(await play(_again(prompt, records[0].answer, problem), 1, mending))
            value, still = _value(records[1], read)
            problem = still or problem
        ending = Ending.NO_ANSWER if value is None else Ending.REPAIRED
    bench.store.write_text(asked.file, "".join(record.to_jsonl() for record in records))
    spend = sum((paid for record in records for paid in record.paid.values()), Spend())
    return Answered(value, _record(asked, records, desk, ending, problem, spend), spend)


def _raise_what_halted(bench: Workbench, desk: Reader, record: Trajectory) -> None:
    if desk.broken is not None:
        raise desk.broken
    if record.halt is not None:
        raise bench.teller.refused or Outage(record.halt.reason.replace("task_model", "meta.model"))


def _value(record: Trajectory, read: Callable[[str], T]) -> tuple[T | None, str]:
    """The answer of a session, or what is wrong with it."""
    if record.outcome in (Outcome.INFRA_ERROR, Outcome.HARNESS_ERROR):
        return None, record.error
    try:
        return read(record.answer), ""
    except Unreadable as error:
        ended = "" if record.stop_reason is StopReason.FINISHED else f"the session ended by {record.stop_reason}; "
        return None, f"{ended}{error}"


def _mending(harness: HarnessConfig, record: Trajectory) -> HarnessConfig | None:
    """The same harness for a few steps more, with what is left of its budget; None where nothing is."""
    if record.outcome in (Outcome.INFRA_ERROR, Outcome.HARNESS_ERROR):
        return None
    limits, used = harness.slots.limits, record.usage
    left = None if limits.tokens is None else limits.tokens - used.total_tokens
    money = None if limits.cost_usd is None else limits.cost_usd - (used.cost_usd or 0.0)
    if (left is not None and left <= 0) or (money is not None and money <= 0):
        return None
    mending = harness.set_slot("limits.steps", REPAIR_STEPS).set_slot("limits.tokens", left)
    return mending.set_slot("limits.cost_usd", money)


def _again(prompt: str, answer: str, problem: str) -> str:
    """The question once more, with the answer that could not be used."""
    return (
        f"{prompt}\n\n# Your answer could not be used\n\nWhat is wrong: {problem}\n\nIt was:\n\n{answer[:SHOWN]}\n\n"
        "Answer once more, with the JSON object alone. There is no further try."
    )


def _record(
    asked: Asked, records: list[Trajectory], desk: Reader, ending: Ending, problem: str, spend: Spend
) -> SessionRecord:
    served = [e.response.model for r in records for s in r.steps for e in s.exchanges if e.response.model]
    return SessionRecord(
        round=asked.round,
        duty=asked.duty,
        name=asked.name,
        model=served[-1] if served else "",
        ending=ending,
        problem=problem,
        said=asked.said,
        steps=sum(len(record.steps) for record in records),
        tools=dict(sorted(desk.calls.items())),
        refused=desk.refused,
        tokens=spend.tokens,
        usd=spend.usd,
    )
