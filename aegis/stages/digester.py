"""Digester: trajectories -> what failed, how, and where it can be seen (paper §3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aegis.history import History
from aegis.meta.base import Judgement, MetaAgent
from aegis.stages.symptoms import Observation, goal_words, observe
from harnessx.errors import Outcome
from harnessx.trajectory import Trajectory

EXCERPT_CHARS = 240


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
            lines += [f"* `{e.anchor}`: {e.text}" for e in t.excerpts]
        return "\n".join(lines) + "\n"


async def digest(
    trajectories: Sequence[Trajectory],
    clusters: Mapping[str, str],
    components: Sequence[str],
    history: History,
    meta: MetaAgent,
) -> Digest:
    """Digest one round's evolve trajectories.

    Outcome, symptoms, excerpts and history are computed; the meta-agent may only say which of the
    symptoms is the cause and which components it implicates.
    """
    by_task: dict[str, list[Trajectory]] = {}
    for record in trajectories:
        if record.outcome is not Outcome.INFRA_ERROR:
            by_task.setdefault(record.task_id, []).append(record)
    digests = []
    for task, records in by_task.items():
        rate = sum(r.passed for r in records) / len(records)
        failed = next((r for r in records if not r.passed), None)
        found = observe(failed) if failed is not None else []
        judgement = Judgement(found[0].symptom.value if found else "", ())
        if failed is not None:
            judgement = await meta.judge(failed, found) or judgement
        known = tuple(c for c in judgement.components if c in components)
        digests.append(
            TaskDigest(
                task=task,
                cluster=clusters.get(task, ""),
                rate=rate,
                category=judgement.category,
                symptoms=tuple(o.symptom.value for o in found),
                detail="; ".join(o.detail for o in found),
                components=known,
                excerpts=_excerpts(failed, found) if failed is not None else (),
                history=history.of_task(task),
                goal=tuple(goal_words(failed)) if failed is not None else (),
            )
        )
    return Digest(history.round, tuple(digests))


def _excerpts(record: Trajectory, observations: Sequence[Observation]) -> tuple[Excerpt, ...]:
    """The first and last step of each symptom, quoted."""
    wanted = dict.fromkeys(s for o in observations[:3] for s in (o.steps[0], o.steps[-1]))
    steps = {step.index: step for step in record.steps}
    quotes = []
    for index in wanted:
        step = steps.get(index)
        if step is None or not step.exchanges:
            continue
        response = step.exchanges[-1].response
        said = response.content or " ".join(
            call.raw or " ".join(map(str, call.arguments.values())) for call in response.tool_calls
        )
        heard = " ".join(e.content for e in step.calls)
        quotes.append(Excerpt(record.anchor(index), f"{said} -> {heard}"[:EXCERPT_CHARS].replace("\n", " ")))
    return tuple(quotes)
