"""D3, memory: within a task (notes) and across tasks (episodes)."""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harnessx.hooks import BeforeModelEvent, Event, Hook, TaskStartEvent, ToolResultEvent
from harnessx.processor import Dimension, Order, Processor
from harnessx.processors.calls import Signature, one_line, signature, spoken


@dataclass
class RunningNotes(Processor):
    """Keeps the latest result of each distinct tool call, and says them before the model answers.

    Notes outlive the history: what a window dropped is still known. The newest note is the last, so
    that what the model reads last is where things stand. Failed calls are not noted.
    """

    hooks = (Hook.AFTER_TOOL, Hook.BEFORE_MODEL)
    group = "memory"
    dimension = Dimension.MEMORY

    max_items: int = 12
    """Most notes kept; the oldest go first."""
    max_chars: int = 160
    """Longest result in a note, in characters."""
    ignore: Sequence[str] = ()
    """Tools of which no notes are taken."""
    _notes: dict[Signature, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_items < 1 or self.max_chars < 1:
            raise ValueError("'max_items' and 'max_chars' must be at least 1")

    def process(self, event: ToolResultEvent | BeforeModelEvent) -> Iterator[Event]:
        if isinstance(event, ToolResultEvent):
            if not event.is_error and event.call.name not in self.ignore:
                self._note(event)
        elif self._notes:
            event = event.remind("\n".join(("Earlier in this task:", *self._notes.values())))
        yield event

    def _note(self, event: ToolResultEvent) -> None:
        call = event.call
        key = signature(call.name, call.arguments)
        note = f"{spoken(call.name, call.arguments)}: {one_line(event.content, self.max_chars)}"
        self._notes.pop(key, None)
        self._notes[key] = note
        if len(self._notes) > self.max_items:
            del self._notes[next(iter(self._notes))]


@dataclass
class EpisodicMemory(Processor):
    """Recalls the past episodes whose tasks are most alike, at the end of the system prompt.

    The asset is JSONL, read-only during a batch: ``{"task": task prompt, "text": what to remember}``.
    Likeness is Okapi BM25 over words (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75); ties keep
    the order of the file. Episodes that share no word with the task are not recalled.

    Raises:
        ValueError: a line of the asset that is not such a row (the message names the line).
    """

    hooks = (Hook.TASK_START,)
    group = "episodic"
    order = Order.POST
    after = ("few_shot",)
    dimension = Dimension.MEMORY

    asset: str
    """Path of the JSONL asset."""
    k: int = 2
    """Most episodes recalled."""
    max_chars: int = 800
    """Longest recalled episode, in characters."""

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        recalled = _index(self.asset, self.ctx.asset(self.asset)).nearest(event.prompt, self.k)
        if recalled:
            lines = [f"- {one_line(text, self.max_chars)}" for text in recalled]
            section = "\n".join(("From similar tasks before:", *lines))
            event = replace(event, system_prompt=f"{event.system_prompt}\n\n{section}".strip())
        yield event


@functools.lru_cache(maxsize=8)
def _index(path: str, jsonl: str) -> _Episodes:
    tasks, texts = [], []
    for number, line in enumerate(jsonl.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            tasks.append(str(row["task"]))
            texts.append(str(row["text"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f'{path}:{number}: not a row {{"task": …, "text": …}}') from error
    return _Episodes(tasks, texts)


class _Episodes:
    """A BM25 index over the tasks of past episodes."""

    def __init__(self, tasks: list[str], texts: list[str]) -> None:
        self._texts = texts
        self._words = [Counter(_words(task)) for task in tasks]
        self._lengths = [sum(words.values()) for words in self._words]
        self._mean = sum(self._lengths) / max(len(tasks), 1)
        holders = Counter(word for words in self._words for word in words)
        self._idf = {w: math.log(1 + (len(tasks) - n + 0.5) / (n + 0.5)) for w, n in holders.items()}

    def nearest(self, task: str, k: int) -> list[str]:
        query = [word for word in dict.fromkeys(_words(task)) if word in self._idf]
        scores = [self._score(query, i) for i in range(len(self._texts))]
        ranking = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: -scores[i])
        return [self._texts[i] for i in ranking[:k]]

    def _score(self, query: list[str], i: int) -> float:
        words, saturation = self._words[i], 1.2 * (0.25 + 0.75 * self._lengths[i] / self._mean)
        return sum(self._idf[w] * words[w] * 2.2 / (words[w] + saturation) for w in query if w in words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
