"""The resolved configuration of a run, typed, and what of it a resumed run may change."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis.evaluator import SPLITS
from aegis.gate.gate import GateConfig
from harnessx.errors import HarnessInvalid, UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.runner.pool import PoolConfig
from harnessx.tasks import Benchmark

CHANGEABLE = ("rounds", "patience", "budget", "tracking", "run", "experiment")
"""Settings outside a run's identity, with ``runner.lanes`` and ``runner.concurrency``."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend; None is unlimited."""

    rollouts: int | None = None
    tokens: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """A run's configuration."""

    seed: int
    rounds: int
    patience: int
    candidates: int
    attempts: int
    sealed_attempts: int
    actionability: float
    splits: Mapping[str, int]
    gate: GateConfig
    decisions: int
    budget: Budget
    pool: PoolConfig
    harness: str | None
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Check and type a resolved config.

        Raises:
            UserError: a value is out of range or a section is wrong.
        """
        gate = dict(config["gate"])
        decisions = gate.pop("decisions")
        try:
            gate_config, budget = GateConfig(**gate), Budget(**config["budget"])
        except TypeError as error:
            raise UserError(f"gate or budget: {error}") from error
        splits = {name: config["benchmark"]["splits"][name] for name in SPLITS}
        settings = cls(
            seed=config["seed"],
            rounds=config["rounds"],
            patience=config["patience"],
            candidates=config["candidates"],
            attempts=config["attempts"],
            sealed_attempts=config["sealed_attempts"],
            actionability=config["actionability"],
            splits=splits,
            gate=gate_config,
            decisions=decisions,
            budget=budget,
            pool=pool_config(config),
            harness=config["harness"],
            raw=config,
        )
        settings._check()
        return settings

    def _check(self) -> None:
        positive = {
            "rounds": self.rounds,
            "patience": self.patience,
            "candidates": self.candidates,
            "attempts": self.attempts,
            "sealed_attempts": self.sealed_attempts,
            "gate.decisions": self.decisions,
            "gate.cap": self.gate.cap,
            "gate.batch": self.gate.batch,
            **{f"benchmark.splits.{name}": size for name, size in self.splits.items()},
        }
        for name, value in positive.items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value!r} must be a positive whole number")
        if not isinstance(self.seed, int):
            raise UserError(f"seed={self.seed!r} must be a whole number")
        if not 0 < self.gate.alpha < 1:
            raise UserError(f"gate.alpha={self.gate.alpha!r} must lie between 0 and 1, such as 0.05")
        if self.gate.screen_attempts > self.attempts:
            raise UserError(f"gate.screen_attempts={self.gate.screen_attempts} exceeds attempts={self.attempts}")
        if self.gate.ledger not in ("spending", "elond"):
            raise UserError(f"gate.ledger={self.gate.ledger!r}; valid: spending, elond")

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run may not change."""
        kept = {k: v for k, v in self.raw.items() if k not in CHANGEABLE}
        kept["runner"] = {k: v for k, v in self.raw["runner"].items() if k not in ("lanes", "concurrency")}
        return kept


def pool_config(config: Mapping[str, Any]) -> PoolConfig:
    """The runner's part of a resolved config."""
    runner, benchmark, task_model = config["runner"], config["benchmark"], config["task_model"]
    roles = {k: v for k, v in task_model.items() if k not in ("name", "fallback", "sampling")}
    return PoolConfig(
        benchmark={k: v for k, v in benchmark.items() if k not in ("name", "splits")},
        model=ModelConfig(fallback=task_model.get("fallback"), sampling=task_model.get("sampling"), **roles),
        seed=config["seed"],
        isolation=runner["isolation"],
        lanes=runner["lanes"],
        concurrency=runner["concurrency"],
        persist=runner["persist"],
    )


def load_harness(name: str | None, benchmark: Benchmark) -> HarnessConfig:
    """The harness that ``name`` means: a path, a named bundle, ``h0`` or None for the benchmark's own.

    Raises:
        UserError: neither a file nor a bundle, or a file that is no well-typed harness.
    """
    if name is None or name == "h0":
        return benchmark.harness()
    if Path(name).exists():
        return HarnessConfig.load(name)
    from harnessx import bundles

    factory = getattr(bundles, name, None) if name in bundles.__all__ else None
    if factory is None:
        raise UserError(f"harness={name}: no such file or folder, and no bundle (h0, {', '.join(bundles.__all__)})")
    harness = factory()
    if not isinstance(harness, HarnessConfig):
        raise HarnessInvalid(f"bundle {name} makes no harness")
    return harness


def instantiate(section: Mapping[str, Any], what: str) -> Any:
    """The object behind a config section with a ``_target_``.

    Raises:
        UserError: no such target, or wrong parameters.
    """
    module, _, name = str(section["_target_"]).rpartition(".")
    params = {k: v for k, v in section.items() if k not in ("_target_", "name")}
    try:
        return getattr(importlib.import_module(module), name)(**params)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"{what}: {section['_target_']}: {error}") from error
