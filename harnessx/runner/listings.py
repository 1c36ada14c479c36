"""What tool servers offer, asked once for a run: a server that lists other tools tomorrow does not change it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harnessx.errors import Failure, Outage, ToolError, UserError
from harnessx.runner.cassette import Entry
from harnessx.runner.mcp import Session, walled
from harnessx.runner.shelf import Shelf
from harnessx.servers import Listing, ToolServer

SCOPE = "servers"
"""Where a shelf keeps them, with the recordings of tasks."""


async def pinned(servers: Sequence[ToolServer], shelf: Shelf | None, isolation: str) -> list[Listing]:
    """What each server offered when it was first asked, in the order given.

    Raises:
        UserError: one offers what cannot be taken over, or the package `mcp` is not installed.
        Outage: one cannot be asked.
    """
    stored = {entry.key: entry for entry in shelf.recordings(SCOPE)} if shelf is not None else {}
    found: list[Listing] = []
    for server in servers:
        known = Listing.from_json(json.loads(stored[server.name].body)) if server.name in stored else None
        if known is None or known.server != server:
            known = await listing(server, isolation)
            if shelf is not None:
                shelf.put_recordings({SCOPE: [Entry(server.name, "", json.dumps(known.to_json()))]})
        found.append(known)
    return found


async def listing(server: ToolServer, isolation: str) -> Listing:
    """What ``server`` offers now.

    Raises:
        UserError, Outage: as `pinned`.
    """
    try:
        import mcp  # noqa: F401
    except ImportError as error:
        raise UserError("servers needs the package mcp; pip install 'harnessx-aegis[mcp]'") from error
    session = Session(Listing(server), walled(server, isolation))
    try:
        return await session.listed()
    except (Failure, ToolError) as error:
        raise Outage(f"servers.{server.name} does not list its tools: {error}") from error
    finally:
        await session.close()
