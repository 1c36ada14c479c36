"""What a coding agent leaves in its folder: candidates as files, read with care, for anybody may have written them.

candidates/<name>/manifest.json         as in the prompts
candidates/<name>/edit.json             the operations; `set_asset` of the files below need not be among them
candidates/<name>/assets/x.py           new code, prompts
candidates/<name>/smoke/x.py            the smoke test of assets/x.py
usage.json                              {"tokens": …, "usd": …}: what the session cost, as far as it knows
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from aegis.candidate import Proposal
from aegis.meta.desk import MOST_WRITTEN, read_proposal
from harnessx.errors import UserError
from harnessx.models.spend import Spend

MOST_FILES = 400
MOST_BYTES = 1 << 20
"""Of all files together."""
FOLDER = "candidates"
USAGE = "usage.json"


def collect(scratch: Path) -> tuple[dict[str, str], list[str]]:
    """The texts that were handed over, by path; and what was not taken, with the reason.

    Only regular files are read, no link is followed, and what is no UTF-8 or too much is left.
    """
    found: dict[str, str] = {}
    refused: list[str] = []
    room = MOST_BYTES
    for path in _files(scratch):
        name = path.relative_to(scratch).as_posix()
        try:
            text = _text(path, room)
        except (OSError, ValueError) as error:
            refused.append(f"{ascii(name)[:100]}: {error}")
            continue
        found[name] = text
        room -= len(text.encode())
        if len(found) == MOST_FILES:
            refused.append(f"more than {MOST_FILES} files")
            break
    return found, refused[:20]


def _files(scratch: Path) -> Iterator[Path]:
    usage = scratch / USAGE
    if usage.exists() or usage.is_symlink():
        yield usage
    if (scratch / FOLDER).is_symlink():
        return
    for folder, folders, files in os.walk(scratch / FOLDER):
        folders.sort()
        for name in sorted(files):
            yield Path(folder, name)


def _text(path: Path, room: int) -> str:
    """A file's text.

    Raises:
        OSError: it is a link, or cannot be read.
        ValueError: it is no regular file, no UTF-8, or there is no room for it.
    """
    kind = path.lstat().st_mode
    if not stat.S_ISREG(kind):
        raise ValueError("is no regular file")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        data = file.read(room + 1)
    if len(data) > room:
        raise ValueError(f"more than {MOST_BYTES} bytes were handed over")
    return data.decode()


def proposals(files: Mapping[str, str]) -> tuple[dict[str, Proposal], list[str]]:
    """The candidates by name, in the order of names; and what is wrong with the others."""
    names = sorted({path.split("/")[1] for path in files if path.startswith(f"{FOLDER}/") and path.count("/") > 1})
    found: dict[str, Proposal] = {}
    wrong: list[str] = []
    for name in names[:MOST_WRITTEN]:
        prefix = f"{FOLDER}/{name}/"
        own = {path.removeprefix(prefix): text for path, text in files.items() if path.startswith(prefix)}
        try:
            found[name] = _proposal(name, own)
        except (UserError, ValueError, RecursionError) as error:
            wrong.append(f"{ascii(name)[:60]}: {error}")
    return found, wrong


def _proposal(name: str, files: Mapping[str, str]) -> Proposal:
    for needed in ("manifest.json", "edit.json"):
        if needed not in files:
            raise UserError(f"{needed} is missing")
    edit = json.loads(files["edit.json"])
    written = {row.get("path") for row in edit if isinstance(row, dict)} if isinstance(edit, list) else set()
    assets = [{"op": "set_asset", "path": path, "text": text} for path, text in sorted(files.items())
              if path.startswith("assets/") and path not in written]  # fmt: skip
    smoke = {path.replace("smoke/", "assets/", 1): text for path, text in files.items() if path.startswith("smoke/")}
    body = {"manifest": json.loads(files["manifest.json"]), "smoke": smoke,
            "edit": [*assets, *edit] if isinstance(edit, list) else edit}  # fmt: skip
    return read_proposal(body, name)


def usage(files: Mapping[str, str]) -> Spend:
    """What the session says that it cost; dollars are not known where it says nothing that can be read."""
    try:
        data = json.loads(files.get(USAGE, "{}"))
        tokens, usd = data.get("tokens", 0), data.get("usd")
    except (ValueError, RecursionError, AttributeError):
        return Spend(0, None)
    known = type(tokens) is int and 0 <= tokens < 10**12
    priced = isinstance(usd, int | float) and not isinstance(usd, bool) and math.isfinite(usd) and usd >= 0
    return Spend(tokens if known else 0, float(usd) if priced else None)
