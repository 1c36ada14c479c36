"""The official ALFWorld games, played by TextWorld. See `AlfWorld`."""

from benchmarks.alfworld.benchmark import AlfWorld

__all__ = ["AlfWorld"]
