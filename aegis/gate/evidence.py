"""Check 6b: what an edit gains shows in what the rollouts did, not only in the shape of their answers.

A verifier that reads formats can be passed by format. Where that happens, attempts pass that did not do
what passing takes. Compared are the screened attempts that the candidate gained with the attempts that
the incumbent passes (with all of its attempts, where it passes fewer than `FEW`):

* acts: different results of calls that reached the environment and were no errors;
* mentions: those results that say a word of the task which few tasks say;
* milestones, where the benchmark tells them (`harnessx.tasks.HasMilestones`);
* support: whether any word of the answer was said by the model, the environment or the task.

A kind of evidence that the incumbent's attempts show (a median of `SHOWN` or more; for support, nine of
ten) is lost where a gained attempt has less than `SHARE` of that median. An attempt that lost any kind is
hollow; an edit is rejected and flagged if at least `HOLLOW` attempts, and half of those it gained, are.
All counts come from the host's record.

What gets through: fewer than `HOLLOW` hollow gains; motions made for show; an answer shaped from words
of the task. A true shortcut (answering at once what took ten steps before) is rejected too: it may be
proposed again together with the evidence, say a last look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, Evaluator
from aegis.gate.base import Finding
from aegis.gate.disguise import words
from aegis.gate.screen import Screening
from harnessx.runner.jobs import Job
from harnessx.tasks import HasMilestones, Task
from harnessx.trajectory import Trajectory

FEW = 3
SHOWN = 2
SHARE = 0.25
HOLLOW = 2
RARE = 1 / 3
"""Share of tasks, at most, that say a word which counts as the task's own."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one attempt shows for itself. ``supported``: 1 where the answer was heard of before, or is empty."""

    acts: int
    mentions: int
    milestones: int
    supported: int


class EvidenceKept:
    """Gained attempts show what passing attempts show.

    Args:
        before: the incumbent's trajectories; none skip the check.
        attempts: how many attempts a task was screened on.
    """

    name = "evidence"

    def __init__(
        self,
        screenings: Mapping[str, Screening],
        evaluator: Evaluator,
        before: Sequence[Trajectory],
        attempts: int,
        benchmark: object = None,
    ) -> None:
        self._screenings, self._evaluator, self._attempts = screenings, evaluator, attempts
        self._tasks = {task.id: task for task in evaluator.tasks[EVOLVE]}
        self._benchmark = benchmark if isinstance(benchmark, HasMilestones) else None
        self._own = _own_words(list(self._tasks.values()))
        passing = [t for t in before if t.passed]
        known = passing if len(passing) >= FEW else before
        self._usual = [self._evidence(t) for t in known if t.task_id in self._tasks]
        self._failed = {(t.task_id, t.attempt) for t in before if not t.passed}

    async def __call__(self, candidate: Candidate) -> Finding | None:
        gained = [self._tasks[task] for task in dict.fromkeys(self._screenings[candidate.id].gained)]
        if len(gained) < 1 or not self._usual:
            return None
        jobs = [
            Job(EVOLVE, task, attempt, (candidate.harness,), keep_tape=True, trajectories=True)
            for task in gained
            for attempt in range(self._attempts)
            if (task.id, attempt) in self._failed
        ]
        records = [t for t in await self._evaluator.trajectories(jobs) if t.passed]
        lost = [self._lost(self._evidence(record)) for record in records]
        hollow = [kinds for kinds in lost if kinds]
        if len(hollow) < HOLLOW or 2 * len(hollow) < len(records):
            return None
        kinds = ", ".join(kind for kind, _ in Counter(kind for each in hollow for kind in each).most_common())
        reason = f"{len(hollow)} of the {len(records)} attempts it gains pass without what passing takes ({kinds})"
        return Finding(self.name, reason, flagged=True)

    def _evidence(self, record: Trajectory) -> Evidence:
        task = self._tasks[record.task_id]
        results = {done.content for step in record.steps for done in step.all_calls if not done.is_error}
        heard = set(words(task.prompt))
        own = self._own[task.id]
        said = [words(text) for text in results]
        for step in record.steps:
            for exchange in step.exchanges:
                heard.update(words(exchange.response.content))
        answer = set(words(record.answer))
        return Evidence(
            acts=len(results),
            mentions=sum(not own.isdisjoint(text) for text in said),
            milestones=self._benchmark.milestones(task, record) if self._benchmark is not None else 0,
            supported=int(not answer or bool(answer & heard.union(*said))),
        )

    def _lost(self, shown: Evidence) -> list[str]:
        """The kinds of evidence that the incumbent's attempts show and this one does not."""
        lost = []
        for kind in ("acts", "mentions", "milestones"):
            usual = median(getattr(e, kind) for e in self._usual)
            if usual >= SHOWN and getattr(shown, kind) < SHARE * usual:
                lost.append(kind)
        supported = sum(e.supported for e in self._usual) >= 0.9 * len(self._usual)
        return [*lost, "support"] if supported and not shown.supported else lost


def _own_words(tasks: Sequence[Task]) -> dict[str, set[str]]:
    """The words of each task's prompt that few tasks say."""
    said = {task.id: set(words(task.prompt)) for task in tasks}
    shared = Counter(word for own in said.values() for word in own)
    most = max(1.0, RARE * len(tasks))
    return {task: {word for word in own if shared[word] <= most} for task, own in said.items()}
