"""What a person sees while a run works: a live line on a terminal, sparse plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from aegis.views import notation

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


class Progress:
    """Shows where a run is. A context manager; every method may be called at any rate.

    The counts of `rollouts` belong to the current stage, its tokens and dollars to the whole run.

    Args:
        rounds: how many are planned, where that is known.
        stream: where to write; standard error by default. A terminal gets the live view.
        every: seconds between plain lines within a stage.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        rounds: int | None = None,
        *,
        stream: TextIO | None = None,
        every: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rounds, self._stream, self._every, self._clock = rounds, stream or sys.stderr, every, clock
        self._began = self._spoke = clock()
        self._where = "starting"
        self._done = self._planned = self._passed = self._tokens = self._made = self._replayed = 0
        self._dollars: float | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from rich.live import Live

            self._live = Live(console=self._console(), get_renderable=self._view, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def stage(self, round: int | None, name: str) -> None:
        """A stage begins (of no round: None); its rollout counts start from zero."""
        of = "" if self._rounds is None else f" of {self._rounds}"
        self._where = name if round is None else f"round {round}{of} · {name}"
        self._done = self._planned = self._passed = 0
        self._say(self._where)

    def rollouts(self, done: int, planned: int, passed: int, tokens: int, dollars: float | None) -> None:
        """Rollouts of this stage so far; ``dollars`` is None where a price is unknown."""
        self._done, self._planned, self._passed = done, planned, passed
        self._tokens, self._dollars = tokens, dollars
        if done == planned or self._clock() - self._spoke >= self._every:
            self._say(f"{self._where} · {done}/{planned} rollouts · {self._figures()}")

    def calls(self, made: int, replayed: int) -> None:
        """Model calls of the whole run so far: made, and answered from the response cache."""
        self._made, self._replayed = made, replayed

    def note(self, text: str) -> None:
        """Something worth a line of its own: a ship, a warning."""
        if self._live is None:
            self._say(text)
        else:
            self._live.console.print(text)

    def _say(self, text: str) -> None:
        if self._live is None:
            self._spoke = self._clock()
            elapsed = notation.duration(self._spoke - self._began)
            print(f"[{elapsed}] {' '.join(text.split())}", file=self._stream, flush=True)

    def _figures(self) -> str:
        figures = [
            f"{notation.share(self._passed, self._done)} passed",
            f"{notation.count(self._tokens)} tokens",
            f"cost {notation.dollars(self._dollars)}",
        ]
        if calls := self._made + self._replayed:
            replayed = notation.share(self._replayed, calls)
            figures.append(f"{notation.count(calls)} model calls, {replayed} replayed")
        return " · ".join(figures)

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=self._stream, markup=False, highlight=False, emoji=False)

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(
            Text(self._where, "bold"),
            ProgressBar(total=max(self._planned, 1), completed=self._done, width=32),
            Text(f"{self._done}/{self._planned}" if self._planned else ""),
            Text(notation.duration(self._clock() - self._began), "dim"),
        )
        return Group(head, Text(self._figures(), "dim"))
