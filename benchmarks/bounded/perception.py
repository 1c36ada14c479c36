"""From a request to what the player holds in mind: only what is visible, and only a window of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from zlib import crc32

from benchmarks.bounded.grammar import VERBS, Fact, Goal, find_goal, kind, read_facts, things
from benchmarks.bounded.instructions import NOTHING_LEARNT, Lesson, read_lesson
from harnessx.messages import Message, ModelRequest, ToolCall, ToolSchema

WINDOW = 2000
"""Attention, in characters of messages; long prompts and tool descriptions eat from it."""
FREE_HEAD = 1000
"""Characters of system prompt and tool descriptions that cost no attention."""
LEAST_WINDOW = 600
PURPOSE = 100
"""Further characters within which the goal, and nothing else, is still remembered."""
CROWDED = 4
"""Longest enumeration that is read without overlooking anything."""
OVERLOOKED = 55
"""Share of the middle of a longer one that is overlooked, in percent."""
FREE_TAIL = 1400
"""Characters of the newest message that cost no attention."""
_REMEMBERED = 4096
"""Messages whose reading is kept."""


@dataclass(frozen=True, slots=True)
class Hands:
    """The tools as the player understands them. ``explore`` goes to a place and opens it in one call."""

    act: ToolSchema | None = None
    act_key: str = ""
    listing: str = ""
    explore: str = ""
    explore_key: str = ""
    told: frozenset[str] = frozenset()
    """Command forms that the description of ``act`` spells out."""


@dataclass(slots=True)
class Belief:
    """What the player believes now, in its own words; everything that scrolled away is missing."""

    hands: Hands
    goal: Goal | None = None
    goal_text: str = ""
    at: str = ""
    holding: str = ""
    known: dict[str, None] = field(default_factory=dict)
    searched: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    where: dict[str, str] = field(default_factory=dict)
    delivered: set[str] = field(default_factory=set)
    made: set[tuple[str, str]] = field(default_factory=set)
    listed: bool = False
    own: list[tuple[ToolCall, str]] = field(default_factory=list)
    """Own calls in view, each with the text of its result."""
    failed: set[str] = field(default_factory=set)
    """Commands that did nothing since the world last changed."""
    procedures: dict[str, str] = field(default_factory=dict)
    opening: bool = False
    one_at_a_time: bool = False
    order: dict[str, int] = field(default_factory=dict)
    forms: set[str] = field(default_factory=set)
    put_form: str = ""
    give_up: list[str] = field(default_factory=list)
    verify: bool = False
    """Some instruction in view asks to check before finishing."""
    call_tools: bool = False
    asked_to_verify: bool = False
    """The newest message itself asks it."""
    asked_to_call: bool = False

    def learn(self, lesson: Lesson) -> None:
        """Take in what one text teaches; the newest wins."""
        self.procedures.update(lesson.procedures)
        self.order.update(lesson.order)
        self.forms |= lesson.forms
        if len(put := lesson.forms & {"put", "move"}) == 1 or (put and not self.put_form):
            self.put_form = max(put)
        if lesson.opening is not None:
            self.opening = lesson.opening
        self.one_at_a_time |= lesson.one_at_a_time
        self.give_up += lesson.give_up
        self.verify |= lesson.verify
        self.call_tools |= lesson.call_tools

    def told_off(self, command: str) -> bool:
        """Whether a line in view says to leave off exactly this command."""
        for line in self.give_up:
            at = line.find(command)
            if at >= 0 and not line[at + len(command) : at + len(command) + 1].isdigit():
                return True
        return False


def perceive(request: ModelRequest) -> Belief:
    """Read the visible part of a request, oldest first."""
    tools = tuple((t.name, t.description, _text_keys(t)) for t in request.tools)
    hands, lessons, cost = _head(request.system, tools)
    belief = Belief(hands)
    for lesson in lessons:
        belief.learn(lesson)
    goal = _goal_in(request.system)
    if goal:
        belief.goal_text, belief.goal = goal, find_goal(goal)
    room = max(WINDOW - max(cost - FREE_HEAD, 0) // 2, LEAST_WINDOW)
    seen = _visible(request.messages, room)
    for page, shown in reversed(seen):
        _take_in(belief, page, shown)
    if seen and seen[0][0].message.role == "user" and len(request.messages) > 1:
        newest = seen[0][0].lesson
        belief.asked_to_verify, belief.asked_to_call = newest.verify, newest.call_tools
    return belief


@dataclass(frozen=True, slots=True)
class Page:
    """A message as it is read: ``size`` is the characters it takes up, in its text and the calls it makes."""

    message: Message
    text: str
    size: int
    lesson: Lesson
    facts: tuple[Fact, ...]


_PAGES: dict[int, Page] = {}
"""By the identity of a message, which its page keeps alive: the same messages are read at every step."""


def read(message: Message) -> Page:
    """``message``, read once."""
    page = _PAGES.get(id(message))
    if page is None:
        text, size = message.text, len(message.text)
        for call in message.tool_calls:
            size += len(call.name) + len(call.raw or "") + sum(len(str(v)) + 8 for v in call.arguments.values())
        if len(_PAGES) >= _REMEMBERED:
            _PAGES.clear()
        page = _PAGES[id(message)] = Page(message, text, size, read_lesson(text), read_facts(text))
    return page


def _visible(messages: Sequence[Message], room: int) -> list[tuple[Page, int]]:
    """The newest messages that fit, newest first, each with how many of its last characters do.

    Messages that lie only within `PURPOSE` have none or fewer: their goal alone is read.
    """
    seen: list[tuple[Page, int]] = []
    free = FREE_TAIL
    for message in reversed(messages):
        page = read(message)
        size = page.size
        seen.append((page, min(size, room + free)))
        room -= max(size - free, 0)
        free = 0
        if room <= -PURPOSE:
            break
    return seen


def _text_keys(tool: ToolSchema) -> tuple[str, ...]:
    properties = tool.parameters.get("properties", {})
    keys = tuple(key for key, value in properties.items() if value.get("type") == "string")
    return keys if len(keys) == len(properties) else ("", "")


@lru_cache(maxsize=4096)
def _head(system: str, tools: tuple[tuple[str, str, tuple[str, ...]], ...]) -> tuple[Hands, tuple[Lesson, ...], int]:
    """Tools and lessons of a request's fixed part, and the characters it takes up."""
    act: tuple[str, str] = ("", "")
    listing, explore, told = "", ("", ""), frozenset[str]()
    for name, description, keys in tools:
        low = description.lower()
        if len(keys) == 1 and ("command" in keys[0] or "command" in low):
            act, told = (name, keys[0]), read_lesson(description).forms
        elif len(keys) == 1 and "open" in low and any(verb in low for verb in VERBS[:1]):
            explore = (name, keys[0])
        elif not keys and "command" in name + low:
            listing = name
    schema = ToolSchema(act[0]) if act[0] else None
    hands = Hands(schema, act[1], listing, explore[0], explore[1], told)
    lessons = (read_lesson(system), *(read_lesson(description) for _, description, _ in tools))
    return hands, lessons, len(system) + sum(len(name) + len(text) for name, text, _ in tools)


