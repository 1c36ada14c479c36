"""A model that answers from a script: a real test double, and the floor of a speed measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harnessx.canonical import digest_of
from harnessx.errors import ModelFailure
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.models.base import CallContext


@dataclass
class Scripted:
    """Answers the k-th request of a conversation with the k-th line of ``script``.

    A line is text, or ``{"tool": name, "arguments": {…}, "content": text}``. Which line is due is
    read from the request (the number of assistant turns in it), so one instance serves any number of
    rollouts. After the last line the last one repeats when ``loop`` is set.

    Raises (from ``complete``):
        ModelFailure: the script is exhausted.
    """

    script: Sequence[str | dict[str, Any]] = field(default_factory=list)
    loop: bool = False
    name: str = "scripted"
    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._answers = [_answer(i, line) for i, line in enumerate(self.script)]

    @property
    def digest(self) -> str:
        """Hash of the script."""
        return digest_of([list(self.script), self.loop])

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """The next line."""
        turn = 0 if self.loop and len(self._answers) == 1 else _turns(request)
        if turn >= len(self._answers):
            if not self.loop or not self._answers:
                raise ModelFailure(f"the script has {len(self._answers)} lines, line {turn + 1} was asked for")
            turn = len(self._answers) - 1
        return self._answers[turn]


def _turns(request: ModelRequest) -> int:
    return sum(1 for message in request.messages if message.role == "assistant")


def _answer(index: int, line: str | dict[str, Any]) -> ModelResponse:
    if isinstance(line, str):
        return ModelResponse(line, usage=Usage(1, max(1, len(line) // 4)), model="scripted")
    call = ToolCall(f"s{index}", line["tool"], line.get("arguments", {}), line.get("raw"))
    return ModelResponse(line.get("content", ""), (call,), Usage(1, 8), "scripted", "tool_calls")
