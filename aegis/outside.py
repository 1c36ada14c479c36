"""The settings of what is outside of tasks: tool servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harnessx.errors import UserError
from harnessx.runner.isolation import resolve_isolation
from harnessx.sandbox.base import INSTALL
from harnessx.servers import ToolServer, read_server


def tool_servers(section: Mapping[str, Any], runner: Mapping[str, Any]) -> tuple[ToolServer, ...]:
    """The section ``servers``, in the order of their names.

    Raises:
        UserError: a server that is not described well; a wall that is not to be had; or answers would not be kept.
    """
    if not isinstance(section, Mapping):
        raise UserError(f"servers={section!r} must map names to servers")
    servers = tuple(read_server(str(name), section[name]) for name in sorted(section))
    for server in servers:
        if server.walled and resolve_isolation(runner["isolation"]) == "inprocess":
            raise UserError(f"servers.{server.name}.walled=true needs a wall, and there is none here: {INSTALL}")
    if servers and not runner["persist"]:
        raise UserError("runner.persist=false keeps no answers of servers, which a resumed run needs; "
                        "set runner.persist=true, or servers={}")  # fmt: skip
    return servers
