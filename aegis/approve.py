"""``python -m aegis.approve RUN``: answer what a run is waiting for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aegis.views.terminal import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m aegis.approve",
        description="Show what a run waits for; with an id, approve it, or deny it. The run goes on by itself.",
    )
    parser.add_argument("run", help="run folder, e.g. results/<experiment>/<run>")
    parser.add_argument("id", nargs="?", help="of a request; left out: list all")
    parser.add_argument("--deny", action="store_true", help="say no instead of yes")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _answer(Path(arguments.run), arguments.id, deny=arguments.deny))


def _answer(run: Path, ident: str | None, *, deny: bool) -> None:
    from aegis.approvals import answer, requests
    from harnessx.errors import UserError

    found = {row["id"]: row for row in requests(run)}
    if ident is None:
        if deny:
            raise UserError("--deny needs the id of a request")
        for row in found.values():
            print(f"{row['id']}  {row['verdict'] or 'waits':8} {row['title']}: {'; '.join(row['why'])}")
        if not found:
            print("nothing was asked")
        return
    if ident not in found:
        raise UserError(f"no request {ident}; there are: {', '.join(found) or 'none'}")
    given = found[ident]["verdict"]
    if given:
        raise UserError(f"{ident} was answered before: {given}; an answer stays")
    answer(run, ident, "deny" if deny else "approve")
    print(f"{ident}: {'denied' if deny else 'approved'}")


if __name__ == "__main__":
    sys.exit(main())
