"""Commands in processes of their own that need not import everything first.

One server imports what the commands import, and each command is a fork of it: a process with its own streams,
folder and exit code, to be killed like any other, a second of imports cheaper. It inherits no more than these
modules. What a command does while it starts, and with variables that the interpreter reads, takes a cold one.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

PRELOADED = (
    "pytest", "warm", "hydra", "hydra.main", "hydra.utils", "numpy", "rich.console", "rich.progress", "rich.table",
    "aegis.evaluator", "aegis.gate.source", "aegis.resume", "aegis.run", "aegis.views.report",
    "aegis.views.summary_table", "benchmarks.bounded", "benchmarks.household", "harnessx.processors",
)  # fmt: skip

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(PRELOADED))


def call(
    module: str,
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    around: AbstractContextManager[object] | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """``python -m module arguments`` to its end; ``around`` surrounds it in its process, and must pickle.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "out"), Path(folder, "err")
        asked = (module, list(arguments), str(cwd or Path.cwd()), dict(os.environ), said, around)
        process = _server.Process(target=_command, args=asked)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([module, *arguments], timeout)
        out, err = (file.read_text() if file.exists() else "" for file in said)
        assert process.exitcode is not None
        return subprocess.CompletedProcess([module, *arguments], process.exitcode, out, err)


def _command(
    module: str,
    arguments: list[str],
    cwd: str,
    environment: Mapping[str, str],
    said: tuple[Path, Path],
    around: AbstractContextManager[object] | None,
) -> None:
    """In the new process: what a shell and the interpreter would have prepared, then the module as the main one."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in enumerate(said, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, stream)
        os.close(opened)
    sys.path.insert(0, cwd)
    importlib.invalidate_caches()
    sys.argv = [module, *arguments]
    tempfile.tempdir = None
    with around or nullcontext():
        runpy.run_module(module, run_name="__main__", alter_sys=True)