@lru_cache(maxsize=4096)
def _goal_in(text: str) -> str:
    return next((fact[2] for fact in reversed(read_facts(text)) if fact[1] == "goal"), "")


def _take_in(belief: Belief, page: Page, shown: int) -> None:
    message, text = page.message, page.text
    if shown <= 0 and message.role != "user":
        return
    if message.tool_calls:
        belief.own.append((message.tool_calls[-1], ""))
    result = message.role == "tool" and bool(belief.own)
    if result:
        call, earlier = belief.own[-1]
        belief.own[-1] = (call, f"{earlier}\n{text}" if earlier else text)
    if not text:
        return
    if page.lesson is not NOTHING_LEARNT and shown >= len(text):
        belief.learn(page.lesson)
    for back, name, first, second in page.facts:
        if back <= shown or (name == "goal" and back <= shown + PURPOSE):
            _believe(belief, name, first, second, result)


def _believe(belief: Belief, name: str, first: str, second: str, result: bool) -> None:
    """Change the belief by one fact. Only what was just done (``result``) makes failures worth a retry."""
    if result and name in ("took", "put"):
        belief.failed.clear()
    match name:
        case "at":
            belief.at = first
            belief.known[first] = None
        case "inside":
            _see_inside(belief, first, second)
        case "closed" | "shut":
            belief.closed.add(first)
            belief.known[first] = None
        case "open":
            belief.closed.discard(first)
        case "nothing":
            if result:
                command = str(next(iter(belief.own[-1][0].arguments.values()), ""))
                belief.failed.add(command.lower())
                if command.startswith("go to ") and command[6:] in belief.known:
                    belief.at = command[6:]
        case "took":
            belief.holding = first
            belief.where.pop(first, None)
            belief.delivered.discard(first)
        case "put":
            belief.holding = ""
            belief.where[first] = second
            if belief.goal and kind(second) == belief.goal.place:
                belief.delivered.add(first)
        case "made":
            belief.made.add((first, second))
        case "lit":
            belief.made.add(("light", first))
        case "goal":
            belief.goal_text, belief.goal = first, find_goal(first)
        case "room" | "listed" | "unseen":
            names = things(first)
            belief.known.update(dict.fromkeys(names))
            belief.listed |= name == "listed"
            if name == "unseen":
                belief.searched.difference_update(names)
        case "been":
            belief.searched.update(things(first))
        case "carrying":
            belief.holding = next(iter(things(first)), "")
        case "empty":
            belief.holding = ""


@lru_cache(maxsize=65536)
def _noticed(listed: str) -> tuple[str, ...]:
    """The things that are noticed in an enumeration: in a long one, some of the middle are overlooked."""
    names = things(listed)
    if len(names) <= CROWDED:
        return names
    middle = names[2:-2]
    seen = [n for n in middle if crc32(f"{n}|{listed}".encode()) % 100 >= OVERLOOKED]
    return (*names[:2], *seen, *names[-2:])


def _see_inside(belief: Belief, place: str, listed: str) -> None:
    belief.known[place] = None
    belief.searched.add(place)
    belief.closed.discard(place)
    for thing in _noticed(listed):
        belief.where[thing] = place
        goal = belief.goal
        if goal and kind(thing) == goal.object and kind(place) == goal.place and goal.verb in ("pick", "two"):
            belief.delivered.add(thing)
