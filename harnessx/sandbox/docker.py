"""``docker``: a container without network, capabilities or keys. Written from the manual; no engine has run it.

The container's own Python, of the same version, runs what is mounted read-only from this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from harnessx.sandbox import landlock
from harnessx.sandbox.base import CAPS, Wall
from harnessx.sandbox.view import environment, start, view

IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"

_SHUT = ("--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--ipc=none",
         "--pids-limit=512", f"--memory={4 * CAPS.memory_bytes}")  # fmt: skip


class Docker:
    """Only by name: ``auto`` takes nothing that is untested."""

    name = "docker"
    inherits = False

    def missing(self) -> str:
        """What this machine lacks for it, with the remedy; '' where it works."""
        program = shutil.which("docker")
        if program is None:
            return "the program docker is not there; install Docker Engine"
        asked = subprocess.run(
            [program, "image", "inspect", IMAGE], capture_output=True, text=True, timeout=20, check=False
        )
        if asked.returncode == 0:
            return ""
        if "No such image" in asked.stderr:
            return f"the image is not there; docker pull {IMAGE}"
        return f"no engine runs ({' '.join(asked.stderr.split())}); start it, or use isolation=auto"

    def layers(self) -> frozenset[str]:
        """The layers that stand."""
        return frozenset({"start", "tree", "seccomp"} | ({"landlock"} if landlock.abi() else set()))

    def command(self, module: str, args: tuple[str, ...], folder: str) -> list[str]:
        """How to start ``python -m module wall args…``."""
        home, packages = f"{folder}/home", view().packages
        mounts = [f"--volume={path}:{path}:ro" for path in packages]
        told = [f"--env={name}={value}" for name, value in environment().items()]
        read = ("/usr", "/lib", "/lib64", *packages)
        wall = Wall(home, "", read, view().python_path, False, landlock.abi() > 0, True)
        inside = ["python3", *start(module, wall.to_json(), *args)[1:]]
        who = f"--user={os.getuid()}:{os.getgid()}"
        return [str(shutil.which("docker")), "run", "--rm", "--interactive", *_SHUT, who, *mounts,
                f"--volume={home}:{home}", f"--workdir={home}", *told, IMAGE, *inside]  # fmt: skip
