"""Check 8: edits above the risk threshold need a person (paper §3)."""

from __future__ import annotations

from enum import IntEnum

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from aegis.record import Bucket


class Risk(IntEnum):
    """How much of the agent an edit can change."""

    PROMPT = 1
    CONFIG = 2
    TOOLS = 3
    CODE = 4


def risk(candidate: Candidate) -> Risk:
    """New code is the riskiest, then tools, parameters, wording."""
    if candidate.new_code:
        return Risk.CODE
    buckets = set(candidate.manifest.bucket)
    if Bucket.TOOLS in buckets:
        return Risk.TOOLS
    return Risk.CONFIG if buckets & {Bucket.CONFIG, Bucket.PROCESSOR} else Risk.PROMPT


class Approval:
    """Above ``threshold``, ``deny`` stops the edit and ``auto`` lets it pass."""

    name = "approval"

    def __init__(self, mode: str, threshold: Risk) -> None:
        self._mode, self._threshold = mode, threshold

    async def __call__(self, candidate: Candidate) -> Finding | None:
        found = risk(candidate)
        if found <= self._threshold or self._mode == "auto":
            return None
        return Finding(self.name, f"risk {found.name.lower()} is above {self._threshold.name.lower()}")
