"""What the player reads off the game's own wording: observations, goals, commands.

Everything works on lower-case text, wherever it stands and whoever wrote it. The vocabulary is that of
ALFWorld's text games, both dialects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

RECEPTACLES = (
    "armchair bathtubbasin bed bathtub cabinet cart coffeemachine coffeetable countertop desk diningtable"
    " drawer dresser fridge garbagecan handtowelholder laundryhamper microwave ottoman paintinghanger safe"
    " shelf sidetable sink sinkbasin sofa stoveburner toaster toilet toiletpaperhanger towelholder tvstand"
).split()
LAMPS = ("desklamp", "floorlamp")
CLOSEABLE = ("cabinet", "drawer", "fridge", "microwave", "safe", "box")
VERBS = ("go to", "take", "move", "put", "open", "close", "clean", "heat", "cool", "use", "examine")
TRANSFORMS = ("clean", "heat", "cool")

_THING = r"[a-z]+ \d+"
_LISTED = re.compile(r"[a-z]+ \d+")
_FACTS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("room", r"looking quickly around you, you see ([^.]*)"),
        ("at", rf"you arrive at (?:the )?({_THING})"),
        ("closed", rf"the ({_THING}) is closed"),
        ("open", rf"the ({_THING}) is open"),
        ("inside", rf"the ({_THING}) is open\. in it, you see ([^.]*)"),
        ("inside", rf"on the ({_THING}), you see ([^.]*)"),
        ("took", rf"you pick up the ({_THING})(?: from the ({_THING}))?"),
        ("put", rf"you (?:put|move) the ({_THING}) (?:in/on|into|in|on|to) the ({_THING})"),
        ("made", rf"you (clean|heat|cool) the ({_THING}) using"),
        ("lit", rf"you turn on the ({_THING})"),
        ("carrying", r"you are carrying: ([^.]*)"),
        ("empty", r"you are not carrying anything"),
        ("shut", rf"you close the ({_THING})"),
        ("nothing", r"nothing happens"),
        ("seen", rf"there's nothing special about|this is a [a-z ]*?{_THING}|you are facing the"),
    )
)
_GENERIC = r"(?!object|item|thing|something|anything|it\b|them\b|one\b|x\b|y\b)"
_NOUN = rf"{_GENERIC}([a-z]+)"
_PLACE = (
    rf"(?:in/on|in|on|into|onto|to|inside) (?:the |a |an )?({'|'.join(sorted(RECEPTACLES, reverse=True))})s?\b(?! \d)"
)
_THE = r"(?:the |a |an |some )?"
_GOALS = tuple(
    (verb, re.compile(pattern))
    for verb, pattern in (
        ("light", rf"(?:look at|examine) {_THE}{_NOUN} (?:under|with) (?:the |a )?({'|'.join(LAMPS)})\b"),
        ("two", rf"(?:put|place|find) two {_NOUN} (?:and (?:put|place) them )?{_PLACE}"),
        ("clean", rf"(?:put|place) {_THE}clean {_NOUN} {_PLACE}"),
        ("clean", rf"clean {_THE}{_NOUN} and (?:put|place) it {_PLACE}"),
        ("heat", rf"(?:put|place) {_THE}hot {_NOUN} {_PLACE}"),
        ("heat", rf"heat {_THE}{_NOUN} and (?:put|place) it {_PLACE}"),
        ("cool", rf"(?:put|place) {_THE}(?:cool|cold) {_NOUN} {_PLACE}"),
        ("cool", rf"cool {_THE}{_NOUN} and (?:put|place) it {_PLACE}"),
        ("pick", rf"(?:put|place) {_THE}{_NOUN} {_PLACE}"),
    )
)  # fmt: skip
COMMAND = re.compile(
    rf"\b(?:go to {_THING}|(?:open|close|use|examine) {_THING}|take {_THING} from {_THING}"
    rf"|move {_THING} to {_THING}|put {_THING} in/on {_THING}|(?:clean|heat|cool) {_THING} with {_THING})\b"
)
_PLAIN_LINE = re.compile(rf"^[-*\s]*(?:{COMMAND.pattern}|help|inventory|look)[\s,.]*$")


@dataclass(frozen=True, slots=True)
class Goal:
    """What must come true: ``verb`` is pick, two, clean, heat, cool or light."""

    verb: str
    object: str
    place: str


Fact: TypeAlias = tuple[int, str, str, str]
"""(characters from the fact to the end of its text, kind, first argument, second argument)."""


def kind(name: str) -> str:
    """The noun of a numbered thing."""
    return name.partition(" ")[0]


@lru_cache(maxsize=65536)
def things(text: str) -> tuple[str, ...]:
    """All numbered things named in ``text``, in order."""
    return tuple(_LISTED.findall(text))


@lru_cache(maxsize=65536)
def find_goal(sentence: str) -> Goal | None:
    """The goal that a sentence states, if it states one about concrete nouns."""
    for verb, pattern in _GOALS:
        match = pattern.search(sentence)
        if match and match[1] not in ("clean", "hot", "cool", "cold", "two"):
            return Goal(verb, match[1], match[2])
    return None


@lru_cache(maxsize=65536)
def read_facts(text: str) -> tuple[Fact, ...]:
    """What a text says about the room and about the task, in reading order."""
    found: list[Fact] = []
    left = len(text)
    places: list[str] = []
    commands = 0
    for line in text.split("\n"):
        left -= len(line) + 1
        facts, command = _read_line(line)
        found += facts if left < 0 else [(back + left + 1, *fact) for back, *fact in facts]  # type: ignore[misc]
        commands += bool(command)
        if command.startswith("go to "):
            places.append(command[6:])
    if commands > 2:
        found.insert(0, (len(text) // 2, "listed", ", ".join(places), ""))
    return tuple(found)


@lru_cache(maxsize=65536)
def _read_line(line: str) -> tuple[tuple[Fact, ...], str]:
    """The facts of one line, and the command that it is, if it is one and nothing else."""
    low = line.lower()
    size = len(low)
    found: list[tuple[int, Fact]] = []
    for name, pattern in _FACTS:
        for match in pattern.finditer(low):
            groups = (*match.groups(), "", "")
            found.append((match.start(), (size - match.start(), name, groups[0] or "", groups[1] or "")))
    start = 0
    for sentence in re.split(r"(?<=[.;])", low):
        if find_goal(sentence) is not None:
            found.append((start, (size - start, "goal", sentence, "")))
        found += [(start, (size - start, name, arg, "")) for name, arg in _searched(sentence)]
        start += len(sentence)
    found.sort(key=lambda item: item[0])
    plain = _PLAIN_LINE.match(low)
    return tuple(fact for _, fact in found), low.strip("-* ,.\t") if plain else ""


_UNSEARCHED = re.compile(
    r"\b(?:not(?: yet)?|never|yet to|still to|unvisited|unexplored|unsearched|unchecked|remaining|left to)\b"
)
_SEARCHED = re.compile(r"(?:visited|searched|checked|explored|looked|been|seen so far|places left|remaining|to visit)")


def _searched(sentence: str) -> list[tuple[str, str]]:
    """Notes of where somebody has been, or has not been: ``been`` and ``unseen`` facts."""
    if not _SEARCHED.search(sentence) or "you see" in sentence:
        return []
    names = ", ".join(things(sentence))
    return [("unseen" if _UNSEARCHED.search(sentence) else "been", names)] if names else []
