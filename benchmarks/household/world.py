"""The rules of the room: one command in, one observation out.

Commands and observations have the wording of ALFWorld's text games, in both dialects: the newer
``move X to Y`` and the older ``put X in/on Y``. What a command cannot do gives "Nothing happens."
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.household.rooms import APPLIANCE, CAN, LAMPS, OPENABLE, kind

NOTHING = "Nothing happens."

HELP = """Available commands:
  look: look around your current location
  inventory: check your current inventory
  go to (receptacle): move to a receptacle
  open (receptacle): open a receptacle
  close (receptacle): close a receptacle
  take (object) from (receptacle): take an object from a receptacle
  {place}: place an object in or on a receptacle
  examine (something): examine a receptacle or an object
  use (object): use an object
  heat (object) with (receptacle): heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle): cool an object using a receptacle"""

_STATE = {"clean": "clean", "heat": "hot", "cool": "cold"}
_BECOMES = {"clean": ("clean", None), "heat": ("hot", "cold"), "cool": ("cold", "hot")}


@dataclass(frozen=True, slots=True)
class Goal:
    """What wins the game. ``verb`` is pick, two, clean, heat, cool or light (``place`` is the lamp)."""

    verb: str
    object: str
    place: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """The start of a game. ``contents`` lists what lies in or on each receptacle, in room order."""

    contents: Mapping[str, tuple[str, ...]]
    goal: Goal
    goal_text: str
    move_dialect: bool

    @property
    def intro(self) -> str:
        """The room and the task, as the player reads them first."""
        room = listing(tuple(self.contents))
        return (
            "You are in the middle of a room. Looking quickly around you, you see "
            f"{room}.\n\nYour task is to: {self.goal_text}."
        )


def listing(names: tuple[str, ...] | list[str]) -> str:
    """ALFWorld's enumeration: ``a mug 1, a cup 2, and a pan 1``; ``nothing`` for none."""
    if not names:
        return "nothing"
    if len(names) == 1:
        return f"a {names[0]}"
    return f"a {', a '.join(names[:-1])}, and a {names[-1]}"


