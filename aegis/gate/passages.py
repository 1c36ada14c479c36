"""Passages that belong to one task, told from those that anybody would write.

In a world of few words a made-up example agrees with some task by chance: of 200 walkthroughs of other
household games, 146 share eight words in a row with exactly one of 560 tasks. So the texts themselves say
how long a passage must be: longer than what `USUAL` of the tasks share with exactly one other task, and
`SPAN` words at least. An honest text that is like another task's text, no more and no less, is then
found in about one case of twenty; a copied one wherever it is longer. Prose shares next to nothing, and
eight words stay eight; the rooms of the household share up to a dozen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from aegis.gate.disguise import words

SPAN = 8
"""Words in a row that make a passage."""
SPAN_CHARS = 16
"""Letters and digits they have at least: eight single digits are no passage."""
USUAL = 0.95
COMPARED = 2000
"""Words of a task, at most, that are compared with other tasks to learn what is usual."""

Words = tuple[str, ...]


class Passages:
    """The texts of the tasks by kind (prompt, answer, observation), and what of them a text repeats."""

    def __init__(self) -> None:
        self._texts: defaultdict[tuple[str, Words], set[str]] = defaultdict(set)
        self._least: dict[str, int] = {}

    def add(self, kind: str, task: str, text: str) -> bool:
        """Add a text of a task; False where it is too short to hold a passage."""
        found = tuple(words(text))
        if len(found) < SPAN:
            return False
        self._texts[kind, found].add(task)
        self._least.pop(kind, None)
        return True

    def least(self, kind: str) -> int:
        """Words that a passage of this kind has at least."""
        if kind not in self._least:
            self._least[kind] = self._unusual(kind)
        return self._least[kind]

    def of_one_task(self, squeezed: str) -> dict[str, set[str]]:
        """The passages (letters only) in a squeezed text that belong to one task, by task."""
        owners, starts = self._shared(squeezed)
        found: dict[str, set[str]] = {}
        for (kind, text), places in starts.items():
            own = [start for start in places if len(owners[_span(text, start)]) == 1]
            for first, last in _runs(own):
                passage = text[first : last + SPAN]
                if len(passage) >= self.least(kind):
                    task = next(iter(owners[_span(text, first)]))
                    found.setdefault(task, set()).add("".join(passage))
        return found

    def _shared(self, squeezed: str) -> tuple[dict[str, set[str]], dict[tuple[str, Words], list[int]]]:
        """Whose the spans are that are in the text, and where in the texts of the tasks they begin."""
        heads = {squeezed[i : i + SPAN_CHARS] for i in range(len(squeezed))}
        owners: defaultdict[str, set[str]] = defaultdict(set)
        starts: defaultdict[tuple[str, Words], list[int]] = defaultdict(list)
        for place, tasks in self._texts.items():
            text = place[1]
            for start in range(len(text) - SPAN + 1):
                span = _span(text, start)
                if span[:SPAN_CHARS] in heads and len(span) >= SPAN_CHARS and span in squeezed:
                    owners[span] |= tasks
                    starts[place].append(start)
        return owners, starts

    def _unusual(self, kind: str) -> int:
        """One word more than the longest passage that `USUAL` of the tasks share with exactly one other."""
        texts = self._compared(kind)
        owners: defaultdict[str, set[str]] = defaultdict(set)
        for text, tasks in texts.items():
            for start in range(len(text) - SPAN + 1):
                owners[_span(text, start)] |= tasks
        longest = Counter({task: 0 for tasks in texts.values() for task in tasks})
        for text, tasks in texts.items():
            shared = [s for s in range(len(text) - SPAN + 1) if len(owners[_span(text, s)]) == 2]
            for first, last in _runs(shared):
                for task in tasks:
                    longest[task] = max(longest[task], last - first + SPAN)
        ranked = sorted(longest.values())
        return max(SPAN, ranked[min(len(ranked) - 1, int(USUAL * len(ranked)))] + 1) if ranked else SPAN

    def _compared(self, kind: str) -> dict[Words, set[str]]:
        """The texts of a kind, with the tasks that have not had their `COMPARED` words yet."""
        room: defaultdict[str, int] = defaultdict(lambda: COMPARED)
        texts: dict[Words, set[str]] = {}
        for (sort, text), tasks in self._texts.items():
            own = {task for task in tasks if room[task] > 0} if sort == kind else set()
            if own:
                texts[text] = own
            for task in own:
                room[task] -= len(text)
        return texts


def _span(text: Words, start: int) -> str:
    return "".join(text[start : start + SPAN])


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of every run of consecutive numbers, which come in order."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run[0], run[-1]
            run = []
        run.append(number)
    if run:
        yield run[0], run[-1]
