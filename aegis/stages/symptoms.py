"""What a trajectory shows without anybody's judgement: the deterministic part of the Digester.

A symptom is a pattern of calls and results that holds in any benchmark. Each comes with the steps
that show it, so that evidence can be anchored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harnessx.canonical import canonical_json
from harnessx.errors import Outcome, StopReason
from harnessx.messages import ToolCall
from harnessx.trajectory import Step, Trajectory


class Symptom(StrEnum):
    """Failure categories, the most specific first."""

    CRASH = "crash"
    MALFORMED_CALL = "malformed_call"
    STOPPED_EARLY = "stopped_early"
    REPEATED_CALL = "repeated_call"
    UNADDRESSED_GOAL = "unaddressed_goal"
    FORGETTING = "forgetting"
    LONG_CONTEXT = "long_context"
    EXHAUSTED = "exhausted"


LONG_CONTEXT_CHARS = 2500
_WORD = re.compile(r"[a-z]{3,}")
_STOP_WORDS = frozenset(
    "the and for are you your with from into that this some then put task them its one two any find".split()
)


@dataclass(frozen=True, slots=True)
class Observation:
    """One symptom and the steps that show it."""

    symptom: Symptom
    steps: tuple[int, ...]
    detail: str


def observe(record: Trajectory) -> list[Observation]:
    """The symptoms of one unsuccessful trajectory, most specific first; at least one."""
    if record.outcome is Outcome.HARNESS_ERROR:
        last = record.steps[-1].index if record.steps else 0
        return [Observation(Symptom.CRASH, (last,), record.error)]
    calls = [(step, call) for step in record.steps for call in _calls(step)]
    found = [
        _malformed(record),
        _stopped_early(record),
        _repeated(calls),
        _unaddressed(record, calls),
        _forgetting(calls),
        _long_context(record),
    ]
    observations = [o for o in found if o is not None]
    if not observations:
        last = record.steps[-1].index if record.steps else 0
        observations.append(Observation(Symptom.EXHAUSTED, (last,), f"ended by {record.stop_reason}"))
    return observations


def _calls(step: Step) -> tuple[ToolCall, ...]:
    return tuple(call for exchange in step.exchanges for call in exchange.response.tool_calls)


_REFUSED = ("There is no tool named", "The arguments of", "The call was blocked", "The call did not run")
"""How the loop begins what it tells a model of a call that no tool was run for."""


def _malformed(record: Trajectory) -> Observation | None:
    """Calls that never reached a tool as they were meant: one of the world, or the harness's own."""
    steps = []
    for step, after in zip(record.steps, [*record.steps[1:], None], strict=True):
        reached = Counter(e.call.name for e in step.calls)
        for call in _calls(step):
            ran = reached[call.name] or _told(call, after)
            if call.raw is not None or not ran or any(e.is_error for e in step.calls):
                steps.append(step.index)
                break
    return Observation(Symptom.MALFORMED_CALL, tuple(steps), f"{len(steps)} calls did not run") if steps else None


def _told(call: ToolCall, after: Step | None) -> bool:
    """Whether the next request tells a result of ``call`` that the loop did not make up."""
    told = (m.text for e in (after.exchanges if after else ()) for m in e.sent if m.tool_call_id == call.id)
    return any(not text.startswith(_REFUSED) for text in told)


def _stopped_early(record: Trajectory) -> Observation | None:
    if record.stop_reason is not StopReason.FINISHED or not record.steps:
        return None
    return Observation(Symptom.STOPPED_EARLY, (record.steps[-1].index,), f"ended with: {record.answer[:120]}")


def _repeated(calls: list[tuple[Step, ToolCall]]) -> Observation | None:
    """The same call three times in a row."""
    run: list[int] = []
    previous = ""
    for step, call in calls:
        text = _text(call)
        run = [*run, step.index] if text == previous else [step.index]
        previous = text
        if len(run) >= 3:
            return Observation(Symptom.REPEATED_CALL, tuple(run), f"again and again: {text}")
    return None


def _unaddressed(record: Trajectory, calls: list[tuple[Step, ToolCall]]) -> Observation | None:
    """A word of the task's last sentence that no call ever used."""
    goal = goal_words(record)
    used = set(_WORD.findall(" ".join(_text(call) for _, call in calls).lower()))
    unused = [word for word in goal if not any(_related(word, other) for other in used)]
    if not unused or not record.steps:
        return None
    return Observation(Symptom.UNADDRESSED_GOAL, (1, record.steps[-1].index), f"never acted on: {', '.join(unused)}")


def goal_words(record: Trajectory) -> list[str]:
    """Content words of the last sentence of the task's prompt."""
    first = record.steps[0].exchanges[0].sent if record.steps and record.steps[0].exchanges else ()
    prompt = first[0].text if first else ""
    last = prompt.strip().rsplit("\n", 1)[-1].lower()
    last = last.rsplit(":", 1)[-1]
    return [word for word in dict.fromkeys(_WORD.findall(last)) if word not in _STOP_WORDS]


def _related(a: str, b: str) -> bool:
    return a.startswith(b[:4]) or b.startswith(a[:4])


def _forgetting(calls: list[tuple[Step, ToolCall]]) -> Observation | None:
    """A third of the calls had been made before."""
    seen: Counter[str] = Counter()
    again = []
    for step, call in calls:
        text = _text(call)
        if seen[text]:
            again.append(step.index)
        seen[text] += 1
    if len(again) < 4 or len(again) * 3 < len(calls):
        return None
    return Observation(Symptom.FORGETTING, tuple(again[:8]), f"{len(again)} of {len(calls)} calls repeat earlier ones")


def _long_context(record: Trajectory) -> Observation | None:
    size = 0
    for step in record.steps:
        size += sum(len(m.text) for e in step.exchanges for m in e.sent)
        if size > LONG_CONTEXT_CHARS:
            return Observation(Symptom.LONG_CONTEXT, (step.index,), f"over {LONG_CONTEXT_CHARS} characters of history")
    return None


def _text(call: ToolCall) -> str:
    values: Mapping[str, object] = call.arguments
    if call.raw is not None:
        return f"{call.name} {call.raw}"
    return (
        " ".join(str(v) for v in values.values()) if len(values) == 1 else f"{call.name} {canonical_json(dict(values))}"
    )