class World:
    """One game in play. Deterministic: equal commands give equal observations."""

    def __init__(self, scenario: Scenario) -> None:
        self._goal = scenario.goal
        self._move = scenario.move_dialect
        self._contents = {place: list(things) for place, things in scenario.contents.items()}
        self._intro = scenario.intro
        self._open = {place: kind(place) not in OPENABLE for place in self._contents}
        self._state: dict[str, set[str]] = {}
        self._lit: set[str] = set()
        self._at: str | None = None
        self._holding: str | None = None

    def act(self, command: str) -> str:
        """Run one command. Exact wording only; anything else is `NOTHING`."""
        verb, _, rest = command.strip().partition(" ")
        match verb:
            case "go":
                return self._go(rest.removeprefix("to "))
            case "take":
                return self._take(*rest.partition(" from ")[::2])
            case "move":
                return self._place(*rest.partition(" to ")[::2])
            case "put":
                return self._place(*rest.partition(" in/on ")[::2])
            case "open" | "close":
                return self._turn(rest, verb == "open")
            case "clean" | "heat" | "cool":
                return self._transform(verb, *rest.partition(" with ")[::2])
            case "use":
                return self._use(rest)
            case "examine":
                return self._examine(rest)
            case "look" | "inventory" | "help" if not rest:
                return {"look": self._look, "inventory": self._inventory, "help": self._help}[verb]()
        return NOTHING

    @property
    def won(self) -> bool:
        """Whether the goal holds now."""
        goal = self._goal
        if goal.verb == "light":
            held = self._holding is not None and kind(self._holding) == goal.object
            here = self._contents.get(self._at or "", ())
            return held and any(kind(lamp) == goal.place for lamp in self._lit.intersection(here))
        wanted = _STATE.get(goal.verb)
        placed = sum(
            1
            for place, things in self._contents.items()
            if kind(place) == goal.place
            for thing in things
            if kind(thing) == goal.object and (wanted is None or wanted in self._state.get(thing, ()))
        )
        return placed >= (2 if goal.verb == "two" else 1)

    def admissible(self) -> list[str]:
        """Every command that would do something now, sorted."""
        out = [f"go to {place}" for place in self._contents if place != self._at]
        out += ["help", "inventory", "look"]
        at, held = self._at, self._holding
        if held is not None:
            out.append(f"examine {held}")
        if at is not None:
            out.append(f"examine {at}")
            if kind(at) in OPENABLE:
                out.append(f"close {at}" if self._open[at] else f"open {at}")
            if self._open[at]:
                things = self._contents[at]
                out += [f"use {thing}" for thing in things if kind(thing) in LAMPS]
                if held is None:
                    out += [f"take {thing} from {at}" for thing in things if kind(thing) not in LAMPS]
                else:
                    out.append(f"move {held} to {at}" if self._move else f"put {held} in/on {at}")
            if held is not None:
                out += [
                    f"{verb} {held} with {at}"
                    for verb, appliance in APPLIANCE.items()
                    if kind(at) == appliance and kind(held) in CAN[verb]
                ]
        return sorted(out)

    def find(self, noun: str) -> list[tuple[str, str]]:
        """All ``(thing, receptacle)`` pairs of a noun. For the oracle and for tests, never for an agent."""
        return [(t, place) for place, things in self._contents.items() for t in things if kind(t) == noun]

    @property
    def places(self) -> tuple[str, ...]:
        """The receptacles, in the order the room lists them."""
        return tuple(self._contents)

    def is_open(self, place: str) -> bool:
        """Whether things can be taken from and put into ``place`` now."""
        return self._open[place]

    def _see(self, place: str) -> str:
        if kind(place) not in OPENABLE:
            return f"On the {place}, you see {listing(self._contents[place])}."
        if not self._open[place]:
            return f"The {place} is closed."
        return f"The {place} is open. In it, you see {listing(self._contents[place])}."

    def _go(self, place: str) -> str:
        if place not in self._contents or place == self._at:
            return NOTHING
        self._at = place
        return f"You arrive at {place}. {self._see(place)}"

    def _take(self, thing: str, place: str) -> str:
        reachable = place == self._at and self._open.get(place, False)
        if self._holding is not None or not reachable or thing not in self._contents[place]:
            return NOTHING
        if kind(thing) in LAMPS:
            return NOTHING
        self._contents[place].remove(thing)
        self._holding = thing
        return f"You pick up the {thing} from the {place}."

    def _place(self, thing: str, place: str) -> str:
        if thing != self._holding or place != self._at or not self._open.get(place, False):
            return NOTHING
        self._contents[place].append(thing)
        self._holding = None
        return f"You move the {thing} to the {place}." if self._move else f"You put the {thing} in/on the {place}."

    def _turn(self, place: str, opening: bool) -> str:
        if place != self._at or kind(place) not in OPENABLE or self._open[place] is opening:
            return NOTHING
        self._open[place] = opening
        return f"You open the {place}. {self._see(place)}" if opening else f"You close the {place}."

    def _transform(self, verb: str, thing: str, place: str) -> str:
        if thing != self._holding or place != self._at or kind(place) != APPLIANCE[verb]:
            return NOTHING
        if kind(thing) not in CAN[verb]:
            return NOTHING
        gained, lost = _BECOMES[verb]
        states = self._state.setdefault(thing, set())
        states.add(gained)
        states.discard(lost or "")
        return f"You {verb} the {thing} using the {place}."

    def _use(self, lamp: str) -> str:
        if lamp not in self._contents.get(self._at or "", ()) or kind(lamp) not in LAMPS:
            return NOTHING
        self._lit.add(lamp)
        return f"You turn on the {lamp}."

    def _examine(self, thing: str) -> str:
        if thing == self._at:
            return self._see(thing)
        here = self._at is not None and self._open[self._at] and thing in self._contents[self._at]
        if thing != self._holding and not here:
            return NOTHING
        states = self._state.get(thing)
        if not states:
            return f"There's nothing special about {thing}."
        return f"This is a {' and '.join(sorted(states, reverse=True))} {thing}."

    def _look(self) -> str:
        if self._at is None:
            return self._intro.partition("\n")[0]
        return f"You are facing the {self._at}. Next to it, you see nothing."

    def _inventory(self) -> str:
        return f"You are carrying: a {self._holding}." if self._holding else "You are not carrying anything."

    def _help(self) -> str:
        place = "move (object) to (receptacle)" if self._move else "put (object) in/on (receptacle)"
        return HELP.format(place=place)
