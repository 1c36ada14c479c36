"""The tools of one rollout: the world's, as the harness offers them, and the harness's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harnessx.errors import Failure, FetchRefused, HarnessInvalid, HarnessxError, Source
from harnessx.harness import HarnessConfig
from harnessx.messages import ToolCall, ToolSchema
from harnessx.permissions import Effect
from harnessx.processor import Processor
from harnessx.spec import build
from harnessx.tasks import ToolResult
from harnessx.tools.base import Caller, Tool, ToolContext
from harnessx.web import Fetched, Fetcher


@dataclass(frozen=True, slots=True)
class Toolbox:
    """``schemas`` are all tools that may be offered, by name; ``own`` those of them that run on this side."""

    schemas: Mapping[str, ToolSchema]
    own: Mapping[str, Tool]

    @classmethod
    def of(
        cls,
        harness: HarnessConfig,
        world: Sequence[ToolSchema],
        processors: Sequence[Processor],
        *,
        allow_assets: bool,
    ) -> Toolbox:
        """Put together what the world has, what the registry adds, and what processors bring.

        Raises:
            HarnessInvalid: a target that is no tool, a name that a processor brings and somebody has, or a tool
                that does more than the processor that brings it declares.
        """
        registry = harness.slots.tools
        there = {schema.name: schema for schema in world}
        exposed = there if registry.expose is None else {n: there[n] for n in registry.expose if n in there}
        own: dict[str, Tool] = {}
        for spec in registry.add:
            tool = build(spec, harness.assets, allow_assets=allow_assets)
            if not isinstance(tool, Tool):
                raise HarnessInvalid(f"{spec.target} is not a Tool")
            own[tool.name] = tool
        for processor in processors:
            for tool in processor.brings():
                _admit(tool, type(processor), there.keys() | own.keys())
                own[tool.name] = tool
        offered = {**exposed, **{name: tool.schema() for name, tool in own.items()}}
        described = {
            name: replace(schema, description=registry.describe[name]) if name in registry.describe else schema
            for name, schema in offered.items()
        }
        return cls(described, own)

    async def run(self, tool: Tool, call: ToolCall, world: Caller, step: int, fetch: Fetcher) -> ToolResult:
        """Run one of the harness's own tools.

        Raises:
            ToolError: for what the model did wrong.
            Failure: the tool crashed.
        """
        allowed = fetch if Effect.NETWORK in tool.effects else undeclared
        try:
            produced = await tool.run(call.arguments, ToolContext(world, step, allowed))
        except HarnessxError:
            raise
        except Exception as error:
            raise Failure(Source.TOOL, f"{tool.name}: {type(error).__name__}: {error}") from error
        return ToolResult(produced) if isinstance(produced, str) else produced


def _admit(tool: object, bringer: type[Processor], taken: set[str]) -> None:
    if not isinstance(tool, Tool):
        raise HarnessInvalid(f"{bringer.__name__} brings {type(tool).__name__}, which is not a Tool")
    if tool.name in taken:
        raise HarnessInvalid(f"{bringer.__name__} brings a tool {tool.name!r}, and there is one of that name")
    if not tool.effects <= bringer.effects:
        lacking = ", ".join(sorted(tool.effects - bringer.effects))
        raise HarnessInvalid(f"{bringer.__name__} brings {tool.name!r} and does not declare its effects: {lacking}")


async def undeclared(url: str, method: str = "GET", **parts: Any) -> Fetched:
    """The `Fetcher` of a tool or processor that does not say that it uses the network."""
    raise FetchRefused("this tool or processor does not declare effects = frozenset({Effect.NETWORK})")
