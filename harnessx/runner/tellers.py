"""Between a lane, where models are called, and the purse, which the pool holds for all lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harnessx.errors import CallRefused, HarnessxError
from harnessx.messages import Usage
from harnessx.models.spend import Spend
from harnessx.runner.purse import Purse
from harnessx.runner.wire import Frame

Send = Callable[[Frame], object]


class OwnTeller:
    """A `Teller` in the process of the purse, all of whose calls are one account's: the meta-agent's."""

    def __init__(self, purse: Purse, account: str) -> None:
        self._purse, self._account = purse, account

    async def reserve(self, account: str) -> int:
        """Ask the purse.

        Raises:
            BudgetSpent: it is empty.
        """
        await self._purse.reserve(self._account)
        return 0

    def settle(self, ticket: int, usage: Usage | None) -> None:
        """The call is over."""
        self._purse.settle(self._account, None if usage is None else Spend.of(usage))


class LaneTeller:
    """A `Teller` in a lane: every call is asked for, and accounted for, over the lane's channel."""

    def __init__(self, send: Send) -> None:
        self._send, self._next = send, 0
        self._asked: dict[int, asyncio.Future[str]] = {}

    async def reserve(self, account: str) -> int:
        """Ask the pool.

        Raises:
            CallRefused: the pool says no.
        """
        ticket, self._next = self._next, self._next + 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[ticket] = answer
        self._send({"t": "ask", "ticket": ticket, "account": account})
        try:
            refused = await answer
        except BaseException:  # a yes may be on its way: it is given back
            self.settle(ticket, None)
            raise
        finally:
            del self._asked[ticket]
        if refused:
            raise CallRefused(refused)
        return ticket

    def settle(self, ticket: int, usage: Usage | None) -> None:
        """The call is over."""
        row = None if usage is None else Spend.of(usage).to_json()
        self._send({"t": "settle", "ticket": ticket, "spend": row})

    def answered(self, ticket: int, refused: str) -> None:
        """The pool's word; '' is a yes."""
        if ticket in self._asked and not self._asked[ticket].done():
            self._asked[ticket].set_result(refused)


class PoolTeller:
    """The purse, towards one lane. What a lane that died had reserved is free again.

    Args:
        send: reaches the lane.
        refused: told of the first refusal, which ends the run.
    """

    def __init__(self, purse: Purse, send: Send, refused: Callable[[HarnessxError], None]) -> None:
        self._purse, self._send, self._refused = purse, send, refused
        self._held: dict[int, str] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}

    def ask(self, ticket: int, account: str) -> None:
        """The lane asks for a call."""
        self._asking[ticket] = asyncio.ensure_future(self._answer(ticket, account))

    def settle(self, ticket: int, spend: tuple[int, float | None] | None) -> None:
        """The lane's call is over, or it does not want it any more."""
        asking = self._asking.pop(ticket, None)
        if asking is not None:
            asking.cancel()
        account = self._held.pop(ticket, None)
        if account is not None:
            self._purse.settle(account, None if spend is None else Spend(*spend))

    def close(self) -> None:
        """The lane is gone."""
        for ticket in [*self._asking, *self._held]:
            self.settle(ticket, None)

    async def _answer(self, ticket: int, account: str) -> None:
        said = ""
        try:
            await self._purse.reserve(account)
            self._held[ticket] = account
        except HarnessxError as error:
            said = str(error)
            self._refused(error)
        self._asking.pop(ticket, None)
        self._send({"t": "granted", "ticket": ticket, "refused": said})
