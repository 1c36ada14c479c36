"""What was paid to providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harnessx.messages import Usage


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens and dollars that were paid; dollars are None where a price is not known."""

    tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Spend) -> Spend:
        known = self.usd is not None and other.usd is not None
        return Spend(self.tokens + other.tokens, (self.usd or 0.0) + (other.usd or 0.0) if known else None)

    @classmethod
    def of(cls, usage: Usage) -> Spend:
        """What a call that was made cost."""
        return cls(usage.total_tokens, usage.cost_usd if usage.total_tokens else 0.0)

    def to_json(self) -> list[int | float | None]:
        """Both figures."""
        return [self.tokens, self.usd]


def added(accounts: dict[str, Spend], more: Mapping[str, Spend]) -> dict[str, Spend]:
    """The sums by account."""
    return accounts | {name: accounts.get(name, Spend()) + spend for name, spend in more.items()}
