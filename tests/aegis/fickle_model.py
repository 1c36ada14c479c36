"""The offline player, as a model that promises nothing: what a provider is to a run."""

from __future__ import annotations

from benchmarks.bounded import Bounded


class Fickle(Bounded):
    """Answers like `Bounded`, and does not say that it always will."""

    deterministic = False
