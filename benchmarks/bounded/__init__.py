"""The offline task model: a mechanical player that fails for mechanical reasons. See `Bounded`."""

from benchmarks.bounded.model import Bounded

__all__ = ["Bounded"]
