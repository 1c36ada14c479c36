"""Builds a harness and runs its smoke tests, in a process of its own behind the wall.

``python -m harnessx.runner.smoke WALL`` reads ``{"harness": …, "tests": {path: source}}`` on standard
input and writes ``{"ok": bool, "tests": n, "error": text}``. A test source defines functions
``test_*`` (plain or async), each of which takes ``build``: ``build(target, **params)`` makes a bound
instance of one of the harness's own components.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harnessx.harness import HarnessConfig
from harnessx.messages import ModelRequest, ModelResponse
from harnessx.processor import Context, Processor
from harnessx.sandbox.base import Wall
from harnessx.sandbox.inside import confine, enter
from harnessx.sandbox.kernel import die_with_parent
from harnessx.spec import Spec, build

TIMEOUT_S = 20.0


def run_smoke(harness: HarnessConfig, tests: dict[str, str]) -> int:
    """Build every component, then run every test; the number of tests that ran.

    Raises:
        Exception: whatever a component or a test raised.
    """
    for spec in (*harness.processors, *harness.slots.tools.add):
        build(spec, harness.assets, allow_assets=True)

    def bound(target: str, **params: Any) -> Any:
        component = build(Spec(target, params), harness.assets, allow_assets=True)
        if isinstance(component, Processor):
            component.bind(_context(harness))
        return component

    count = 0
    for path, source in tests.items():
        space: dict[str, Any] = {"__name__": "smoke"}
        exec(compile(source, path, "exec"), space)
        for name, test in [(n, t) for n, t in space.items() if n.startswith("test_") and callable(t)]:
            _run(name, test, bound)
            count += 1
    return count


def _run(name: str, test: Callable[..., Any], bound: Callable[..., Any]) -> None:
    result = test(bound)
    if inspect.isawaitable(result):
        asyncio.run(asyncio.wait_for(_await(result), TIMEOUT_S))


async def _await(result: Any) -> None:
    await result


def _context(harness: HarnessConfig) -> Context:
    async def complete(role: str, request: ModelRequest) -> ModelResponse:
        return ModelResponse("ok")

    def scratch() -> Path:
        return Path(tempfile.mkdtemp())

    return Context("smoke", "smoke", 0, "0", complete, scratch, harness.assets.__getitem__,
                   slots={"tool_schemas": (), "limits": harness.slots.limits})  # fmt: skip


def main() -> None:
    """Entry point: put up the wall, run the tests in a child behind it, and wait for it to answer."""
    wall, order = Wall.from_json(sys.argv[1]), json.load(sys.stdin)
    enter(wall)
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    try:
        die_with_parent()
        tempfile.tempdir = os.path.join(wall.home, "smoke")
        os.mkdir(tempfile.tempdir)
        os.chdir(tempfile.tempdir)
        out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        confine(wall, tempfile.tempdir)
        with out:
            out.write(json.dumps(_answer(order)))
    finally:
        os._exit(0)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    try:
        count = run_smoke(HarnessConfig.from_json(order["harness"]), order["tests"])
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever it raises is the finding)
        return {"ok": False, "tests": 0, "error": f"{type(error).__name__}: {error}"[:500]}
    return {"ok": True, "tests": count, "error": ""}


if __name__ == "__main__":
    main()
