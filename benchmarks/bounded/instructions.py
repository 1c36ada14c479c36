"""What the player learns from instructions: how things are done, in which order, and what not to do.

An instruction is any sentence made of the game's verbs and nouns, in any of their common forms.
Observations, goals and bare commands are no instructions: they teach nothing here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from benchmarks.bounded.grammar import CLOSEABLE, COMMAND, LAMPS, RECEPTACLES, find_goal, read_facts

_MADE = {
    "clean": r"\b(?:clean\w*|wash\w*|rins\w*|scrub\w*)\b",
    "heat": r"\b(?:heat\w*|hot|warm\w*|cook\w*)\b",
    "cool": r"\b(?:cool\w*|chill\w*|cold)\b",
    "light": r"\b(?:look\w* at|examin\w*|inspect\w*|under the light|in the light)",
}
_APPLIANCES = {
    "sinkbasin": r"\b(?:sink|sinkbasin|basin)s?\b",
    "microwave": r"\bmicrowaves?\b",
    "fridge": r"\b(?:fridge|refrigerator)s?\b",
    "lamp": r"\b(?:desk ?lamp|floor ?lamp|lamp)s?\b",
}
_ANY_MADE = re.compile("|".join(f"(?P<{verb}>{pattern})" for verb, pattern in _MADE.items()))
_ANY_APPLIANCE = re.compile("|".join(f"(?P<{noun}>{pattern})" for noun, pattern in _APPLIANCES.items()))
_NOT = re.compile(r"\b(?:do not|don't|never|stop|avoid|instead of|no need to)\b")
_GIVE_UP = re.compile(
    r"\b(?:do not|don't|never|stop|avoid|instead of|repeat\w*|again|something else|different\w*|another"
    r"|failed|has no effect|did not work|didn't work|without success)\b"
)
_OPENING = re.compile(
    r"\bopen(?:ing|s|ed)?\b.*\b(?:closed|shut|inside|hidden|contents?)\b|\b(?:closed|shut|inside|hidden)\b.*\bopen"
)
_NO_OPENING = re.compile(r"\b(?:do not|don't|never|avoid|without) open")
_ONE = re.compile(
    r"\bone (?:single )?(?:object|item|thing) at a time|\bone by one\b|\bonly (?:carry|hold|one)"
    r"|\b(?:carry|hold|carrying|holding) (?:only |just )?(?:one|a single)\b|\bhands? (?:is|are) full"
    r"|\bfirst\b.*\b(?:before|then)\b.*\bsecond|\bsecond\b.*\bafter\b.*\bfirst"
    r"|\b(?:carry|hold|take|fetch|deliver|bring|pick)\w*\b.*\b(?:one at a time|single (?:object|item|thing))"
)
_SEARCH = re.compile(r"\b(?:look|search|check|visit|try|explore|start|begin|go through|prefer|inspect)\w*\b")
_BEFORE_ALL = re.compile(r"\bbefore (?:any|every)(?:thing|where) else\b")
_VERIFY = re.compile(
    r"\b(?:verif\w+|double-check|check|compare\w*|confirm|make sure|be sure|are you sure|shows?|prove|evidence)\b.*"
    r"\b(?:goal|task|done|finish\w*|complet\w+|achiev\w+|satisf\w+|evidence|really)\b"
    r"|\b(?:not (?:yet )?(?:done|finished|complete)|until the (?:goal|task))\b"
)
_CALL = re.compile(r"\b(?:call|calls|use|using|invoke|tool call)\b.*\b(?:tool|function|act)\b|\btool call\b")
_FORMS = {
    "take": re.compile(r"\btake .{1,24}? from\b"),
    "move": re.compile(r"\bmove .{1,24}? to\b"),
    "put": re.compile(r"\bput .{1,24}? in/on\b"),
    "go to": re.compile(r"\bgo to\b"),
    "open": re.compile(r"\bopen\b"),
    "with": re.compile(r"\b(?:clean|heat|cool|transform)\b.{1,24}? with\b"),
    "use": re.compile(r"\buse (?:the )?(?:\(|<|\[|\{|desk|floor|lamp|x\b|object|item|light)"),
}
_OPEN_PLACES = tuple(r for r in RECEPTACLES if r not in CLOSEABLE)
_GROUPS = (
    (
        re.compile(r"\b(?:surfaces?|open (?:places?|receptacles?|shelves)|tops?|in plain (?:sight|view))\b"),
        _OPEN_PLACES,
    ),
    (re.compile(r"\b(?:closed|containers?|closable|things that open)\b"), CLOSEABLE),
    (re.compile(r"\btables?\b"), ("diningtable", "coffeetable", "sidetable")),
    (re.compile(r"\bcounters?\b"), ("countertop",)),
    (re.compile(r"\bshelves\b"), ("shelf",)),
    *((re.compile(rf"\b{noun}s?\b"), (noun,)) for noun in RECEPTACLES),
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one text teaches. ``procedures`` pairs a verb with an appliance, '' unlearns it; ``order`` ranks
    nouns for search, 0 first and 2 last; ``give_up`` are the lines that say to leave off what they name."""

    procedures: tuple[tuple[str, str], ...] = ()
    opening: bool | None = None
    one_at_a_time: bool = False
    order: tuple[tuple[str, int], ...] = ()
    forms: frozenset[str] = field(default_factory=frozenset)
    give_up: tuple[str, ...] = ()
    verify: bool = False
    call_tools: bool = False


