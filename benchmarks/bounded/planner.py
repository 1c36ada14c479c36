"""What a player with this belief means to do next. Competent within what it sees, and no further."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bounded.grammar import CLOSEABLE, TRANSFORMS, kind
from benchmarks.bounded.instructions import appliance_nouns
from benchmarks.bounded.perception import Belief


@dataclass(frozen=True, slots=True)
class Intent:
    """``command`` to give; or FINISH, or LIST the commands. ``exploring`` a place not seen before."""

    command: str
    exploring: bool = False


FINISH = Intent("")
LIST = Intent("?")


def plan(belief: Belief, whim: float) -> Intent:
    """The first intention that is not known to be futile. ``whim`` in [0, 1) breaks ties of the lost."""
    for intent in _intentions(belief):
        if intent in (FINISH, LIST):
            return intent
        if intent.command not in belief.failed and not belief.told_off(intent.command):
            return intent
    return _lost(belief, whim)


def _intentions(b: Belief) -> Iterator[Intent]:
    goal = b.goal
    if goal is None:
        yield from _search(b)
        return
    if len(b.delivered) >= (2 if goal.verb == "two" else 1):
        yield FINISH
    if b.holding and kind(b.holding) == goal.object:
        yield from _with_object(b)
        return
    if b.holding:
        yield from _put_down(b, b.at)
    for thing, place in reversed(b.where.items()):
        if kind(thing) == goal.object and thing not in b.delivered:
            yield from _fetch(b, thing, place)
    yield from _search(b)


def _with_object(b: Belief) -> Iterator[Intent]:
    """Carrying what the goal is about."""
    assert b.goal is not None
    goal = b.goal
    if goal.verb == "two" and not b.one_at_a_time and not b.delivered:
        yield from _second(b)
    appliance = b.procedures.get(goal.verb, "")
    if goal.verb == "light":
        yield from _light(b, appliance)
        return
    if goal.verb in TRANSFORMS and appliance and (goal.verb, b.holding) not in b.made:
        place = _nearest(b, appliance_nouns(appliance))
        if b.at != place:
            yield Intent(f"go to {place}")
        yield Intent(f"{goal.verb} {b.holding} with {place}" if "with" in b.forms else f"{goal.verb} {b.holding}")
    for place in _targets(b, goal.place):
        if b.at != place:
            yield Intent(f"go to {place}")
        yield from _put_down(b, place)


def _second(b: Belief) -> Iterator[Intent]:
    """Nobody said that hands hold one thing: find and take the second before delivering the first."""
    assert b.goal is not None
    if any(command.startswith(f"take {b.goal.object}") for command in b.failed):
        return
    for thing, place in reversed(b.where.items()):
        if kind(thing) == b.goal.object and thing != b.holding:
            yield from _fetch(b, thing, place)
    if any(place not in b.searched for place in b.known):
        yield from _search(b)


def _light(b: Belief, appliance: str) -> Iterator[Intent]:
    """To see something in the light, carry it to a lamp and turn the lamp on."""
    if not appliance:
        looked = b.own and next(iter(b.own[-1][0].arguments.values()), "") == f"examine {b.holding}"
        yield FINISH if looked else Intent(f"examine {b.holding}")
        return
    nouns = appliance_nouns(appliance)
    for lamp, place in b.where.items():
        if kind(lamp) in nouns:
            if b.at != place:
                yield Intent(f"go to {place}")
            if ("light", lamp) in b.made:
                yield FINISH
            yield Intent(f"use {lamp}" if "use" in b.forms else f"turn on {lamp}")
            yield FINISH
    yield from _search(b)


def _fetch(b: Belief, thing: str, place: str) -> Iterator[Intent]:
    take = f"take {thing} from {place}" if "take" in b.forms else f"take {thing}"
    if take in b.failed or b.told_off(take):
        return
    if b.at != place:
        yield Intent(f"go to {place}")
    if place in b.closed and b.opening:
        yield Intent(f"open {place}")
    yield Intent(take)


def _put_down(b: Belief, place: str) -> Iterator[Intent]:
    if place in b.closed and b.opening:
        yield Intent(f"open {place}")
    forms = {"move": f"move {b.holding} to {place}", "put": f"put {b.holding} in/on {place}"}
    if b.put_form:
        yield Intent(forms.pop(b.put_form))
    if len(b.forms & {"move", "put"}) == 2 or not b.put_form:
        yield from (Intent(command) for command in forms.values())
    if kind(place) in CLOSEABLE and b.opening:
        yield Intent(f"open {place}")


def _search(b: Belief) -> Iterator[Intent]:
    """The next place not looked into; where none is known, ask for a list."""
    if b.at in b.closed and b.opening and b.at not in b.searched:
        yield Intent(f"open {b.at}")
    fresh = [p for p in b.known if p not in b.searched and p != b.at and (b.opening or p not in b.closed)]
    if b.order:
        rank = b.order
        fresh.sort(key=lambda place: rank.get(kind(place), 1))
    for place in fresh:
        yield Intent(f"go to {place}", exploring=True)
    if b.hands.listing and not b.listed:
        yield LIST


def _nearest(b: Belief, nouns: tuple[str, ...]) -> str:
    """A place of one of these nouns: here, else known, else a guess at its name."""
    if kind(b.at) in nouns:
        return b.at
    return next((place for place in b.known if kind(place) in nouns), f"{nouns[0]} 1")


def _targets(b: Belief, noun: str) -> Iterator[str]:
    if kind(b.at) == noun:
        yield b.at
    yield from [place for place in b.known if kind(place) == noun and place != b.at]
    yield f"{noun} 1"


def _lost(b: Belief, whim: float) -> Intent:
    """Nothing sensible is left in view: look around, or go somewhere again."""
    places = [place for place in b.known if place != b.at]
    if not places or whim < 0.2:
        return Intent("look" if whim < 0.1 else "inventory")
    return Intent(f"go to {places[int(whim * len(places))]}")
