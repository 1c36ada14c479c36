"""Reading what a role answers: one JSON object, its fields, and nothing that is not so.

Every reader raises `Unreadable` with all that is wrong, which is what the role is told when it is asked once more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aegis.meta.base import Judgement, Plan, Review
from harnessx.slots import writable

TEXT_CHARS = 600
MOST_ANCHORS = 6
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_CATEGORY = re.compile(r"[a-z][a-z_]{2,39}")


class Unreadable(Exception):
    """An answer that is not what was asked for; the message lists everything wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Question:
    """What a Critic wants to know of a task before it decides."""

    task: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a Digester found when it was asked: a step, and what it shows."""

    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Criticism:
    """The Critic's answer: a review, or questions that come before one."""

    review: Review
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The Evolver's answer: which of the candidates it wrote go on, best first; or why none does."""

    names: tuple[str, ...]
    no_op: str = ""


class _Fields:
    """The fields of an answer; what is wrong with them is collected, and raised at the end."""

    def __init__(self, text: str, known: Mapping[str, type]) -> None:
        self.problems: list[str] = []
        self._data = _object(text)
        self.problems += [f"unknown field {name!r}" for name in sorted(self._data.keys() - known.keys())]
        for name, kind in known.items():
            if not isinstance(self._data.get(name, kind()), kind):
                self.problems.append(f"{name} must be {_SAID[kind]}")
                del self._data[name]

    def text(self, name: str) -> str:
        """A short text, '' where it is left out."""
        return self._short(name, self._data.get(name, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, each once."""
        values = self._data.get(name, [])
        if not all(isinstance(v, str) for v in values):
            self.problems.append(f"{name} must be a list of texts")
            return ()
        return tuple(dict.fromkeys(values))

    def pairs(self, name: str) -> dict[str, str]:
        """Texts by name."""
        return {key: self._short(f"{name}.{key}", value) for key, value in self._data.get(name, {}).items()}

    def rows(self, name: str, *fields: str) -> list[tuple[str, ...]]:
        """Objects, each with these texts and no others."""
        rows = self._data.get(name, [])
        if not all(isinstance(row, dict) and row.keys() == set(fields) for row in rows):
            self.problems.append(f"each of {name} must be an object with {' and '.join(fields)}")
            return []
        return [tuple(self._short(f"{name}.{field}", row[field]) for field in fields) for row in rows]

    def among(self, name: str, values: Collection[str], valid: Collection[str]) -> None:
        """Refuse values that are none of ``valid``."""
        for value in values:
            if value not in valid:
                known = ", ".join(list(valid)[:30]) or "none"
                self.problems.append(f"{name} names {value[:80]!r}, which is not there; there are: {known}")

    def done(self) -> None:
        """Raise what was found."""
        if self.problems:
            raise Unreadable(self.problems[:8])

    def _short(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not writable(value):
            self.problems.append(f"{name} must be text")
            return ""
        if len(value) > TEXT_CHARS:
            self.problems.append(f"{name} has {len(value)} characters; at most {TEXT_CHARS}")
        return " ".join(value.split())


_SAID: dict[type, str] = {str: "text", list: "a list", dict: "an object"}


def _object(text: str) -> dict[str, Any]:
    fenced = _FENCE.fullmatch(text)
    try:
        data = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        raise Unreadable([f"the answer must be one JSON object and nothing else ({error})"]) from error
    if not isinstance(data, dict):
        raise Unreadable([f"the answer must be a JSON object, not {type(data).__name__}"])
    return data


def judgement(text: str, task: str, components: Collection[str], anchors: Collection[str]) -> Judgement:
    """The Digester's word on a failure of ``task``: a category, a cause, and at least one step that shows it."""
    fields = _Fields(text, {"category": str, "cause": str, "components": list, "anchors": list})
    found = Judgement(
        fields.text("category"), fields.texts("components"), fields.text("cause"), fields.texts("anchors")
    )
    if not _CATEGORY.fullmatch(found.category):
        fields.problems.append("category must be 3 to 40 small letters and underscores")
    if not found.cause:
        fields.problems.append("cause is empty")
    fields.among("components", found.components, components)
    _resolve(fields, found.anchors, anchors)
    if not any(anchor.startswith(f"{task}_a") for anchor in found.anchors):
        fields.problems.append(f"anchors must name at least one step of {task}, as {task}_a0#step_1")
    fields.done()
    return found


def findings(text: str, anchors: Collection[str]) -> tuple[Finding, ...]:
    """What the Digester found when it was asked for more; nothing, if there is nothing."""
    fields = _Fields(text, {"findings": list})
    rows = fields.rows("findings", "anchor", "says")
    _resolve(fields, [anchor for anchor, _ in rows], anchors)
    fields.done()
    return tuple(Finding(anchor, says) for anchor, says in rows)


def plan(text: str, categories: Collection[str]) -> Plan:
    """The Planner's order of categories with its advice, or a no-op with its reason."""
    fields = _Fields(text, {"order": list, "advice": dict, "no_op": str})
    found = Plan(fields.texts("order"), fields.pairs("advice"), fields.text("no_op"))
    fields.among("order", found.order, categories)
    fields.among("advice", found.advice, categories)
    if bool(found.order) == bool(found.reason):
        fields.problems.append("give either an order, or no_op with the reason")
    fields.done()
    return found


def choice(text: str, written: Collection[str], most: int) -> Choice:
    """The Evolver's choice among the candidates it has written."""
    fields = _Fields(text, {"candidates": list, "no_op": str})
    found = Choice(fields.texts("candidates"), fields.text("no_op"))
    fields.among("candidates", found.names, written)
    if len(found.names) > most:
        fields.problems.append(f"{len(found.names)} candidates; at most {most}")
    if bool(found.names) == bool(found.no_op):
        fields.problems.append("give either candidates, or no_op with the reason")
    fields.done()
    return found


def criticism(text: str, candidates: Collection[str], tasks: Collection[str], *, may_ask: bool) -> Criticism:
    """The Critic's ranking and requests, or its questions, or a no-op with its reason."""
    known = {"ranking": list, "requests": dict, "questions": list, "no_op": str, "strategy_concern": str}
    fields = _Fields(text, known)
    questions = tuple(Question(*row) for row in fields.rows("questions", "task", "question"))
    review = Review(
        fields.texts("ranking"), fields.pairs("requests"), fields.text("no_op"), fields.text("strategy_concern")
    )
    fields.among("ranking", review.ranking, candidates)
    fields.among("requests", review.requests, candidates)
    fields.among("questions", [q.task for q in questions], tasks)
    if questions and not may_ask:
        fields.problems.append("you have asked once: now decide")
    if sum(map(bool, (review.ranking, questions, review.no_op))) != 1:
        fields.problems.append("give exactly one of: a ranking, questions, or no_op with the reason")
    fields.done()
    return Criticism(review, questions)


def _resolve(fields: _Fields, named: Sequence[str], anchors: Collection[str]) -> None:
    fields.problems += [f"anchor {a[:80]!r} names no recorded step" for a in named if a not in anchors]
    if len(named) > MOST_ANCHORS:
        fields.problems.append(f"{len(named)} anchors; at most {MOST_ANCHORS}")
