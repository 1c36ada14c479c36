"""A lever that remembers: what evolve trajectories taught is merged into the harness's long-term memory.

A lesson is about verbs, never about things: which call helped where another had failed. It counts only if it showed
in several tasks, so it holds nothing that belongs to one; the leak scan reads it like any edit.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from aegis.meta.catalog.lever import Lever, Scene, Variant
from aegis.record import Bucket
from aegis.stages.symptoms import Symptom
from harnessx.algebra import Edit, Insert, SetParam
from harnessx.processors.calls import FAILURES, contains
from harnessx.processors.long_term import Lesson, LongTermMemory, merged
from harnessx.spec import spec_of
from harnessx.trajectory import ToolExchange, Trajectory

TASKS = 3
"""In how many tasks a lesson must show."""
MOST = 12
"""Lessons remembered."""
_VERB = re.compile(r"([a-z]+)(?: |$)")


def lessons(trajectories: Sequence[Trajectory], now: int) -> tuple[Lesson, ...]:
    """What the trajectories taught, the most frequent first."""
    seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for record in trajectories:
        for failed, helped in _helped([call for step in record.steps for call in step.calls]):
            seen[failed, helped].add(record.task_id)
    found = [
        Lesson(f'Where "{failed}" fails, "{helped}" first has helped.', now, len(tasks))
        for (failed, helped), tasks in seen.items()
        if len(tasks) >= TASKS
    ]
    return tuple(sorted(found, key=lambda lesson: (-lesson.tasks, lesson.text)))


def _helped(calls: Sequence[ToolExchange]) -> Iterator[tuple[str, str]]:
    """(verb that failed, verb that came between), for each verb that failed and then, one call later, did not."""
    for first, between, again in zip(calls, calls[1:], calls[2:], strict=False):
        verb, other = _verb(first), _verb(between)
        mended = _failed(first) and not _failed(between) and not _failed(again)
        if mended and verb and other and verb == _verb(again) != other:
            yield verb, other


def _failed(done: ToolExchange) -> bool:
    return done.is_error or contains(done.content, FAILURES)


def _verb(done: ToolExchange) -> str:
    """What a call does, without what it does it to: the first word of its one text, or the tool's name."""
    values = list(done.call.arguments.values())
    found = _VERB.match(values[0]) if len(values) == 1 and isinstance(values[0], str) else None
    return found[1] if found else done.call.name


def _variants(scene: Scene) -> list[Variant]:
    """The memory with what this round's trajectories taught, where that is news."""
    place = next((i for i, traits in enumerate(scene.incumbent.traits) if traits.name == "LongTermMemory"), None)
    params = {} if place is None else dict(scene.incumbent.processors[place].params)
    memory = LongTermMemory(**params)
    now = memory.now + 1
    known = [Lesson.from_json(row) for row in memory.entries]
    fresh = merged(
        known, lessons(scene.trajectories, now), now, half_life=memory.half_life, least=memory.least, most=MOST
    )
    if not {lesson.text for lesson in fresh} - {lesson.text for lesson in known}:
        return []
    entries = [lesson.to_json() for lesson in fresh]
    if place is None:
        edit = Edit((Insert(spec_of(LongTermMemory(entries=entries, now=now))),))
    else:
        edit = Edit((SetParam("long_term", "entries", entries), SetParam("long_term", "now", now)))
    said = "What helped in several tasks is remembered in all."
    return [Variant(f"remember {len(fresh)} lessons, merge {now}", edit, said)]


LEVERS = (
    Lever(
        "long-term memory", Bucket.CONFIG,
        {Symptom.EXHAUSTED: 0.4, Symptom.REPEATED_CALL: 0.4, Symptom.MALFORMED_CALL: 0.2}, _variants,
    ),
)  # fmt: skip
