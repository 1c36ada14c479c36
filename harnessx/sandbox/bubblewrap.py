"""``bubblewrap``: the namespaces and the file tree from ``bwrap``, the rest as in ``landlock``."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

from harnessx.sandbox import landlock, seccomp
from harnessx.sandbox.base import Wall
from harnessx.sandbox.view import start, view

_APART = ("--unshare-user-try", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
          "--unshare-cgroup-try", "--die-with-parent", "--cap-drop", "ALL")  # fmt: skip


class Bubblewrap:
    """Preferred where its program is present: it may make namespaces where a plain user may not."""

    name = "bubblewrap"
    inherits = True

    def missing(self) -> str:
        """What this machine lacks for it, with the remedy; '' where it works."""
        return _missing()

    def layers(self) -> frozenset[str]:
        """The layers that stand."""
        return frozenset({"start", "tree", "seccomp"} | ({"landlock"} if landlock.abi() else set()))

    def command(self, module: str, args: tuple[str, ...], folder: str) -> list[str]:
        """How to start ``python -m module wall args…``."""
        seen, home = view(), f"{folder}/home"
        wall = Wall(home, "", seen.read, seen.listed, False, landlock.abi() > 0, True)
        shown = [part for path in seen.read for part in ("--ro-bind", path, path)]
        tree = ["--tmpfs", "/", *shown, "--dev-bind", "/dev/null", "/dev/null", "--bind", home, home]
        program = str(shutil.which("bwrap"))
        return [program, *_APART, *tree, "--remount-ro", "/", "--chdir", home, *start(module, wall.to_json(), *args)]


@cache
def _missing() -> str:
    program = shutil.which("bwrap")
    if program is None:
        return "the program bwrap is not there; apt-get install bubblewrap"
    try:
        seccomp.zygote_program()
    except OSError as error:
        return str(error.strerror)
    tried = subprocess.run(
        [program, *_APART, "--ro-bind", "/", "/", "/bin/true"], capture_output=True, text=True, timeout=10, check=False
    )
    return f"bwrap does not work here: {tried.stderr.strip() or tried.returncode}" if tried.returncode else ""
