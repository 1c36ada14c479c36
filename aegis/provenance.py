"""What ran: interpreter, packages, commit; and figures published with it."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aegis.record import Versions

PACKAGES = ("hydra-core", "omegaconf", "litellm", "datasets", "pandas", "libcst", "wandb", "alfworld", "textworld")


def versions() -> Versions:
    """The versions behind a result; the commit is None outside a repository."""
    return Versions(platform.python_version(), {p: v for p in PACKAGES if (v := _installed(p))}, _commit())


def publish(table: Mapping[str, Any], file: Path | None) -> None:
    """Write ``table`` with the `versions` behind it to ``file``, as JSON; to the terminal where there is none."""
    text = json.dumps({**table, "versions": asdict(versions())}, indent=1, sort_keys=True) + "\n"
    if file is None:
        print(text, end="")
    else:
        file.write_text(text)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str | None:
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
