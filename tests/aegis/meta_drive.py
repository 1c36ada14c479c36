"""Runs of `aegis.evolve` whose meta-agent asks a provider on loopback."""

from __future__ import annotations

import json
import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import loopback
from evolve_drive import SMALL, insert
from loopback import Asked, Provider, call

LLM = tuple(argument for argument in SMALL if argument != "meta=scripted")
"""The settings of small runs, without a meta-agent."""


def plainly(provider: Provider) -> tuple[str, ...]:
    """The arguments that name ``provider``, asked by `loopback.Plain`."""
    return ("meta=llm", f"meta.model={{_target_:loopback.Plain,base:'{provider.base}'}}")


def manifest(asked: Asked, title: str, **fields: Any) -> dict[str, Any]:
    """A manifest that is complete, and cites the first anchor that was shown."""
    return {
        "title": title, "bucket": ["prompt"],
        "capability_evidence": [{"type": "trace", "claim": "seen", "observed": asked.anchors[:1]},
                                {"type": "level_2", "claim": "trust me", "observed": ["nowhere_a0#step_1"]}],
        "file_changes": [{"path": "harness.yaml", "action": "modify", "summary": "s"}],
        "predicted_impact": {"unlock": ["ev-0001"]},
        "attribution_signature": {"type": "prompt_feature", "name": "x"},
        "failure_evidence": "f", "root_cause": "r", "targeted_fix": "t", "risk_argument": "a",
        "overlap": "on purpose", "lever": title, **fields,
    }  # fmt: skip


def writes(name: str, *operations: Any, smoke: Any = None, **fields: Any) -> Any:
    """A turn of the Evolver that writes a candidate."""
    return lambda asked: call("write_candidate", name=name, manifest=manifest(asked, name, **fields),
                              edit=list(operations), smoke=smoke or {})  # fmt: skip


def tells(name: str, text: str, **fields: Any) -> Any:
    """A turn of the Evolver that writes an instruction."""
    return writes(name, insert("Instructions", text=text), **fields)


def sessions(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's sessions."""
    return [json.loads(line) for line in (folder / "data/sessions.jsonl").read_text(encoding="utf-8").splitlines()]


class DeathAt(AbstractContextManager[None]):
    """Kills its process before the n-th call of `loopback.Plain` is sent; 0 never does."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0

    def __enter__(self) -> None:
        ask = loopback.Plain.complete

        async def complete(model: Any, *arguments: Any) -> Any:
            self.count += 1
            if self.count == self.number:
                os.kill(os.getpid(), signal.SIGKILL)
            return await ask(model, *arguments)

        loopback.Plain.complete = complete  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        """Its process ends anyway."""
