"""Check 3b: an edit holds nothing that belongs to one task: no name, no passage, no answer.

Read are all texts of the edited harness (assets, prompts, parameters, tool descriptions, examples) in
every disguise of `aegis.gate.disguise`; what the incumbent holds already is not the edit's. Found are

* identifiers of tasks of any split;
* passages: `SPAN` words or more in a row that occur in the prompts, solutions and observations of one
  single task, and are longer than chance would have it (`aegis.gate.passages`);
* whole prompts and whole answers (where a benchmark tells them, `harnessx.tasks.HasSecrets`), short ones
  too unless they are one plain word or number.

Observations are those of the evolve rollouts of this run, errors left out. Prompts and answers are those
of all splits, but nothing here quotes or names a task that is not an evolve task: the finding is read by
stages. That there is a finding tells a proposer that its guess was right, one bit for each candidate.

One kind of passage is allowed: worked examples (``FewShot.examples``) may show ``demonstrations`` evolve
tasks; an example of one task is no answer sheet.

What gets through: shorter passages (in the household, most single observations), paraphrases, answers of
one word, and a table under keys of one's own making. They can be about evolve tasks only, and a gain on
those ships nothing: what ships is confirmed on validation tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE
from aegis.gate.base import Finding
from aegis.gate.disguise import TooMuch, leaves, opaque, pieces, readings, squeeze, words
from aegis.gate.passages import SPAN, SPAN_CHARS, Passages
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

WHOLE_CHARS = 6
"""Letters and digits that an identifier, a short prompt or a short answer has at least, to be looked for."""
RUN = 6
"""Words over which an identifier may be spread by punctuation."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What was found: the kind of thing, the task it belongs to, and its letters."""

    kind: str
    task: str
    text: str


class Corpus:
    """What belongs to the tasks. ``secrets`` gives the texts that give a task away."""

    def __init__(self, tasks: Mapping[str, Sequence[Task]], secrets: Callable[[Task], Sequence[str]]) -> None:
        self.evolve = {task.id: task for task in tasks[EVOLVE]}
        self._names: dict[str, str] = {}
        self._whole: defaultdict[str, set[str]] = defaultdict(set)
        self._passages = Passages()
        for split in tasks.values():
            for task in split:
                if _telling(squeeze(task.id)):
                    self._names[squeeze(task.id)] = task.id
                self._add("prompt", task.id, task.prompt)
                for secret in secrets(task):
                    self._add("answer", task.id, secret)

    def observe(self, trajectories: Sequence[Trajectory]) -> None:
        """Add what evolve rollouts were shown."""
        for trajectory in trajectories:
            task = trajectory.task_id
            seen = {done.content for step in trajectory.steps for done in step.all_calls if not done.is_error}
            if trajectory.steps and trajectory.steps[0].exchanges and task in self.evolve:
                prompt = self.evolve[task].prompt
                first = (message.text for message in trajectory.steps[0].exchanges[0].sent)
                seen |= {text.removeprefix(prompt) for text in first if text.startswith(prompt)}
            for text in sorted(seen):
                self._passages.add("observation", task, text)

    def _add(self, kind: str, task: str, text: str) -> None:
        self._passages.add(kind, task, text)
        whole, several = squeeze(text), len(words(text)) > 1
        if _telling(whole) or (several and len(whole) >= SPAN_CHARS):
            self._whole[whole].add(task)

    def hits(self, texts: Sequence[str]) -> frozenset[Hit]:
        """Everything in the texts that belongs to one task.

        Raises:
            TooMuch: they hide too much to be read.
        """
        read = readings(texts)
        squeezed = "\0".join(squeeze(text) for text in read)
        runs = _runs(read)
        found = {Hit("name", task, name) for name, task in self._names.items() if name in runs}
        for text, tasks in self._whole.items():
            there = text in squeezed if len(text) >= SPAN_CHARS else text in runs
            if there and len(tasks) == 1:
                found.add(Hit("text", next(iter(tasks)), text))
        for task, passages in self._passages.of_one_task(squeezed).items():
            found |= {Hit("passage", task, passage) for passage in passages}
        return frozenset(found)


