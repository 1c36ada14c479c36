"""The record of a session: one question to one role of the meta-agent, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aegis.schema import Record


class Duty(StrEnum):
    """What a role was asked for."""

    JUDGE = "judge"
    """Digester: the cause of a failure."""
    EVIDENCE = "evidence"
    """Digester: what the Critic asked for."""
    PLAN = "plan"
    PROPOSE = "propose"
    REVISE = "revise"
    REVIEW = "review"
    SESSION = "session"
    """A coding agent: all of it."""


class Ending(StrEnum):
    """How a session ended: with an answer at once, with one after a word on what was wrong, or with none."""

    ANSWERED = "answered"
    REPAIRED = "repaired"
    NO_ANSWER = "no answer"


@dataclass(frozen=True)
class SessionRecord(Record):
    """``data/sessions.jsonl``: one line a session, in the order in which they were asked for.

    ``name`` is the task, the candidate or the round that it was about; ``said`` is what was asked by, or said to,
    another role (a Critic's question or request); ``problem`` why the first answer, or the last, could not be used.
    ``tools`` counts the calls by tool, ``refused`` those that were answered with an error. ``usd`` is None where a
    price is not known.
    """

    round: int
    duty: Duty
    name: str
    model: str
    ending: Ending
    problem: str = ""
    said: str = ""
    steps: int = 0
    tools: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    tokens: int = 0
    usd: float | None = None
    seconds: float | None = None
    exit_code: int | None = None
