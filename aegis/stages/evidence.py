"""A digest within a stated number of tokens: what a language model reads instead of the trajectories.

Every failing task has a line as long as there is room, the ones that lost what they could do first; what room is
left goes to excerpts, one more for each task in turn. What does not fit is counted, never silently dropped.
"""

from __future__ import annotations

from collections.abc import Iterable

from aegis.stages.digester import Digest, TaskDigest

TOKENS = 10_000
CHARACTERS = 3
"""Of a token, at least: text of other scripts and code has fewer than English has."""
LINE_CHARS = 300


def evidence(digest: Digest, tokens: int = TOKENS) -> str:
    """The digest as text of at most ``tokens`` tokens."""
    room = tokens * CHARACTERS
    counts = digest.categories()
    head = [f"# Evidence of round {digest.round}", "", f"actionability {digest.actionability:.2f}", ""]
    head += [f"* {name}: {n} tasks" for name, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:40]]
    order = sorted(digest.failing, key=_urgency)
    lines = {task.task: [_line(task)] for task in order}
    room -= sum(len(line) + 1 for line in head) + 80
    shown: list[TaskDigest] = []
    for task in order:
        room -= len(lines[task.task][0]) + 1
        if room < 0:
            break
        shown.append(task)
    for task, quote in _quotes(shown):
        if len(quote) < room:
            lines[task.task].append(quote)
            room -= len(quote) + 1
    body = [line for task in shown for line in lines[task.task]]
    left = len(order) - len(shown)
    return "\n".join([*head, "", *body, *([f"and {left} more failing tasks"] if left else [])]) + "\n"


def _urgency(task: TaskDigest) -> tuple[float, float, str]:
    """Regressions first, then what fails most."""
    fell = task.history[-1] - task.history[-2] if len(task.history) > 1 else 0.0
    return (min(fell, 0.0), task.rate, task.task)


def _line(task: TaskDigest) -> str:
    where = f" in {task.cluster}" if task.cluster else ""
    before = f", before {' '.join(f'{rate:.2f}' for rate in task.history[-4:])}" if task.history else ""
    parts = [f"{task.task}{where}: {task.category}, passed {task.rate:.2f}{before}", task.cause or task.detail]
    if task.components:
        parts.append(f"implicates {', '.join(task.components)}")
    return "; ".join(parts)[:LINE_CHARS].replace("\n", " ")


def _quotes(tasks: Iterable[TaskDigest]) -> Iterable[tuple[TaskDigest, str]]:
    """Excerpts, the first of every task before the second of any."""
    tasks = list(tasks)
    for place in range(max((len(t.excerpts) for t in tasks), default=0)):
        for task in tasks:
            if place < len(task.excerpts):
                excerpt = task.excerpts[place]
                yield task, f"  `{excerpt.anchor}` {excerpt.text}"
