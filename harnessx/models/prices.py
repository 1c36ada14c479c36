"""What calls cost, by LiteLLM's own table, which is a file of the package: nothing is fetched.

A model that is not in it has no price: its tokens are counted, and no dollars are made up.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

_ASKING = ("ollama", "ollama_chat", "lm_studio")
"""Providers of one's own machine, whose server LiteLLM would ask what it does not find in the table."""


class Prices:
    """The prices of one model.

    Args:
        litellm: the module, imported already.
    """

    def __init__(self, litellm: Any, model: str) -> None:
        self._litellm, self._model = litellm, model
        self._known = _row(litellm, model) is not None or _provider(litellm, model) not in _ASKING

    @functools.cached_property
    def rates(self) -> tuple[float, float] | None:
        """Dollars of a prompt token and of a completion token; None: not known."""
        if not self._known:
            return None
        try:
            costs = self._litellm.cost_per_token(model=self._model, prompt_tokens=1, completion_tokens=1)
        except Exception:  # noqa: BLE001  (LiteLLM raises plain Exception for a model without a price)
            return None
        return float(costs[0]), float(costs[1])

    @functools.cached_property
    def row(self) -> Mapping[str, float] | None:
        """All of the table's prices of the model, by their names there; None: not known."""
        if self.rates is None:
            return None
        row = _row(self._litellm, self._model)
        if row is None:  # found by one of LiteLLM's other ways
            return {"input_cost_per_token": self.rates[0], "output_cost_per_token": self.rates[1]}
        return {name: float(row[name]) for name in sorted(row) if "cost" in name and isinstance(row[name], int | float)}

    def of(self, answer: Any) -> float | None:
        """Dollars of an answer, cached tokens at their own price; None: not known."""
        if self.rates is None:
            return None
        try:
            return float(self._litellm.completion_cost(completion_response=answer, model=self._model))
        except Exception:  # noqa: BLE001  (as above)
            return None


def knows_tools(litellm: Any, model: str) -> bool:
    """Whether a model takes tools, as far as the table says; what it does not say is taken for a yes."""
    row = _row(litellm, model)
    return row is None or row.get("supports_function_calling") is not False


def _row(litellm: Any, model: str) -> Mapping[str, Any] | None:
    table: Mapping[str, Mapping[str, Any]] = litellm.model_cost
    return table.get(model) or table.get(model.partition("/")[2])


def _provider(litellm: Any, model: str) -> str:
    return model.partition("/")[0]
