"""What a rollout has besides the world of its task, joined with it into one environment: a workspace, tool servers.

Only the world can end an episode, and only it begins with something to say; a verifier sees it alone.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence

from harnessx.canonical import digest_of
from harnessx.errors import Failure, Source, ToolError
from harnessx.messages import ToolCall, ToolSchema
from harnessx.redaction import redact
from harnessx.runner.cassette import Cassette, Entry, Freshness, RecordedWorld
from harnessx.runner.mcp import Session, Wrap
from harnessx.servers import Listing, Replay
from harnessx.tasks import Environment, ToolResult


class Beside:
    """A world, or none, and what stands beside it. Each tool belongs to one of them."""

    def __init__(self, world: Environment | None, others: Sequence[Environment]) -> None:
        self._world, self._others = world, others
        self._of: dict[str, Environment] = {}
        tools: list[ToolSchema] = []
        for part in (*(() if world is None else (world,)), *others):
            for tool in part.tools:
                self._of.setdefault(tool.name, part)
                tools.append(tool)
        self.tools = tuple(tools)

    async def reset(self) -> str:
        """Begin the world's episode; its first observation.

        Raises:
            Failure: two parts have a tool of one name (source ``tool``: the harness, or the user, chose both).
        """
        if len(self._of) < len(self.tools):
            twice = next(name for name, count in Counter(tool.name for tool in self.tools).items() if count > 1)
            raise Failure(Source.TOOL, f"there are two tools named {twice}; one of them has to go")
        return await self._world.reset() if self._world is not None else ""

    async def step(self, call: ToolCall) -> ToolResult:
        """Run one call where its tool belongs."""
        return await self._of[call.name].step(call)

    async def close(self) -> None:
        """Release all of it, whatever goes wrong with one."""
        parts = (*self._others, *(() if self._world is None else (self._world,)))
        done = await asyncio.gather(*(part.close() for part in parts), return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome


class _Kept(Cassette):
    """What one server answered, among the recordings of a (split, task, attempt).

    Args:
        mark: begins its keys.
        strict: what is older than the window of ``freshness`` is not there.
    """

    def __init__(self, cassette: Cassette, mark: str, freshness: Freshness, *, strict: bool) -> None:
        super().__init__(cassette.scope)
        self._whole, self._mark, self._freshness, self._strict = cassette, mark, freshness, strict

    def read(self, key: str) -> Entry | None:
        """The entry of ``key``, or None."""
        entry = self._whole.read(self._mark + key)
        if entry is None:
            return None
        row = json.loads(entry.body)
        if self._strict and self._freshness.outdated(row["at"]):
            return None
        return Entry(key, entry.origin, json.dumps(row["value"]))

    def write(self, key: str, origin: str, value: object, *, anew: bool = False) -> None:
        """Record a value under ``key``, in the place of one that is outdated."""
        row = {"value": value, "at": round(self._freshness.clock(), 3)}
        self._whole.write(self._mark + key, origin, row, anew=anew or self._strict)


class ReplayedCalls:
    """A server whose n-th equal call is answered as it was before (an `Environment`).

    Args:
        kept: its answers in one (split, task, attempt).
        origin: the rollout's key.
    """

    def __init__(self, session: Session, kept: Cassette, origin: str) -> None:
        self._session, self._kept, self._origin = session, kept, origin
        self._asked: Counter[str] = Counter()
        self.tools, self.reset, self.close = session.tools, session.reset, session.close

    async def step(self, call: ToolCall) -> ToolResult:
        """The recorded result, or the server's."""
        digest = digest_of([call.name, dict(call.arguments)])
        key = f"{digest}:{self._asked[digest]}"
        self._asked[digest] += 1
        entry = self._kept.read(key)
        if entry is None:
            try:
                result = await self._session.step(call)
            except ToolError as error:
                result = ToolResult(str(error), is_error=True)
            self._kept.write(key, self._origin, [redact(result.content), result.is_error])
            entry = self._kept.read(key)
            assert entry is not None
        return ToolResult(*json.loads(entry.body))


class _InTurn:
    """A session that keeps a state: calls made at once are taken in the order of asking."""

    def __init__(self, session: Session) -> None:
        self._session, self._turn = session, asyncio.Lock()
        self.tools, self.reset, self.close = session.tools, session.reset, session.close

    async def step(self, call: ToolCall) -> ToolResult:
        """Ask the server, after all calls before."""
        async with self._turn:
            return await self._session.step(call)


def served(
    listing: Listing, cassette: Cassette, origin: str, freshness: Freshness, walled: Wrap | None, *, strict: bool
) -> Environment:
    """One server for one rollout, its answers replayed as its settings say.

    Args:
        cassette: the recordings of the rollout's (split, task, attempt); see `_Kept` for ``freshness``, ``strict``.
        origin: the rollout's key.
        walled: see `Session`.
    """
    kept = _Kept(cassette, f"mcp:{listing.digest}:", freshness, strict=strict)
    match listing.server.replays:
        case Replay.CALLS:
            return ReplayedCalls(Session(listing, walled), kept, origin)
        case Replay.SESSION:
            return RecordedWorld(lambda: Session(listing, walled), listing.tools, kept)
        case _:
            return _InTurn(Session(listing, walled))