def _telling(text: str) -> bool:
    """Whether it is long, and neither a plain word nor a plain number: what is found is no coincidence."""
    return len(text) >= WHOLE_CHARS and any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def _runs(texts: Sequence[str]) -> set[str]:
    """Every run of up to `RUN` neighbouring words, joined."""
    runs: set[str] = set()
    for text in texts:
        found = words(text)
        for start in range(len(found)):
            run = ""
            for word in found[start : start + RUN]:
                run += word
                runs.add(run)
    return runs


class LeakScan:
    """Nothing in an edit belongs to one task."""

    name = "leak"

    def __init__(self, corpus: Corpus, demonstrations: int = 1) -> None:
        self._corpus, self._demonstrations = corpus, demonstrations
        self._known: dict[str, frozenset[Hit]] = {}

    async def __call__(self, candidate: Candidate) -> Finding | None:
        try:
            known = self._hits(candidate.parent)
            hits = self._hits(candidate.harness) - known
        except TooMuch as error:
            return Finding(self.name, str(error))
        blobs = [
            name for name, texts in _parts(candidate.harness).items() if any(map(opaque, texts))
            and texts != _parts(candidate.parent).get(name)
        ]  # fmt: skip
        if not hits and not blobs:
            return None
        said = [self._say(candidate.harness, hit) for hit in sorted(hits, key=lambda h: (h.kind, h.task, h.text))]
        said += [f"{name} holds data that nobody can read: write it as text" for name in blobs]
        outside = any(hit.kind == "name" and hit.task not in self._corpus.evolve for hit in hits)
        return Finding(self.name, "; ".join(list(dict.fromkeys(said))[:5]), flagged=outside)

    def _hits(self, harness: HarnessConfig) -> frozenset[Hit]:
        if harness.digest not in self._known:
            self._known[harness.digest] = self._judge(harness)
        return self._known[harness.digest]

    def _judge(self, harness: HarnessConfig) -> frozenset[Hit]:
        """What the harness holds, without the passages of the tasks that its examples may show."""
        parts = _parts(harness)
        examples = [text for spec in harness.processors if _is_few_shot(spec.target) for text in leaves(spec.params)]
        hits = self._corpus.hits([text for texts in parts.values() for text in texts])
        if not hits or not examples:
            return hits
        shown = {hit for hit in self._corpus.hits(examples) if hit.kind != "name"}
        tasks = {hit.task for hit in shown}
        if len(tasks) > self._demonstrations or not tasks <= self._corpus.evolve.keys():
            return hits
        others = [text for name, texts in parts.items() if not _is_few_shot(name) for text in texts]
        return (hits - shown) | self._corpus.hits(others)

    def _say(self, harness: HarnessConfig, hit: Hit) -> str:
        """The finding in words. A task outside the evolve split is neither named nor quoted."""
        parts = _parts(harness)
        where = next((name for name, texts in parts.items() if hit in self._corpus.hits(texts)), "the edit, in pieces,")
        whose = hit.task if hit.task in self._corpus.evolve else "a task that is not for evolving"
        what = {
            "name": f"names {whose}",
            "text": f"holds the prompt or the answer of {whose}",
            "passage": f"repeats {SPAN} words or more that belong to {whose} alone",
        }[hit.kind]
        return f"{where.partition('#')[0]} {what}; an edit must generalise"


def _is_few_shot(target: str) -> bool:
    return target.startswith("harnessx.processors") and target.partition("#")[0].endswith(".FewShot")


def _parts(harness: HarnessConfig) -> dict[str, list[str]]:
    """The texts of a harness by component."""
    parts: dict[str, list[str]] = {}
    for path, text in harness.assets.items():
        parts[path] = [path, text, *(pieces(text) if path.endswith(".py") else ())]
    for index, spec in enumerate(harness.processors):
        parts[f"{spec.target}#{index}"] = list(leaves(spec.params))
    parts["slots"] = list(leaves(harness.slots.to_json()))
    return parts
