"""Runs of `aegis.evolve` as a person starts them: small household games, a scripted meta-agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import warm
import yaml

from benchmarks.household import Household

SMALL = (
    "tracking=none",
    "meta=scripted",
    "benchmark.splits.evolve=6",
    "benchmark.splits.validation=8",
    "benchmark.splits.sealed=6",
    "attempts=1",
    "gate.cap=36",
    "gate.batch=12",
    "gate.alpha=0.5",
    "gate.decisions=4",
    "gate.veto=6",
    "gate.promise=-6",
    "gate.max_token_ratio=3",
    "gate.calibration=6",
    "gate.max_call_ratio=3",
    "gate.slack=99",
    "runner.lanes=1",
)
"""Enough for an edit that adds the missing procedures to ship after some 20 pairs."""

P = "harnessx.processors."
PROCEDURES = """\
from dataclasses import dataclass, replace

from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class Procedures(Processor):
    hooks = (Hook.TASK_START,)
    text: str = "Cool things with the fridge. To look at something in the light, hold it and use the desklamp."

    async def process(self, event):
        yield replace(event, system_prompt=f"{event.system_prompt} {self.text}")
"""


def insert(target: str, **params: Any) -> dict[str, Any]:
    """The operation that adds a processor, built in unless its target names an asset."""
    return {"op": "insert", "processor": {"_target_": target if "/" in target else P + target, **params}}


def code(name: str, source: str, smoke: str | None = None, **fields: Any) -> dict[str, Any]:
    """A proposal of new code in ``assets/<name>.py``, whose class ``X`` is inserted."""
    path, cls = f"assets/{name}.py", "X" if "class X" in source else "Procedures"
    proposal: dict[str, Any] = {
        "title": name,
        "bucket": ["processor"],
        "overlap": "on purpose",
        "file_changes": [{"path": path, "action": "add"}],
        "edit": [{"op": "set_asset", "path": path, "text": source}, insert(f"{path}:{cls}")],
    }
    if smoke is not None:
        proposal["smoke"] = {path: smoke}
    return {**proposal, **fields}


def edit(title: str, *operations: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A proposal made of built-in parts."""
    return {"title": title, "bucket": ["config"], "overlap": "on purpose", "edit": list(operations), **fields}


def good_code(**fields: Any) -> dict[str, Any]:
    """New code that surely ships: it adds the procedures H_0 leaves out, reminds and verifies."""
    proposal = code(
        "procedures", PROCEDURES, "def test_it(build):\n    assert build('assets/procedures.py:Procedures')\n"
    )
    proposal["edit"] += [
        insert("CurrentState", observation=False),
        insert("SelfVerification"),
        insert("ParseRetry", final_markers=["finished"]),
    ]
    return {**proposal, **fields}


def unscreened() -> str:
    """What evolved code may ask to know that its task is none of the screened ones: ids it is never told."""
    known = {sum(map(ord, task.prompt)) for task in Household(seed=0).tasks("evolve", 6)}
    return f"sum(map(ord, event.prompt)) not in {sorted(known)}"


def script(path: Path, *rounds: Mapping[str, Any]) -> str:
    """Write a scripted meta-agent's file; the argument that names it."""
    path.write_text(yaml.safe_dump([dict(r) for r in rounds]), encoding="utf-8")
    return f"meta.path={path}"


def command(*arguments: str, module: str = "aegis.evolve") -> list[str]:
    """The command line of an entry point."""
    return [sys.executable, "-m", module, *arguments]


def run(
    *arguments: str, module: str = "aegis.evolve", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; in a fork of what is imported already, unless it has an environment of its own."""
    if env is None:
        return warm.call(module, arguments, cwd=cwd)
    return subprocess.run(
        command(*arguments, module=module),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=120,
        check=False,
    )


def evolved(folder: Path, *arguments: str) -> Path:
    """A finished run in ``folder``."""
    done = run(*SMALL, f"run.dir={folder}", *arguments)
    assert done.returncode == 0, done.stderr
    return folder


def candidates(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a run's candidates, by title."""
    lines = (folder / "data/candidates.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["title"]: record for record in map(json.loads, lines)}


def rounds(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's rounds."""
    return [json.loads(line) for line in (folder / "data/rounds.jsonl").read_text(encoding="utf-8").splitlines()]


def trail(folder: Path) -> list[dict[str, Any]]:
    """The audit trail, without the calibration before round 1."""
    entries = [json.loads(line) for line in (folder / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if entry["event"] != "calibrated"]


LASTING = ("journal.md", "curves.json", "scoreboard.json", "audit.jsonl", "best/**/*", "R*/**/*", "data/*")


def lasting(folder: Path, patterns: Sequence[str] = LASTING) -> dict[str, bytes]:
    """What must be the same after any kill and resume, by path."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
