"""D3, memory across tasks: what was learnt, from how many tasks and when; what is not learnt again fades."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.hooks import Event, Hook, TaskStartEvent
from harnessx.processor import Dimension, Order, Processor
from harnessx.processors.calls import one_line


@dataclass(frozen=True, slots=True)
class Lesson:
    """One thing learnt, with its provenance: the merge that learnt it last, and in how many tasks it showed."""

    text: str
    merge: int
    tasks: int

    def weight(self, now: int, half_life: float) -> float:
        """The number of tasks, halved every ``half_life`` merges since."""
        return float(self.tasks * 0.5 ** ((now - self.merge) / half_life))

    def to_json(self) -> dict[str, Any]:
        """As an entry of a memory."""
        return {"text": self.text, "merge": self.merge, "tasks": self.tasks}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Lesson:
        """Inverse of `to_json`.

        Raises:
            ValueError: it is no entry.
        """
        known = {"text": str, "merge": int, "tasks": int}
        if not isinstance(row, Mapping) or set(row) != set(known):
            raise ValueError(f"an entry has text, merge and tasks, not {row!r:.200}")
        if any(not isinstance(row[key], kind) or isinstance(row[key], bool) for key, kind in known.items()):
            raise ValueError(f"an entry has a text and two whole numbers, not {row!r:.200}")
        if row["tasks"] < 1 or row["merge"] < 0:
            raise ValueError(f"an entry was learnt from at least one task, at merge 0 or later, not {row!r:.200}")
        return cls(**row)


def merged(
    known: Sequence[Lesson], fresh: Sequence[Lesson], now: int, *, half_life: float, least: float, most: int
) -> tuple[Lesson, ...]:
    """What is remembered after a merge: fresh lessons renew equal ones; what weighs less than ``least`` is forgotten.

    At most ``most``, the heaviest first; ties by text, so that the order of learning does not matter.
    """
    by_text = {lesson.text: lesson for lesson in known}
    for lesson in fresh:
        old = by_text.get(lesson.text)
        weight = round(old.weight(now, half_life)) if old is not None else 0
        by_text[lesson.text] = Lesson(lesson.text, now, lesson.tasks + weight)
    kept = [lesson for lesson in by_text.values() if lesson.weight(now, half_life) >= least]
    return tuple(sorted(kept, key=lambda lesson: (-lesson.weight(now, half_life), lesson.text))[:most])


@dataclass
class LongTermMemory(Processor):
    """Says what was learnt in earlier tasks, at the end of the system prompt.

    Its entries are parameters: nothing is written while tasks run. What they taught is merged between rounds, by an
    edit that has to prove itself like any other (`merged`).

    Raises:
        ValueError: an entry that is none.
    """

    hooks = (Hook.TASK_START,)
    group = "long_term"
    order = Order.POST
    after = ("few_shot", "episodic")
    dimension = Dimension.MEMORY

    entries: Sequence[Mapping[str, Any]] = ()
    """``{text, merge, tasks}``: what was learnt, at which merge last, in how many tasks."""
    now: int = 0
    """The number of the last merge."""
    half_life: float = 3.0
    """Merges after which what was not learnt again weighs half."""
    least: float = 1.0
    """Entries that weigh less are not said."""
    k: int = 8
    """Most entries said."""
    _lessons: tuple[Lesson, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.half_life <= 0 or self.k < 1:
            raise ValueError("'half_life' must be above 0 and 'k' at least 1")
        known = [Lesson.from_json(row) for row in self.entries]
        self._lessons = merged(known, (), self.now, half_life=self.half_life, least=self.least, most=self.k)

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        if self._lessons:
            said = [f"- {one_line(lesson.text, 300)}" for lesson in self._lessons]
            section = "\n".join(("Learnt from earlier tasks:", *said))
            event = replace(event, system_prompt=f"{event.system_prompt}\n\n{section}".strip())
        yield event
