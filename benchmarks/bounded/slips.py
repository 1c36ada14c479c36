"""How a good intention is written badly.

A slip has two parts. *Susceptibility* is a fixed property of the player: the same situation (the last
result and the command it wants to write) trips it in the same way, every time; long requests widen
what trips it. The *draw* comes from the request and the attempt: it decides whether the slip happens
this time. A malformed call still in view is copied for a while, as a bad example in context is.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bounded.grammar import read_facts
from benchmarks.bounded.perception import Belief, Hands
from benchmarks.bounded.planner import FINISH, LIST, Intent
from harnessx.messages import ToolCall

RATES: Mapping[str, float] = {
    "raw": 0.010,
    "name": 0.009,
    "key": 0.015,
    "form": 0.020,
    "aloud": 0.009,
    "again": 0.50,
    "list": 0.015,
    "claim": 0.120,
    "claim_half": 0.300,
    "claim_lost": 0.06,
}
"""Share of situations that trip the player, at a request of `USUAL` characters."""

USUAL = 3400
CERTAIN = 0.93
"""How often a situation that trips it does so in one draw."""

GIVE_UP = "give up"

_KINDS = tuple(RATES)
_MALFORMED = ("raw", "name", "key", "form")


@dataclass(frozen=True, slots=True)
class Draw:
    """Uniform numbers of one call: ``fixed`` by the situation, ``free`` by request and attempt."""

    fixed: Sequence[float]
    free: Sequence[float]
    load: float

    def slips(self, slip: str, scale: float = 1.0) -> bool:
        """Whether ``slip`` happens now."""
        index = _KINDS.index(slip)
        return self.fixed[index] < RATES[slip] * self.load * scale and self.free[index] < CERTAIN


def uniform(*parts: str) -> tuple[float, ...]:
    """Fifteen numbers in [0, 1) from texts: the 32-bit words of one BLAKE2b hash."""
    raw = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=60).digest()
    return tuple(word / 4294967296 for word in struct.unpack("<15I", raw))


def draw(belief: Belief, intent: Intent, size: int, weights: str, call: str) -> Draw:
    """The numbers for one call. ``weights`` names the player, ``call`` the request and attempt."""
    last = belief.own[-1][1] if belief.own else belief.goal_text
    load = 0.6 + 0.4 * size / USUAL
    return Draw(uniform(weights, last, intent.command), uniform(call), load)


def lock_in(belief: Belief, hands: Hands, weights: str) -> str:
    """The malformed way of writing that the newest calls in view set an example for, or ''.

    `GIVE_UP` where patience has run out and the player takes its tools for broken.
    """
    if not belief.own:
        return ""
    slip = _malformed(*belief.own[-1], hands)
    if not slip:
        return ""
    run = 0
    for call, result in reversed(belief.own):
        if _malformed(call, result, hands) != slip:
            break
        run += 1
    first = belief.own[-run][0]
    numbers = uniform(weights, slip, belief.goal_text, first.raw or str(first.arguments))
    if run < 3 + int(9 * numbers[0]):
        return slip
    return GIVE_UP if numbers[1] < 0.4 else ""


def repeats(belief: Belief, chance: Draw, weights: str) -> str:
    """The well-formed command that just did nothing and is tried again all the same, or ''."""
    if not belief.own or "nothing happens" not in belief.own[-1][1].lower():
        return ""
    command = _command(belief.own[-1][0])
    run = 0
    for call, result in reversed(belief.own):
        if _command(call) != command or "nothing happens" not in result.lower():
            break
        run += 1
    numbers = uniform(weights, "again", belief.goal_text, command)
    patience = 2 + int(7 * numbers[1])
    stubborn = numbers[0] < RATES["again"] and run < patience and chance.free[14] < CERTAIN
    return command if stubborn and command and not belief.told_off(command.lower()) else ""


def without_number(command: str) -> str:
    """The command as people say it: an article for the number, as in ``go to the shelf``."""
    said = re.sub(r" ([a-z]+) \d+", r" the \1", command)
    return said.partition(" from ")[0] if command.startswith("take ") else said


def wants_finish_too_soon(belief: Belief, chance: Draw) -> bool:
    """Right after a transformation or a first delivery, the work can look done."""
    if not belief.own or belief.asked_to_verify:
        return False
    scale = 0.5 if belief.verify else 1.0
    goal = belief.goal
    if goal is None:
        return chance.slips("claim_lost", scale)
    last = [fact[1] for fact in read_facts(belief.own[-1][1])]
    if "put" in last and goal.verb == "two" and not belief.one_at_a_time:
        return chance.slips("claim_half", scale)
    return "made" in last and chance.slips("claim", scale)


def thinks_aloud(belief: Belief, chance: Draw) -> bool:
    """Says the command instead of calling the tool."""
    if belief.asked_to_call:
        return False
    return chance.slips("aloud", 0.5 if belief.call_tools else 1.0)


def malformed(belief: Belief, intent: Intent, chance: Draw, weights: str) -> str:
    """Which malformed way of writing happens now, or ''."""
    if intent in (FINISH, LIST):
        return ""
    habit = lock_in(belief, belief.hands, weights)
    if habit and chance.free[13] < CERTAIN and not _corrected(belief):
        return habit
    verb = "go to" if intent.command.startswith("go to") else intent.command.partition(" ")[0]
    verb = "with" if " with " in intent.command else verb
    scales = {"form": 0.020 if verb in belief.hands.told else 1.0}
    return next((slip for slip in _MALFORMED if chance.slips(slip, scales.get(slip, 1.0))), "")


def _corrected(belief: Belief) -> bool:
    return belief.told_off(_command(belief.own[-1][0]).lower())


def _command(call: ToolCall) -> str:
    return str(next(iter(call.arguments.values()), ""))


def _malformed(call: ToolCall, result: str, hands: Hands) -> str:
    if call.raw is not None:
        return "raw"
    if hands.act is None or call.name not in (hands.act.name, hands.listing, hands.explore):
        return "name"
    if call.arguments and not (hands.act_key in call.arguments or hands.explore_key in call.arguments):
        return "key"
    command = _command(call)
    lost = " " in command and not any(word.isdigit() for word in command.split())
    return "form" if lost and "nothing happens" in result.lower() else ""
