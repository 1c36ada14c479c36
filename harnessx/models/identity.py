"""Who answers to a model's name, and at what price: a change is noticed, and said once.

A provider may serve another model by the same name, or the same one from another build; a table of prices may be
another one when a run is taken up again. None of that stops a run, and all of it belongs in its record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harnessx.messages import ModelResponse

_LOGGER = logging.getLogger("harnessx")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered: the model as it was asked for, as it was served, and its prices (None: not known)."""

    model: str
    served: str = ""
    fingerprint: str = ""
    prices: tuple[tuple[str, float], ...] | None = None

    @classmethod
    def of(cls, model: str, answer: ModelResponse, prices: Mapping[str, float] | None) -> Identity:
        """That of who gave ``answer``; one that gave its price itself is no riddle."""
        if prices is None and answer.usage.cost_usd is not None:
            prices = {}
        return cls(model, answer.model, answer.fingerprint, None if prices is None else tuple(sorted(prices.items())))

    def to_json(self) -> list[object]:
        """All of it."""
        prices = None if self.prices is None else [list(pair) for pair in self.prices]
        return [self.model, self.served, self.fingerprint, prices]

    @classmethod
    def from_json(cls, row: list[object]) -> Identity:
        """Inverse of `to_json`."""
        model, served, fingerprint, prices = row
        assert isinstance(prices, list | None)
        known = None if prices is None else tuple((str(name), float(price)) for name, price in prices)
        return cls(str(model), str(served), str(fingerprint), known)


class Register:
    """All that answered so far.

    Args:
        say: told each change, and each model without a price, in one line.
        known: who answered in earlier sittings.
        keep: told of everybody new, which has to outlive this process.
    """

    def __init__(
        self,
        say: Callable[[str], None] = _LOGGER.warning,
        known: Iterable[Identity] = (),
        keep: Callable[[Identity], None] | None = None,
    ) -> None:
        self._say, self._keep = say, keep
        self._known = dict.fromkeys(known)

    @property
    def known(self) -> list[Identity]:
        """Who answered so far, in order."""
        return list(self._known)

    def note(self, identity: Identity) -> None:
        """Somebody answered."""
        if identity in self._known:
            return
        before = [known for known in self._known if known.model == identity.model]
        for line in _news(identity, before):
            self._say(line)
        self._known[identity] = None
        if self._keep is not None:
            self._keep(identity)


def _news(now: Identity, before: list[Identity]) -> list[str]:
    """What is new about ``now``, in lines."""
    lines = []
    if now.prices is None and all(known.prices is not None for known in before):
        lines.append(f"{now.model}: no price is known; its tokens are counted, and no dollars")
    if not before:
        return lines
    served = [known.served for known in before]
    if now.served not in served:
        lines.append(f"{now.model} changed: {_name(now.served)} answers now, {_name(served[-1])} before")
    elif all(known.fingerprint != now.fingerprint for known in before if known.served == now.served):
        marks = [known.fingerprint for known in before if known.served == now.served]
        lines.append(
            f"{now.model} changed: {_name(now.served)} answers from the system {_name(now.fingerprint)}, "
            f"from {_name(marks[-1])} before"
        )
    if now.prices is not None and all(known.prices != now.prices for known in before):
        lines.append(f"{now.model}: its price changed; what was paid before stays as it was counted")
    return lines


def _name(text: str) -> str:
    return text or "(unnamed)"
