"""Asking a person: a file for each request in the run folder, and the terminal where there is one.

``RUN/approvals/<id>.json`` holds a request. It is answered at the terminal, by ``python -m aegis.approve RUN``,
by a file ``<id>.approve`` or ``<id>.deny`` beside it, or by setting its ``verdict``. The id is the hash of what is
asked, and the answer stays: a resumed run, and a candidate that is tested again, find it and do not ask twice.
Where two answers lie side by side, no wins.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harnessx.canonical import digest_of
from harnessx.errors import UserError

FOLDER = "approvals"
VERDICTS = ("approve", "deny")
LOOK_S = 0.2
"""Seconds between two looks for an answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person is asked: a title, why they are asked, and what it is about (JSON)."""

    title: str
    why: tuple[str, ...]
    about: Any = field(default=None, hash=False)

    @property
    def id(self) -> str:
        """The same for the same question, in any sitting and whatever the candidate is called."""
        return digest_of([list(self.why), self.about])[:12]


@dataclass(frozen=True, slots=True)
class Answer:
    """``said`` is one line for the record; empty where nobody was asked."""

    allowed: bool
    said: str = ""


class Writer(Protocol):
    """Writes a file of the run folder: a `RunStore`."""

    path: Path

    def write_text(self, relative_path: str, text: str) -> None: ...


class Asked(Protocol):
    """Whoever answers requests."""

    async def ask(self, request: Request) -> Answer: ...


class Desk:
    """Answers requests by ``mode``: ``auto`` says yes, ``deny`` says no, ``ask`` waits for a person.

    Args:
        store: where requests lie; without one there is nobody to ask, and ``ask`` means no.
        say: told what is being waited for.
        check: called while waiting; raises to end it.
    """

    def __init__(
        self,
        mode: str,
        store: Writer | None = None,
        say: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._mode, self._store, self._say, self._check = mode, store, say, check
        self._given: dict[str, Answer] = {}
        self._turn = asyncio.Lock()

    async def ask(self, request: Request) -> Answer:
        """The answer to ``request``; every request is put once."""
        if self._mode != "ask":
            return Answer(self._mode == "auto")
        if self._store is None:
            return Answer(False, "nobody can be asked here")
        async with self._turn:
            if request.id not in self._given:
                self._given[request.id] = await self._wait(self._store, request)
            return self._given[request.id]

    async def _wait(self, store: Writer, request: Request) -> Answer:
        folder = store.path / FOLDER
        verdict = verdict_of(folder, request.id)
        if not verdict:
            row = {"id": request.id, **asdict(request), "verdict": ""}
            store.write_text(f"{FOLDER}/{request.id}.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")
            here = " (or y or n here)" if sys.stdin is not None and sys.stdin.isatty() else ""
            self._say(f"waiting for approval of {request.title}: {'; '.join(request.why)}. "
                      f"Answer with: python -m aegis.approve {store.path} {request.id}{here}")  # fmt: skip
            typed: list[str] = []
            with _terminal(typed) if here else nullcontext():
                while not verdict:
                    await asyncio.sleep(LOOK_S)
                    self._check()
                    verdict = verdict_of(folder, request.id) or (typed.pop() if typed else "")
            answer(store.path, request.id, verdict)
        allowed = verdict == "approve"
        return Answer(allowed, f"{'approved' if allowed else 'denied'} when asked ({'; '.join(request.why)})")


class Filed:
    """Gives again the answers of a run that is over, and asks nobody: what was not answered then is a no.

    Args:
        mode: ``gate.approval`` of that run.
        run: its folder.
    """

    def __init__(self, mode: str, run: Path) -> None:
        self._mode, self._folder = mode, run / FOLDER

    async def ask(self, request: Request) -> Answer:
        """The answer to ``request`` in that run."""
        given = verdict_of(self._folder, request.id) == "approve" if self._mode == "ask" else self._mode == "auto"
        return Answer(given, "" if given else f"{self._folder} holds no yes to it")


@contextmanager
def _terminal(typed: list[str]) -> Iterator[None]:
    """Lines that begin with y or n, typed at the terminal, put verdicts into ``typed``."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = sys.stdin.readline().lower()
        if not line:  # the end of input: who is left to answer has the command and the files
            loop.remove_reader(sys.stdin)
        elif line.strip()[:1] in ("y", "n"):
            typed.append("approve" if line.strip()[0] == "y" else "deny")

    loop.add_reader(sys.stdin, read)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin)


def verdict_of(folder: Path, ident: str) -> str:
    """The answer that lies in ``folder``, '' while there is none (or it is being written)."""
    given = {word for word in VERDICTS if (folder / f"{ident}.{word}").exists()}
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or half written by an editor
        given.add(str(json.loads((folder / f"{ident}.json").read_text(encoding="utf-8"))["verdict"]))
    return "deny" if "deny" in given else "approve" if "approve" in given else ""


def requests(run: Path) -> list[Mapping[str, Any]]:
    """Every request of a run, with its answer under ``verdict``.

    Raises:
        UserError: no run folder, or a request that cannot be read.
    """
    if not (run / "run.db").is_file():
        raise UserError(f"no run in {run}: it holds no run.db; give a folder that aegis.evolve wrote")
    found: list[Mapping[str, Any]] = []
    for file in sorted((run / FOLDER).glob("*.json")):
        try:
            row = json.loads(file.read_text(encoding="utf-8"))
            found.append({**row, "why": list(row["why"]), "verdict": verdict_of(file.parent, file.stem)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is no request any more ({error}); write {file.stem}.deny beside it") from error
    return found


def answer(run: Path, ident: str, verdict: str) -> None:
    """Lay an answer beside the request."""
    file = run / FOLDER / f"{ident}.{verdict}"
    try:
        file.touch()
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
