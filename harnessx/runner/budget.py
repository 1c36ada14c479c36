"""What a rollout may spend, and what is lent to its sub-agents: the host's own count of what crossed the seam."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from harnessx.delegation import Allowance, Lease
from harnessx.errors import LimitReached, StopReason, ToolError
from harnessx.harness import Limits
from harnessx.messages import Meter, Usage
from harnessx.trajectory import SubAgent

MAX_SUBS = 16
"""Sub-agents in one rollout."""
_PROCESSOR = "processor:"

N = TypeVar("N", int, float)


@dataclass(slots=True)
class _Account:
    """One sub-agent's: what it was granted, what it has spent, and its place in the record."""

    granted: Allowance
    record: SubAgent
    spent: Meter = field(default_factory=Meter)
    requests: int = 0
    unpriced: bool = False
    refused: StopReason | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Its requests go out one at a time: so it passes its cap by one call at most."""

    @property
    def unspent(self) -> tuple[int, int, float]:
        """Steps, tokens and dollars that are still reserved for it."""
        granted, spent = self.granted, self.spent
        tokens = max((granted.tokens or 0) - spent.tokens, 0)
        return granted.steps - self.requests, tokens, max((granted.usd or 0.0) - (spent.cost_usd or 0.0), 0.0)


class Budget:
    """The limits of a rollout, and the accounts of its sub-agents.

    A sub-agent's unspent part is reserved: neither the agent nor another sub-agent can have it, until it has ended.
    A cap on tokens or dollars is looked at before a call, so it is passed by the calls in flight at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.spent = Meter()
        """All of the rollout."""
        self._requests = 0
        self._unpriced = False
        self._open: dict[str, _Account] = {}
        self._lent = 0

    def check(self, path: str) -> None:
        """Count a request of ``path``, and refuse it where its budget is spent.

        Raises:
            LimitReached: steps, tokens or cost are spent.
            ToolError: ``path`` is that of no sub-agent that runs.
        """
        steps = self._counts(path)
        if path.startswith("sub["):
            account = self._account(path)
            try:
                self._check_own(account, steps)
                self._check_total(0, 0.0)
            except LimitReached as limit:
                account.refused = account.refused or limit.reason
                raise
            account.requests += steps
        else:
            reserved, tokens, usd = self._reserved()
            if steps and self._requests + reserved >= self._limits.steps:
                raise LimitReached(StopReason.STEP_LIMIT, f"{self._limits.steps} steps")
            self._check_total(tokens, usd)
        self._requests += steps

    def count(self, path: str, usage: Usage, *, answered: bool = True) -> None:
        """A call of ``path`` took so much, whether it was answered or not."""
        unpriced = usage.cost_usd is None and bool(usage.total_tokens)
        self.spent.add(usage)
        self._unpriced = self._unpriced or unpriced
        if path.startswith("sub["):
            account = self._account(path)
            account.spent.add(usage)
            account.unpriced = account.unpriced or unpriced
            account.record.model_calls += answered

    def carve(self, asked: Sequence[Allowance]) -> list[tuple[Lease, SubAgent]]:
        """Lend to as many sub-agents as are asked for: what each asks, at most an equal part of what is left.

        One step stays with the agent, to make use of what they find.

        Raises:
            ToolError: too many, or nothing is left.
        """
        if not asked or self._lent + len(asked) > MAX_SUBS:
            raise ToolError(f"{MAX_SUBS - self._lent} more sub-agents can be had in this task, not {len(asked)}")
        limits, spent, (steps, tokens, usd) = self._limits, self.spent, self._reserved()
        share_steps = (limits.steps - self._requests - steps - 1) // len(asked)
        share_tokens = None if limits.tokens is None else (limits.tokens - spent.tokens - tokens) // len(asked)
        share_usd = None if limits.cost_usd is None else (limits.cost_usd - (spent.cost_usd or 0.0) - usd) / len(asked)
        for name, share in (("steps", share_steps), ("tokens", share_tokens), ("dollars", share_usd)):
            if share is not None and share <= 0:
                raise ToolError(f"no {name} are left for {len(asked)} sub-agents")
        return [
            self._lend(Allowance(min(a.steps, share_steps), _least(a.tokens, share_tokens), _least(a.usd, share_usd)))
            for a in asked
        ]

    def turn(self, path: str) -> asyncio.Lock:
        """What a request of a sub-agent holds while it is answered."""
        return self._account(path).turn

    def place(self, path: str) -> SubAgent:
        """The record of the sub-agent of ``path``.

        Raises:
            ToolError: it does not run.
        """
        return self._account(path).record

    def settle(self, path: str, stop: StopReason) -> None:
        """The sub-agent of ``path`` has ended; ``stop`` is what it says itself."""
        account = self._open.pop(path, None)
        if account is not None:
            account.record.stop_reason = account.refused or stop
            account.record.usage = account.spent.total

    def settle_all(self) -> None:
        """No sub-agent outlives the step that it began in."""
        for path in tuple(self._open):
            self.settle(path, StopReason.ERROR)

    def _lend(self, granted: Allowance) -> tuple[Lease, SubAgent]:
        self._lent += 1
        path = f"sub[{self._lent}]"
        record = SubAgent(path, granted)
        self._open[path] = _Account(granted, record)
        return Lease(path, granted), record

    def _account(self, path: str) -> _Account:
        account = self._open.get(path.partition("/")[0])
        if account is None:
            raise ToolError(f"no sub-agent {path!r} runs")
        return account

    @staticmethod
    def _counts(path: str) -> bool:
        """Whether a request is a step: of the agent, of a sub-agent, or a part of a split one; not of a processor."""
        if path.startswith("sub["):
            return not path.partition("/")[2].startswith(_PROCESSOR)
        return path == "main" or path.startswith("main[")

    def _reserved(self) -> tuple[int, int, float]:
        if not self._open:
            return 0, 0, 0.0
        unspent = [account.unspent for account in self._open.values()]
        return sum(u[0] for u in unspent), sum(u[1] for u in unspent), sum(u[2] for u in unspent)

    @staticmethod
    def _check_own(account: _Account, steps: bool) -> None:
        granted, spent = account.granted, account.spent
        if steps and account.requests >= granted.steps:
            raise LimitReached(StopReason.STEP_LIMIT, f"{granted.steps} steps of a sub-agent")
        if granted.tokens is not None and spent.tokens >= granted.tokens:
            raise LimitReached(StopReason.TOKEN_LIMIT, f"{granted.tokens} tokens of a sub-agent")
        if granted.usd is not None and (account.unpriced or (spent.cost_usd or 0.0) >= granted.usd):
            raise LimitReached(StopReason.COST_LIMIT, f"{granted.usd} USD of a sub-agent")

    def _check_total(self, tokens: int, usd: float) -> None:
        """Whether the rollout may go on, where so much is reserved."""
        limits, spent = self._limits, self.spent
        if limits.tokens is not None and spent.tokens + tokens >= limits.tokens:
            raise LimitReached(StopReason.TOKEN_LIMIT, f"{limits.tokens} tokens")
        if limits.cost_usd is not None:
            if self._unpriced:
                raise LimitReached(StopReason.COST_LIMIT, "a call had no known price")
            if spent.cost_usd is not None and spent.cost_usd + usd >= limits.cost_usd:
                raise LimitReached(StopReason.COST_LIMIT, f"{limits.cost_usd} USD")


def _least(asked: N | None, share: N | None) -> N | None:
    """The smaller; None is unlimited."""
    return share if asked is None else asked if share is None else min(asked, share)
