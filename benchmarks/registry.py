"""The benchmarks there are, by name. Nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from harnessx.errors import UserError
from harnessx.tasks import Benchmark

TARGETS = {
    "alfworld": "benchmarks.alfworld.AlfWorld",
    "household": "benchmarks.household.Household",
}


def create(name: str, **parameters: Any) -> Benchmark:
    """The benchmark ``name``, built with ``parameters``.

    Raises:
        UserError: unknown name, or parameters that it does not take.
    """
    if name not in TARGETS:
        raise UserError(f"no benchmark is called {name!r}: choose one of {', '.join(sorted(TARGETS))}")
    module, _, attribute = TARGETS[name].rpartition(".")
    target = getattr(import_module(module), attribute)
    try:
        benchmark: Benchmark = target(**parameters)
    except TypeError as error:
        raise UserError(f"benchmark {name}: {error}") from error
    return benchmark
