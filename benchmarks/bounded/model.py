"""`Bounded`: a mechanical player of household text games, with the limits of a small model.

It reads what a request shows, plans within that, and writes its answer with the slips of `slips`.
It knows no processor, no marker and no procedure that no visible text states.
"""

from __future__ import annotations

import json

from benchmarks.bounded.perception import Belief, perceive, read
from benchmarks.bounded.planner import FINISH, LIST, Intent, plan
from benchmarks.bounded.slips import (
    GIVE_UP,
    draw,
    malformed,
    repeats,
    thinks_aloud,
    uniform,
    wants_finish_too_soon,
    without_number,
)
from harnessx.messages import Conversation, ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.models.base import CallContext

VERSION = 2
"""Raised whenever the player would answer some request differently."""

_REMEMBERED = 4096


class Bounded:
    """The offline task model. ``seed`` fixes what it is prone to; a call's context fixes its luck."""

    deterministic = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.name = "bounded"
        self.digest = f"bounded-{VERSION}-{seed}"
        self._weights = f"bounded/{seed}"
        self._sizes: dict[bytes, int] = {}

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Answer one request. Never fails."""
        call = f"{context.seed}/{request.digest()}/{context.attempt}/{context.n}"
        size = self._size(request)
        belief = perceive(request)
        text, action = self._answer(belief, call, size)
        used = Usage(size // 4, len(text) // 4 + 12, 0, 0.0)
        if action is None:
            return ModelResponse(text, (), used, self.name)
        return ModelResponse(text, (action,), used, self.name, "tool_calls")

    def _answer(self, belief: Belief, call: str, size: int) -> tuple[str, ToolCall | None]:
        """What it says and which call it makes, slips included."""
        intent = plan(belief, uniform(call)[12])
        chance = draw(belief, intent, size, self._weights, call)
        if intent is FINISH or wants_finish_too_soon(belief, chance):
            return "I have finished the task.", None
        if belief.hands.act is None:
            return f"I would {intent.command or 'look'}, but I cannot.", None
        again = repeats(belief, chance, self._weights)
        if again:
            intent = Intent(again)
        if thinks_aloud(belief, chance):
            return f"The next thing to do is to {intent.command.replace('?', 'see what is possible')}.", None
        distracted = intent.exploring and belief.hands.listing and chance.slips("list")
        if intent is LIST or distracted:
            return "", ToolCall(_call_id(call), belief.hands.listing)
        slip = "" if again else malformed(belief, intent, chance, self._weights)
        if slip == GIVE_UP:
            return "The tool does not work.", None
        return "", _written(belief, intent, slip, _call_id(call))

    def _size(self, request: ModelRequest) -> int:
        """Characters of the whole request. O(new messages): totals of past prefixes are kept."""
        fixed = len(request.system) + sum(len(t.name) + len(t.description) + 60 for t in request.tools)
        log = request.messages.log
        return fixed + self._log_size(log) + sum(read(message).size for message in request.messages.tail)

    def _log_size(self, log: Conversation) -> int:
        total, start = 0, 0
        for known in range(len(log) - 1, max(len(log) - 5, 0), -1):
            size = self._sizes.get(log.prefix(known).digest())
            if size is not None:
                total, start = size, known
                break
        for index in range(start, len(log)):
            total += read(log[index]).size
        if len(self._sizes) >= _REMEMBERED:
            self._sizes.clear()
        self._sizes[log.digest()] = total
        return total


def _call_id(call: str) -> str:
    return f"call_{call.split('/')[1][:8]}"


def _written(belief: Belief, intent: Intent, slip: str, call_id: str) -> ToolCall:
    """The intent as a tool call, malformed in the way of ``slip``."""
    hands, command = belief.hands, intent.command
    assert hands.act is not None
    name, key = hands.act.name, hands.act_key
    if intent.exploring and hands.explore:
        name, key, command = hands.explore, hands.explore_key, command.removeprefix("go to ")
    match slip:
        case "raw":
            return ToolCall(call_id, name, {}, json.dumps({key: command})[:-1])
        case "name":
            return ToolCall(call_id, name.capitalize(), {key: command})
        case "key":
            return ToolCall(call_id, name, {"cmd" if key != "cmd" else "do": command})
        case "form" if name == hands.act.name:
            return ToolCall(call_id, name, {key: without_number(command)})
    return ToolCall(call_id, name, {key: command})
