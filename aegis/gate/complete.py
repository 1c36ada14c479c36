"""Check 1: the manifest is complete and its evidence resolves."""

from __future__ import annotations

from collections.abc import Collection

from aegis.candidate import Candidate
from aegis.gate.base import Finding


class ManifestComplete:
    """Every field is there, predictions name evolve tasks, and every anchor names a recorded step."""

    name = "manifest"

    def __init__(self, anchors: Collection[str], tasks: Collection[str]) -> None:
        self._anchors, self._tasks = anchors, tasks

    async def __call__(self, candidate: Candidate) -> Finding | None:
        manifest = candidate.manifest
        problems = manifest.problems()
        problems += [f"anchor {a} names no recorded step" for a in manifest.anchors() if a not in self._anchors]
        impact = manifest.predicted_impact
        named = {*impact.unlock, *impact.stabilize, *impact.at_risk}
        problems += [f"prediction names {t}, no evolve task" for t in sorted(named) if t not in self._tasks]
        touched = {change.path for change in manifest.file_changes}
        silent = [path for path in candidate.new_code if path not in touched]
        problems += [f"{path} changes without a word in file_changes" for path in silent]
        return Finding(self.name, "; ".join(problems[:5])) if problems else None
