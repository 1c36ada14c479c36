"""An ALFWorld-compatible text world, generated from a seed. See `Household`."""

from benchmarks.household.benchmark import Household

__all__ = ["Household"]
