"""What a gate check is: one question about one candidate, answered by code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aegis.candidate import Candidate


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a candidate does not pass: which check, and the reason in one line.

    ``flagged``: it does not fall short, it cheats; records and reports say so.
    """

    check: str
    reason: str
    flagged: bool = False


class Untestable(Exception):
    """A check could not be made, by no fault of the candidate: it is not tested, and nothing is held against it."""


class Check(Protocol):
    """One deterministic check. The first that finds something stops the candidate."""

    @property
    def name(self) -> str: ...

    async def __call__(self, candidate: Candidate) -> Finding | None:
        """None when the candidate passes."""
        ...
