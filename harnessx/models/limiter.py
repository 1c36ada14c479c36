"""How many calls a provider is asked at once: as many as it takes.

Additive increase, multiplicative decrease. A refusal for coming too often (429) shrinks the limit once per
episode; other failures say nothing about the pace, and never do. It grows only while it is what holds calls
back, and while most of them are answered.

Every lane has a limiter of its own, and none knows of the others: each is refused where all of them together are
too many, so that what they ask in sum comes to what is granted, as one limiter's would. Nothing is shared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

SHRINK = 0.8
USED = 0.8
"""A limit of which less is in use does not grow: nothing shows that more would be taken."""
ROUNDS = 6
"""An episode lasts so many times the limit, in calls that ended: a few refusals at random then shrink it no
faster than answers in between grow it, and a provider that is really full still shrinks it to what it takes."""


class Limiter:
    """At most `limit` calls at once; first come, first served.

    Args:
        ceiling: where the limit begins, and what it never exceeds.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = max(1, ceiling)
        self._limit = float(self.ceiling)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._left = 0.0
        """Calls until the episode is over."""
        self._answered = self._refused = 0
        """Calls of this episode."""

    @property
    def limit(self) -> int:
        """Calls that may run at once."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """The right to one call, while it lasts."""
        await self._enter()
        try:
            yield
        finally:
            self._running -= 1
            self._wake()

    def answered(self) -> None:
        """A call that still holds its permit was answered."""
        self._answered += 1
        self._left -= 1
        if self._running >= USED * self.limit and self._answered >= self._refused:
            self._limit = min(self.ceiling, self._limit + 1 / self._limit)
            self._wake()

    def refused(self) -> None:
        """A call was refused for coming too often."""
        if self._left <= 0:
            self._limit = max(1.0, self._limit * SHRINK)
            self._left = ROUNDS * self._limit
            self._answered = self._refused = 0
        self._refused += 1
        self._left -= 1

    async def _enter(self) -> None:
        if self._running < self.limit and not self._waiting:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it had its turn, and is cancelled before it took it
                self._running -= 1
            else:
                with suppress(ValueError):  # who hands out turns may have passed it over already
                    self._waiting.remove(turn)
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._running < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)
