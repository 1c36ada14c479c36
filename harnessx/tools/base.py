"""The Tool protocol: a harness's own tools, which run where its processors run.

A tool is a dataclass like a processor; ``name``, ``description`` and ``parameters`` are literals. It
reaches the world only through ``context.call`` and ``context.fetch``, which go through the host like any tool call.

    @dataclass
    class Weather(Tool):
        name = "weather"
        effects = frozenset({Effect.NETWORK})

        async def run(self, arguments, context):
            answer = await context.fetch("https://api.example.org/now", query={"city": arguments["city"]})
            return answer.text
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from harnessx.messages import ToolSchema
from harnessx.permissions import Effect
from harnessx.tasks import ToolResult
from harnessx.web import Fetcher, no_network


class Caller(Protocol):
    """Runs one of the environment's tools."""

    async def __call__(self, name: str, arguments: Mapping[str, Any]) -> ToolResult: ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool gets with each call: a way to use the environment's tools, and the hosts that the user allowed.

    ``fetch`` raises `harnessx.errors.FetchRefused` for what is not allowed, which the model then reads as the result.
    """

    call: Caller
    step: int
    fetch: Fetcher = no_network


class Tool(ABC):
    """Base of all harness tools."""

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    parameters: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {}}
    effects: ClassVar[frozenset[Effect]] = frozenset()
    """What it does by itself, beyond ``context.call``, whose effects are those of the environment's tool. None by
    default: it runs in the worker, where there is nothing to have an effect on. ``context.fetch`` needs
    `Effect.NETWORK`. A host reads it without running it."""

    def schema(self) -> ToolSchema:
        """The tool as the model sees it."""
        return ToolSchema(self.name, self.description, self.parameters, frozenset(self.effects))

    @abstractmethod
    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult | str:
        """Run the tool.

        Raises:
            ToolError: for what the model did wrong; any other exception is a harness error.
        """
