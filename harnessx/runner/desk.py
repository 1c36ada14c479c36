"""A person as the model of a role: a question is a file, and so is the answer.

``FOLDER/<id>.json`` holds what is asked; ``FOLDER/<id>.answer`` is the reply, which anybody may write. The id is the
hash of the question, and an answer stays: who asks the same again finds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harnessx.canonical import digest_of
from harnessx.messages import ModelRequest, ModelResponse, Usage
from harnessx.models.base import CallContext

LOOK_S = 0.1
"""Seconds between two looks for an answer."""
SETTLED_S = 1.0
"""After so long an empty file is an answer, and not one that is being written."""
MAX_CHARS = 4_000
"""Of an answer."""


@dataclass
class FileDesk:
    """Waits for a person for ``patience_s``; after that, says nothing.

    The time does not count against the rollout. Serve it as a role: ``desk={_target_: harnessx.runner.desk.FileDesk,
    folder: …}``. `harnessx.processors.Takeover` asks there.
    """

    folder: str
    patience_s: float = 600.0
    name: str = "desk"
    deterministic: ClassVar[bool] = False

    @property
    def digest(self) -> str:
        """Equal for all desks: a person is not a setting."""
        return digest_of("desk")

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """The person's answer; '' where there is none in time."""
        place, asked = Path(self.folder), "\n".join(message.text for message in request.messages)
        ident = digest_of([asked, context.task_id, context.attempt, context.n])[:12]
        with context.watch.stopped():
            place.mkdir(parents=True, exist_ok=True)
            if not (place / f"{ident}.json").exists():
                half = place / f".{ident}.{os.getpid()}"
                half.write_text(json.dumps({"id": ident, "task": context.task_id, "asked": asked}, indent=1))
                half.rename(place / f"{ident}.json")
            until = time.monotonic() + self.patience_s
            while (said := _answer(place / f"{ident}.answer")) is None and time.monotonic() < until:
                await asyncio.sleep(min(LOOK_S, self.patience_s))
        return ModelResponse((said or "")[:MAX_CHARS], usage=Usage(0, 0, 0, 0.0), model="person")


def _answer(file: Path) -> str | None:
    """What was answered; None while nothing was, or an empty file has only just been made."""
    try:
        said = file.read_text(encoding="utf-8", errors="replace").strip()
        return said if said or time.time() - file.stat().st_mtime > SETTLED_S else None
    except OSError:
        return None