NOTHING_LEARNT = Lesson()


@lru_cache(maxsize=65536)
def read_lesson(text: str) -> Lesson:
    """What ``text`` teaches; later sentences win over earlier ones."""
    lessons = [lesson for line in text.split("\n") if (lesson := _read_line(line)) is not NOTHING_LEARNT]
    if len(lessons) < 2:
        return lessons[0] if lessons else NOTHING_LEARNT
    return Lesson(
        tuple(pair for lesson in lessons for pair in lesson.procedures),
        next((lesson.opening for lesson in reversed(lessons) if lesson.opening is not None), None),
        any(lesson.one_at_a_time for lesson in lessons),
        tuple(pair for lesson in lessons for pair in lesson.order),
        frozenset().union(*(lesson.forms for lesson in lessons)),
        tuple(line for lesson in lessons for line in lesson.give_up),
        any(lesson.verify for lesson in lessons),
        any(lesson.call_tools for lesson in lessons),
    )


@lru_cache(maxsize=65536)
def _read_line(line: str) -> Lesson:
    low = line.lower()
    procedures: dict[str, str] = {}
    order: dict[str, int] = {}
    opening, one, verify, call = None, False, False, False
    for sentence in re.split(r"(?<=[.;!?])\s", low):
        call = call or bool(_CALL.search(sentence))
        verify = verify or bool(_VERIFY.search(sentence))
        if _is_report(sentence):
            continue
        negated = bool(_NOT.search(sentence))
        for verb, appliance in _pairs(sentence):
            procedures[verb] = "" if negated else appliance
        if _OPENING.search(sentence):
            opening = not _NO_OPENING.search(sentence)
        one = one or bool(_ONE.search(sentence))
        order.update(_ranks(sentence))
    forms = frozenset(form for form, pattern in _FORMS.items() if pattern.search(low))
    give_up = (low,) if len(low) < 400 and _GIVE_UP.search(low) else ()
    lesson = Lesson(tuple(procedures.items()), opening, one, tuple(order.items()), forms, give_up, verify, call)
    return NOTHING_LEARNT if lesson == NOTHING_LEARNT else lesson


def _is_report(sentence: str) -> bool:
    """Whether a sentence is the game's own: an observation, a goal, or a bare command."""
    if any(fact[1] not in ("been", "unseen") for fact in read_facts(sentence)):
        return True
    return find_goal(sentence) is not None or bool(COMMAND.search(sentence))


def _pairs(sentence: str) -> list[tuple[str, str]]:
    verbs = _mentions(_ANY_MADE, sentence)
    appliances = _mentions(_ANY_APPLIANCE, sentence)
    if not verbs or not appliances:
        return []
    if len(appliances) == 1:
        appliances *= len(verbs)
    pairs = zip(verbs, appliances, strict=False)
    return [(verb, noun) for verb, noun in pairs if (verb == "light") == (noun == "lamp")]


def _mentions(pattern: re.Pattern[str], sentence: str) -> list[str]:
    """Names of the groups that match, each once, in order."""
    return list(dict.fromkeys(m.lastgroup for m in pattern.finditer(sentence) if m.lastgroup))


def _ranks(sentence: str) -> dict[str, int]:
    """Search preferences of a sentence: receptacle noun -> rank, 0 before 2."""
    if not _SEARCH.search(sentence):
        return {}
    cut = re.search(r"\b(before|after|then|rather than|over|instead of)\b", sentence)
    if _BEFORE_ALL.search(sentence):
        cut, early, late = None, sentence, ""
    elif ends := _ends(sentence):
        early, late = ends
    elif cut and cut[1] != "after":
        early, late = sentence[: cut.start()], sentence[cut.end() :]
    elif cut:
        late, early = sentence[: cut.start()], sentence[cut.end() :]
    elif re.search(r"\b(?:first|start|begin|prefer)\w*\b", sentence):
        early, late = sentence, ""
    elif re.search(r"\blast\b", sentence):
        early, late = "", sentence
    else:
        return {}
    first, last = _nouns(early), _nouns(late)
    if cut and not (first and last):
        return {}
    return dict.fromkeys(last, 2) | dict.fromkeys(first, 0)


def _ends(sentence: str) -> tuple[str, str] | None:
    """What a sentence puts first and what it puts last, if it does both; each word before its places or after them."""
    first, last = re.search(r"\bfirst\b", sentence), re.search(r"\blast\b", sentence)
    if first is None or last is None:
        return None
    one, other = sorted((first, last), key=lambda found: found.start())
    cut = one.end() if _nouns(sentence[: one.end()]) else other.start()
    parts = sentence[:cut], sentence[cut:]
    return parts if one is first else parts[::-1]


def _nouns(text: str) -> list[str]:
    return [noun for pattern, nouns in _GROUPS if pattern.search(text) for noun in nouns]


def appliance_nouns(appliance: str) -> tuple[str, ...]:
    """The game's nouns for what an instruction calls by a family name."""
    return LAMPS if appliance == "lamp" else (appliance,)
