"""What a run may pay, held to before each model call.

A call is refused once its account, or all of them together, has paid what it may: what is in flight then is
all that can come on top. Before that a call near the cap waits for those in flight, since each may cost as
much as the dearest so far. So a call is refused exactly when the cap is reached, whatever the timing was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harnessx.errors import BudgetSpent, UserError
from harnessx.models.spend import Spend

TOTAL = "total"
ACCOUNTS = ("task", "meta", "judge")
"""The agent that is evolved, who evolves it, and models that judge."""


@dataclass(frozen=True, slots=True)
class Cap:
    """What an account may pay at most; None is unlimited."""

    tokens: int | None = None
    usd: float | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.tokens is not None or self.usd is not None

    def reached(self, paid: Spend, reserved: Spend | None = None) -> str:
        """Which limit is reached by what was paid, with what is ``reserved`` on top; '' while none is."""
        extra = reserved or Spend()
        if self.tokens is not None and paid.tokens + extra.tokens >= self.tokens:
            return f"{self.tokens} tokens"
        if self.usd is not None and (paid.usd or 0.0) + (extra.usd or 0.0) >= self.usd:
            return f"{self.usd:g} USD"
        return ""


class Purse:
    """The accounts of a run.

    Args:
        caps: by account, and for ``total``.
        paid: what earlier sittings paid, by account.
        keep: told of every payment, which has to outlive this process.

    While it is ``waived`` nothing is refused.
    """

    def __init__(
        self,
        caps: Mapping[str, Cap],
        paid: Mapping[str, Spend] | None = None,
        keep: Callable[[str, Spend], None] | None = None,
    ) -> None:
        self.waived = False
        self.paid: dict[str, Spend] = {account: Spend() for account in ACCOUNTS} | dict(paid or {})
        self._caps = {account: cap for account, cap in caps.items() if cap.limited}
        self._keep = keep
        self._running: Counter[str] = Counter()
        self._dearest: dict[str, Spend] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def limited(self) -> bool:
        """Whether calls have to be asked for at all."""
        return bool(self._caps)

    async def reserve(self, account: str) -> None:
        """Wait for the right to one call.

        Raises:
            BudgetSpent: a cap is reached.
            UserError: money is capped, and was paid in a currency that is not known.
        """
        while not self.waived:
            caps = [(name, cap) for name, cap in self._caps.items() if name in (account, TOTAL)]
            for name, cap in caps:
                self._refuse(name, cap)
            if not any(self._crowded(name, cap, account) for name, cap in caps):
                break
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._running[account] += 1

    def settle(self, account: str, paid: Spend | None) -> None:
        """A call is over, and cost that much (None: nothing)."""
        self._running[account] -= 1
        if paid is not None:
            self.paid[account] += paid
            known = self._dearest.get(account, Spend())
            self._dearest[account] = Spend(max(known.tokens, paid.tokens), max(known.usd or 0.0, paid.usd or 0.0))
            if self._keep is not None:
                self._keep(account, paid)
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _refuse(self, name: str, cap: Cap) -> None:
        paid = self._sum(name)
        if cap.usd is not None and paid.usd is None:
            raise UserError(unpriced(name, cap.usd))
        if reached := cap.reached(paid):
            raise BudgetSpent(spent(name, reached))

    def _crowded(self, name: str, cap: Cap, account: str) -> bool:
        """Whether calls in flight may still reach the cap. Alone, a call may go up to the cap and beyond."""
        running = self._running if name == TOTAL else {name: self._running[name]}
        reserved = Spend()
        for other, count in running.items():
            dearest = self._dearest.get(other, Spend())
            reserved += Spend(count * dearest.tokens, count * (dearest.usd or 0.0))
        reserved += self._dearest.get(account, Spend())
        return any(running.values()) and bool(cap.reached(self._sum(name), reserved))

    def _sum(self, name: str) -> Spend:
        return sum(self.paid.values(), Spend()) if name == TOTAL else self.paid[name]


def spent(name: str, limit: str) -> str:
    """The reason that is given where the cap of an account is reached."""
    return f"the budget of {limit} is spent" if name == TOTAL else f"the budget of {limit} for {name} is spent"


def unpriced(name: str, cap: float) -> str:
    """What is said where money is capped that cannot be counted."""
    key, section = ("budget", "budget") if name == TOTAL else (f"budget.roles.{name}", f"budget.roles.{name}")
    return (
        f"{key}.usd={cap:g} cannot be kept: the price of this task_model is not known; "
        f"set {section}.usd=null, and {section}.tokens or budget.rollouts instead"
    )
