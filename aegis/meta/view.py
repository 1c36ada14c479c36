"""What a meta-agent may read of a run: a list of texts by name, and nothing else.

A name is looked up, never opened: there is no path that leads out of the list. It holds the incumbent, the evolve
trajectories, what the stages wrote, and of past candidates what `History.told` tells: no answer, no verifier, no
task of another split, no estimate that a confirmation made. What it holds of earlier rounds was written when they
were closed, so that a run taken up again shows the same texts.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aegis.history import History, Tried
from aegis.stages.digester import Digest
from aegis.stages.evidence import evidence
from aegis.stages.planner import Landscape
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Step, Trajectory

READABLE = ("digests/*.md", "landscape.md", "regressions.md", "candidates/**/*")
"""Of the folder of an earlier round."""
TOLD_REASONS = frozenset(
    "manifest canonical policy permissions smoke effect screen budget evolver critic rebase".split()
)
"""Checks whose reasons come from the evolve split alone; of the others only the verdict is told."""
MOST_BYTES = 1 << 20
"""Of one file of an earlier round."""

Text = Callable[[], str]


@dataclass(frozen=True, slots=True)
class RunView(Mapping[str, str]):
    """Texts by name; each is made when it is read."""

    texts: Mapping[str, Text] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.texts[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def under(self, folder: str) -> list[str]:
        """The names in ``folder`` ('' for all), sorted."""
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        return sorted(name for name in self.texts if name.startswith(prefix))

    def within(self, folder: str) -> list[str]:
        """What a person would see in ``folder``: names, and folders with the number of texts in them."""
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        shown: dict[str, int] = {}
        for name in self.under(folder):
            child, slash, _ = name[len(prefix) :].partition("/")
            shown[child + slash] = shown.get(child + slash, 0) + 1
        return [f"{prefix}{n} ({count} texts)" if n.endswith("/") else f"{prefix}{n}" for n, count in shown.items()]


def view(
    folder: Path,
    number: int,
    incumbent: HarnessConfig,
    trajectories: Sequence[Trajectory],
    history: History | None = None,
    digest: Digest | None = None,
    landscape: Landscape | None = None,
) -> RunView:
    """What there is to read in round ``number`` of the run in ``folder``, as far as its stages have come."""
    texts: dict[str, Text] = {"harness/harness.yaml": incumbent.to_yaml}
    texts |= {f"harness/{path}": lambda text=text: text for path, text in incumbent.assets.items()}  # type: ignore[misc]
    if digest is not None:
        texts["digest.md"] = lambda: evidence(digest)
    if landscape is not None:
        texts["landscape.md"] = landscape.to_markdown
    if history is not None:
        texts["history.md"] = lambda: told(history)
    for record in trajectories:
        texts[f"traces/{record.id}.md"] = lambda record=record: trace(record)  # type: ignore[misc]
    for past in range(1, number):
        texts |= _past(folder / f"R{past}", f"rounds/R{past}")
    return RunView(texts)


def _past(folder: Path, name: str) -> dict[str, Text]:
    """The texts of an earlier round that may be read; links are not followed, and other kinds of files left out."""
    found: dict[str, Text] = {}
    for pattern in READABLE:
        for path in sorted(folder.glob(pattern)):
            parts = path.relative_to(folder.parent).parts
            whole = (folder.parent.joinpath(*parts[: n + 1]) for n in range(len(parts)))
            if not any(map(os.path.islink, whole)) and stat.S_ISREG(path.lstat().st_mode):
                found[f"{name}/{path.relative_to(folder).as_posix()}"] = lambda path=path: _read(path)  # type: ignore[misc]
    return found


def _read(path: Path) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(MOST_BYTES).decode(errors="replace")


def trace(record: Trajectory) -> str:
    """A trajectory as text: each step under its anchor, what was said, called and heard."""
    lines = [f"# {record.id}: {record.outcome} ({record.stop_reason}), {len(record.steps)} steps"]
    lines += [f"error: {record.error}"] if record.error else []
    for step in record.steps:
        lines += ["", f"## {record.anchor(step.index)}", *_lines(step, first=step is record.steps[0])]
    return "\n".join([*lines, "", f"answer: {record.answer}"]) + "\n"


def _lines(step: Step, *, first: bool) -> Iterator[str]:
    for exchange in step.exchanges:
        if first and exchange.system:
            yield f"system: {exchange.system}"
        yield from (f"{m.role}: {m.text}" for m in exchange.sent if m.role in ("user", "system"))
        if exchange.response.content:
            yield f"agent ({exchange.path}): {exchange.response.content}"
        for call in exchange.response.tool_calls:
            yield f"call {call.name}: {call.raw or json.dumps(dict(call.arguments), ensure_ascii=False)}"
    for done in step.calls:
        yield f"{'error' if done.is_error else 'result'} of {done.call.name}: {done.content}"


def told(history: History) -> str:
    """What was tried and what became of it, as far as a proposer may know."""
    lines = ["# What was tried", "", *map(_tried, history.tried)]
    if not history.tried:
        lines.append("nothing yet")
    if history.strategy_concern:
        lines += ["", f"The critic's concern: {history.strategy_concern}"]
    return "\n".join(lines) + "\n"


def _tried(past: Tried) -> str:
    record = past.record
    parts = [f"* {record.id} [{', '.join(record.bucket)}] {record.title}: {record.verdict} by {record.check}"]
    if record.e_value is not None and record.alpha:
        parts.append(f"E {record.e_value:.3g} of {1 / record.alpha:.3g}")
    if past.screen is not None:
        parts.append(f"net {past.screen:+d} on {past.attempts} evolve attempts")
    if record.hit_rate is not None:
        parts.append(f"hit rate {record.hit_rate:.2f}")
    if past.lever:
        parts.append(f"lever {past.lever}")
    if record.check in TOLD_REASONS:
        parts.append(record.reason)
    return "; ".join(parts)
