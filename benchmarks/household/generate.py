"""Games from a seed: the same (seed, split, index) is the same game on every machine.

The mix is made so that no advice is free. Some games hide the object behind a closed door, some lay
it on a surface; some rooms are large, some small; some need an appliance, some a second object.
"""

from __future__ import annotations

import random

from benchmarks.household.rooms import APPLIANCE, CAN, LAMPS, OPENABLE, ROOMS, Room, kind
from benchmarks.household.world import Goal, Scenario

MIX = {"pick": 27, "two": 14, "clean": 22, "heat": 20, "cool": 9, "light": 8}
"""How often each task type comes, in percent."""

CLUSTER = {
    "pick": "pick_and_place",
    "two": "pick_two_and_place",
    "clean": "clean_and_place",
    "heat": "heat_and_place",
    "cool": "cool_and_place",
    "light": "examine_in_light",
}

PHRASES = {
    "pick": ("put a {o} in {p}", "put some {o} on {p}"),
    "two": ("put two {o} in {p}", "find two {o} and put them in {p}"),
    "clean": ("put a clean {o} in {p}", "clean some {o} and put it in {p}"),
    "heat": ("put a hot {o} in {p}", "heat some {o} and put it in {p}"),
    "cool": ("put a cool {o} in {p}", "cool some {o} and put it in {p}"),
    "light": ("look at {o} under the {p}", "examine the {o} with the {p}"),
}

HIDDEN = 0.3
"""Share of games whose goal object lies behind a closed door."""


def scenario(seed: int, split: str, index: int) -> Scenario:
    """Game ``index`` of ``split``. Always solvable; never solved at the start."""
    rng = random.Random(f"household/{seed}/{split}/{index}")
    verb = rng.choices(tuple(MIX), tuple(MIX.values()))[0]
    room = ROOMS[rng.choice(_rooms_for(verb))]
    places = _places(room, rng, large=rng.random() < 0.33)
    goal = _goal(verb, room, places, rng)
    contents: dict[str, list[str]] = {place: [] for place in places}
    _lay_out(contents, goal, rng)
    _distract(contents, room, goal, rng)
    if room.lamp:
        surfaces = [p for p in places if kind(p) in ("desk", "sidetable", "dresser")]
        contents[rng.choice(surfaces)].append(f"{room.lamp} 1")
    text = rng.choice(PHRASES[verb]).format(o=goal.object, p=goal.place)
    frozen = {place: tuple(things) for place, things in contents.items()}
    return Scenario(frozen, goal, text, move_dialect=rng.random() < 0.5)


def _rooms_for(verb: str) -> list[str]:
    if verb == "clean":
        return ["kitchen", "kitchen", "kitchen", "bathroom"]
    if verb in ("heat", "cool"):
        return ["kitchen"]
    return ["bedroom", "livingroom"] if verb == "light" else list(ROOMS)


def _places(room: Room, rng: random.Random, *, large: bool) -> list[str]:
    """Receptacles as ALFWorld lists them: nouns in order, numbers falling."""
    places = []
    for noun, (low, high) in room.receptacles.items():
        middle = (low + high) // 2
        count = rng.randint(middle, high) if large else rng.randint(low, middle)
        places += [f"{noun} {number}" for number in range(count, 0, -1)]
    return places


def _goal(verb: str, room: Room, places: list[str], rng: random.Random) -> Goal:
    objects = [o for o in room.objects if verb not in CAN or o in CAN[verb]]
    thing = rng.choice(objects)
    if verb == "light":
        assert room.lamp is not None
        return Goal(verb, thing, room.lamp)
    nouns = sorted({kind(p) for p in places} - {APPLIANCE.get(verb, ""), "toaster", "handtowelholder"})
    return Goal(verb, thing, rng.choice(nouns))


def _lay_out(contents: dict[str, list[str]], goal: Goal, rng: random.Random) -> None:
    """Place the goal objects, away from where they must go."""
    away = [p for p in contents if kind(p) != goal.place and kind(p) != "toaster"]
    closed = [p for p in away if kind(p) in OPENABLE]
    surfaces = [p for p in away if kind(p) not in OPENABLE]
    hidden = rng.random() < HIDDEN
    for number in range(1, (2 if goal.verb == "two" else 1) + 1):
        pool = closed if hidden and closed else surfaces or closed
        contents[rng.choice(pool)].append(f"{goal.object} {number}")


def _distract(contents: dict[str, list[str]], room: Room, goal: Goal, rng: random.Random) -> None:
    """Other objects: few behind doors, more on surfaces; order shuffled with what lies there."""
    others = [o for o in room.objects if o != goal.object and o not in LAMPS]
    numbers: dict[str, int] = {}
    for place, things in contents.items():
        roomy = kind(place) in ("countertop", "diningtable", "desk", "dresser", "sidetable", "coffeetable", "shelf")
        for _ in range(rng.choice((2, 3, 4, 6, 8)) if roomy else rng.choice((0, 0, 1, 2))):
            thing = rng.choice(others)
            numbers[thing] = numbers.get(thing, 0) + 1
            things.append(f"{thing} {numbers[thing]}")
        rng.shuffle(things)
