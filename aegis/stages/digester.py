"""Digester: trajectories -> what failed, how, and where it can be seen (paper §3).

What can be computed needs each trajectory once, in any number: `survey` holds one of them at a time. The
meta-agent is asked for the cause of each failure, and its anchors are quoted where they name a recorded step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aegis.history import History
from aegis.meta.base import Case, Judgement, MetaAgent
from aegis.stages.symptoms import Observation, goal_words, observe
from harnessx.errors import Outcome
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Step, Trajectory

EXCERPT_CHARS = 240
MOST_QUOTED = 4
"""Excerpts that a meta-agent's anchors may add to those of the symptoms."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A quotation with its anchor."""

    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class TaskDigest:
    """One evolve task in one round. ``category`` is '' for a task solved on every attempt."""

    task: str
    cluster: str
    rate: float
    category: str
    symptoms: tuple[str, ...]
    detail: str
    components: tuple[str, ...]
    excerpts: tuple[Excerpt, ...]
    history: tuple[float, ...]
    goal: tuple[str, ...] = ()
    cause: str = ""
    """The meta-agent's word on why, where it said one."""

    @property
    def failing(self) -> bool:
        """Whether any attempt failed."""
        return self.rate < 1.0


@dataclass(frozen=True, slots=True)
class Digest:
    """One round's digests. ``actionability`` is the share of failing tasks with anchored evidence."""

    round: int
    tasks: tuple[TaskDigest, ...]

    @property
    def failing(self) -> tuple[TaskDigest, ...]:
        """Tasks with a failed attempt."""
        return tuple(t for t in self.tasks if t.failing)

    @property
    def actionability(self) -> float:
        """In [0, 1]; 0 where nothing fails."""
        failing = self.failing
        return sum(bool(t.category and t.excerpts) for t in failing) / len(failing) if failing else 0.0

    def categories(self) -> Counter[str]:
        """Failing tasks by category."""
        return Counter(t.category for t in self.failing)

    def to_markdown(self) -> str:
        """The digest as people read it."""
        lines = [f"# Digest of round {self.round}", "", f"actionability {self.actionability:.2f}", ""]
        lines += [f"* {category}: {count} tasks" for category, count in sorted(self.categories().items())]
        for t in self.failing:
            lines += ["", f"## {t.task} ({t.cluster}), passed {t.rate:.2f}", "", f"{t.category}: {t.detail}"]
            lines += [f"cause: {t.cause}"] if t.cause else []
            lines += [f"implicated: {', '.join(t.components)}"] if t.components else []
            lines += [f"* `{e.anchor}`: {e.text}" for e in t.excerpts]
        return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Surveyed:
    """What code saw of one task; of its trajectories only the first that failed leaves anything behind."""

    task: str
    attempts: int = 0
    passed: int = 0
    failed: str = ""
    """The id of the first trajectory that failed, '' as long as none did."""
    observations: list[Observation] = field(default_factory=list)
    excerpts: tuple[Excerpt, ...] = ()
    goal: tuple[str, ...] = ()

    def add(self, record: Trajectory) -> None:
        """Take in one attempt."""
        self.attempts += 1
        self.passed += record.passed
        if not record.passed and not self.failed:
            self.failed = record.id
            self.observations = observe(record)
            wanted = dict.fromkeys(s for o in self.observations[:3] for s in (o.steps[0], o.steps[-1]))
            self.excerpts = quoted(record, wanted)
            self.goal = tuple(goal_words(record))


def survey(records: Iterable[Trajectory]) -> list[Surveyed]:
    """Every task that was played, in order of first appearance; each record is looked at once and let go."""
    by_task: dict[str, Surveyed] = {}
    for record in records:
        if record.outcome is not Outcome.INFRA_ERROR:
            by_task.setdefault(record.task_id, Surveyed(record.task_id)).add(record)
    return list(by_task.values())


async def digest(
    trajectories: Sequence[Trajectory],
    clusters: Mapping[str, str],
    incumbent: HarnessConfig,
    history: History,
    meta: MetaAgent,
) -> Digest:
    """Digest one round's evolve trajectories.

    Outcome, symptoms, excerpts and history are computed; the meta-agent says what is the cause, which components
    it implicates and where it shows. Of that only what is there counts: components of the incumbent, steps of the
    trajectories.
    """
    seen = survey(trajectories)
    records = {record.id: record for record in trajectories}
    cases = [
        Case(history.round, incumbent, records[s.failed], s.observations, history.of_task(s.task), trajectories)
        for s in seen
        if s.failed
    ]
    judged = dict(zip((case.record.task_id for case in cases), await meta.judge(cases), strict=False))
    components = {traits.name for traits in incumbent.traits}
    digests = [_digest(s, judged.get(s.task), clusters, components, history, records) for s in seen]
    return Digest(history.round, tuple(digests))


def without_judgement(records: Iterable[Trajectory], clusters: Mapping[str, str], history: History) -> Digest:
    """The deterministic part alone, of any number of trajectories."""
    return Digest(history.round, tuple(_digest(s, None, clusters, set(), history, {}) for s in survey(records)))


def _digest(
    seen: Surveyed,
    judgement: Judgement | None,
    clusters: Mapping[str, str],
    components: set[str],
    history: History,
    records: Mapping[str, Trajectory],
) -> TaskDigest:
    observed = seen.observations
    judgement = judgement or Judgement(observed[0].symptom.value if observed else "", ())
    further = [e for e in _named(judgement.anchors, records) if e.anchor not in {x.anchor for x in seen.excerpts}]
    return TaskDigest(
        task=seen.task,
        cluster=clusters.get(seen.task, ""),
        rate=seen.passed / seen.attempts,
        category=judgement.category,
        symptoms=tuple(o.symptom.value for o in observed),
        detail="; ".join(o.detail for o in observed),
        components=tuple(c for c in judgement.components if c in components),
        excerpts=(*seen.excerpts, *further[:MOST_QUOTED]),
        history=history.of_task(seen.task),
        goal=seen.goal,
        cause=judgement.cause,
    )


def _named(anchors: Sequence[str], records: Mapping[str, Trajectory]) -> list[Excerpt]:
    """Quotations of the steps that ``anchors`` name; what names none is passed over."""
    found: list[Excerpt] = []
    for anchor in dict.fromkeys(anchors):
        ident, _, step = anchor.partition("#step_")
        if ident in records and step.isdigit():
            found += quoted(records[ident], [int(step)])
    return found


def quoted(record: Trajectory, wanted: Iterable[int]) -> tuple[Excerpt, ...]:
    """The steps of those numbers, as far as they are there and say anything."""
    steps = {step.index: step for step in record.steps}
    found = [steps[index] for index in wanted if index in steps and steps[index].exchanges]
    return tuple(Excerpt(record.anchor(step.index), _gist(step)) for step in found)


def _gist(step: Step) -> str:
    """What the agent said at a step and what it heard, cut short."""
    response = step.exchanges[-1].response
    said = response.content or " ".join(
        call.raw or " ".join(map(str, call.arguments.values())) for call in response.tool_calls
    )
    heard = " ".join(e.content for e in step.calls)
    return f"{said} -> {heard}"[:EXCERPT_CHARS].replace("\n", " ")
