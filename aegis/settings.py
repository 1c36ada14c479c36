"""The resolved configuration of a run, typed, and what of it a resumed run may change."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from aegis.allowance import Budget
from aegis.evaluator import SPLITS
from aegis.gate.approval import Risk
from aegis.gate.config import GateConfig
from aegis.outside import tool_servers
from aegis.routing import ROUTER, RoutedPool, System
from harnessx.errors import HarnessInvalid, UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig, check_reference
from harnessx.models.patience import Patience
from harnessx.permissions import Permissions
from harnessx.redaction import SHORTEST, redact
from harnessx.runner.pool import PoolConfig
from harnessx.runner.purse import ACCOUNTS, Cap
from harnessx.sandbox.base import INSTALL
from harnessx.spec import build
from harnessx.tasks import Benchmark
from harnessx.web import WebRules, host_of

S = TypeVar("S")

SECTIONS = frozenset(
    """seed harness rounds patience candidates attempts sealed_attempts actionability
    budget permissions provider run sandbox servers benchmark task_model meta gate strategy runner tracking""".split()
)
PARTS = (
    *(f"benchmark.{name}" for name in ("name", "_target_", "splits", *(f"splits.{split}" for split in SPLITS))),
    *(f"runner.{name}" for name in ("isolation", "lanes", "concurrency", "persist", "window_s")),
    *("task_model.main", "meta._target_", "strategy._target_", "tracking.name", "run.dir", "run.resume"),
    "gate.decisions",
)
"""Settings that every run reads one by one."""
_KEY_NAME = re.compile(r"(?:api_?key|secret|passw(?:or)?d|(?:access|auth|api)_?token)$", re.IGNORECASE)
MOST_BYTES = 4 << 20
"""Of an answer of a host: it crosses to the worker in one frame, where a byte takes up to six."""
LEAST_LEVEL = 1e-300
"""Of a decision: an e-value is a float, and ends soon after."""
CHANGEABLE = ("rounds", "patience", "budget", "provider", "tracking", "run")
"""Settings outside a run's identity, with ``runner.lanes`` and ``runner.concurrency``."""


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
            UserError: a setting is missing, unknown or out of range.
        """
        no_secrets(config)
        unknown = sorted(config.keys() - SECTIONS)
        if unknown:
            raise UserError(f"no setting is called {unknown[0]}; valid: {', '.join(sorted(SECTIONS))}")
        for path in (*sorted(SECTIONS), *PARTS):
            _present(config, path)
        settings = cls._read(config)
        settings._check()
        return settings

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> Settings:
        return cls(
            seed=config["seed"],
            rounds=config["rounds"],
            patience=config["patience"],
            candidates=config["candidates"],
            attempts=config["attempts"],
            sealed_attempts=config["sealed_attempts"],
            actionability=config["actionability"],
            splits={name: config["benchmark"]["splits"][name] for name in SPLITS},
            gate=section_of(GateConfig, "gate", config["gate"], ignore=("decisions",)),
            decisions=config["gate"]["decisions"],
            budget=budget(config["budget"]),
            pool=pool_config(config),
            harness=config["harness"],
            raw=config,
        )

    def _check(self) -> None:
        for name in ("rounds", "patience", "candidates", "attempts", "sealed_attempts"):
            whole(name, getattr(self, name))
        for name, size in self.splits.items():
            whole(f"benchmark.splits.{name}", size)
        check_gate(self.gate, self.decisions)
        number("actionability", self.actionability, "between 0 and 1, both included", lambda x: 0 <= x <= 1)
        if self.gate.screen_attempts > self.attempts:
            raise UserError(f"gate.screen_attempts={self.gate.screen_attempts} exceeds attempts={self.attempts}")
        one_of("run.resume", self.raw["run"]["resume"], (True, False))
        if self.harness is not None and not isinstance(self.harness, str):
            raise UserError(f"harness={self.harness!r}: a run starts from one harness; give a path or a name")

    @property
    def resume(self) -> bool:
        """Whether the run may be there already, to go on with."""
        return bool(self.raw["run"]["resume"])

    @property
    def steady(self) -> bool:
        """Whether the same question has the same answer whenever it is asked: of the model, and of nobody outside."""
        return self.pool.model.deterministic and not self.pool.web.allow_hosts and not self.pool.servers

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run may not change."""
        return identity_of(self.raw)


def schedule_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved config decides when a run ends."""
    budget = {k: v for k, v in (config.get("budget") or {}).items() if not k.startswith("confirm")}
    return {"rounds": config.get("rounds"), "patience": config.get("patience"), "budget": budget}


def budget(section: Mapping[str, Any]) -> Budget:
    """A command's budget, with the caps of its roles; what ``section`` leaves out is unlimited.

    Raises:
        UserError: names the setting that is unknown, missing or out of range.
    """
    roles = section.get("roles") if isinstance(section.get("roles"), Mapping) else {}
    assert roles is not None
    caps: dict[str, Cap] = {}
    for role, values in roles.items():
        one_of("a role of budget.roles", role, ACCOUNTS)
        caps[role] = section_of(Cap, f"budget.roles.{role}", values)
        for name in ("tokens", "usd"):
            if (value := getattr(caps[role], name)) is not None:
                number(f"budget.roles.{role}.{name}", value, "above 0", lambda x: x > 0)
    found = section_of(Budget, "budget", {**asdict(Budget()), **section, "roles": caps})
    for name in ("rollouts", "tokens", "usd", "confirm_above"):
        if (value := getattr(found, name)) is not None:
            number(f"budget.{name}", value, "above 0", lambda x: x > 0)
    one_of("budget.confirm", found.confirm, ("ask", "yes"))
    return found


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved config a resumed run may not change."""
    kept = {k: v for k, v in config.items() if k not in CHANGEABLE}
    kept["runner"] = {k: v for k, v in config["runner"].items() if k not in ("lanes", "concurrency")}
    return kept


def _present(config: Mapping[str, Any], path: str) -> None:
    """Refuse a config without the setting ``path``."""
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise UserError(f"the setting {path} is missing; --cfg job shows what is set")
        value = value[key]


def no_secrets(config: object, where: str = "") -> None:
    """Refuse a config that holds a key: it is written down, hashed and tracked, and a key may be none of that.

    Raises:
        UserError: names the setting, not its value.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            no_secrets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(config, Sequence) and not isinstance(config, str):
        for value in config:
            no_secrets(value, where)
    elif isinstance(config, str):
        named = _KEY_NAME.search(where) and len(config) >= SHORTEST and not config.startswith("os.environ/")
        if named or redact(config) != config:
            raise UserError(f"{redact(where)} holds what looks like a key or password, and settings are written down: "
                            "put it into the provider's environment variable and leave it out here")  # fmt: skip


def check_gate(gate: GateConfig, decisions: object) -> None:
    """Refuse a gate with a setting out of range.

    Raises:
        UserError: names the setting and its value.
    """
    whole("gate.decisions", decisions)
    whole("gate.promise", gate.promise, -gate.veto)
    for name in ("cap", "batch", "run_cap", "max_trials", "screen_attempts", "finalists", "veto"):
        whole(f"gate.{name}", getattr(gate, name))
    for name in ("calibration", "drift_pairs", "canary", "canaries", "demonstrations"):
        whole(f"gate.{name}", getattr(gate, name), 0)
    for name in ("drift_rounds", "drift_check", "drift_cap"):
        whole(f"gate.{name}", getattr(gate, name))
    number("gate.cluster_alpha", gate.cluster_alpha, "from 0 (off) to below 1", lambda x: 0 <= x < 1)
    asked = [name for name in ("power", "prove_ni") if getattr(gate, name) is not None]
    for name in ("alpha", "mei", "effect", *asked):
        number(f"gate.{name}", getattr(gate, name), "between 0 and 1", lambda x: 0 < x < 1)
    for name in ("slack", "max_token_ratio", "max_call_ratio", "max_total_ratio", "smoke_s"):
        number(f"gate.{name}", getattr(gate, name), "above 0", lambda x: x > 0)
    for name in ("max_token_ratio", "max_call_ratio"):
        if getattr(gate, name) > gate.max_total_ratio:
            raise UserError(
                f"gate.{name}={getattr(gate, name):g} allows one edit what gate.max_total_ratio="
                f"{gate.max_total_ratio:g} forbids all together; raise gate.max_total_ratio"
            )
    assert isinstance(decisions, int)  # as `whole` has made sure
    if decisions > gate.alpha / LEAST_LEVEL:
        raise UserError(
            f"gate.alpha={gate.alpha:g} is nothing that evidence reaches in one of gate.decisions={decisions}; "
            "raise gate.alpha, or plan fewer gate.decisions"
        )
    one_of("gate.rule", gate.rule, ("paired", "seesaw"))
    one_of("gate.ledger", gate.ledger, ("spending", "elond"))
    one_of("gate.approval", gate.approval, ("auto", "deny", "ask"))
    one_of("gate.risk_threshold", gate.risk_threshold, tuple(r.name.lower() for r in Risk))
    for name in ("allow_budget", "bundle"):
        one_of(f"gate.{name}", getattr(gate, name), (True, False))


def whole(name: str, value: object, least: int = 1) -> None:
    """Refuse a setting that is no whole number of at least ``least``.

    Raises:
        UserError: names the setting and its value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}")


def one_of(name: str, value: object, valid: Sequence[object]) -> None:
    """Refuse a setting that is none of ``valid``.

    Raises:
        UserError: names the setting, its value and what is valid.
    """
    if not any(value is v or (value == v and isinstance(v, str)) for v in valid):
        raise UserError(f"{name}={value!r}; valid: {', '.join(map(str, valid))}")


def number(name: str, value: object, where: str, holds: Callable[[float], bool]) -> None:
    """Refuse a setting that is no number for which ``holds``.

    Raises:
        UserError: names the setting, its value and ``where`` it must lie.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
        raise UserError(f"{name}={value!r} must be a number {where}")


def section_of(kind: type[S], name: str, values: Mapping[str, Any], ignore: Sequence[str] = ()) -> S:
    """The section ``name`` as a ``kind``, each of whose fields must be there; keys in ``ignore`` may be.

    Raises:
        UserError: a key is unknown or missing.
    """
    known = kind.__dataclass_fields__.keys()  # type: ignore[attr-defined]
    values = {key: value for key, value in values.items() if key not in ignore}
    for key in [k for k in values if k not in known]:
        raise UserError(f"no setting is called {name}.{key}; valid: {', '.join([*known, *ignore])}")
    for key in [k for k in known if k not in values]:
        raise UserError(f"the setting {name}.{key} is missing; --cfg job shows what is set")
    return kind(**values)


@dataclass(frozen=True, slots=True)
class Waits:
    """The section ``provider``."""

    timeout_s: float = Patience().timeout_s
    patience_s: float = Patience().patience_s


def pool_config(config: Mapping[str, Any]) -> PoolConfig:
    """The runner's part of a resolved config.

    Raises:
        UserError: a value is out of range.
    """
    runner, benchmark, task_model = config["runner"], config["benchmark"], config["task_model"]
    whole("seed", config["seed"], 0)
    whole("runner.lanes", runner["lanes"], 0)
    whole("runner.concurrency", runner["concurrency"])
    one_of("runner.persist", runner["persist"], (True, False))
    if runner["window_s"] is not None:
        number("runner.window_s", runner["window_s"], "above 0", lambda x: x > 0)
    patience = section_of(Waits, "provider", config.get("provider") or asdict(Waits()))
    for name in ("timeout_s", "patience_s"):
        number(f"provider.{name}", getattr(patience, name), "above 0", lambda x: x > 0)
    roles = {k: v for k, v in task_model.items() if k not in ("name", "fallback", "sampling")}
    fallback = task_model.get("fallback") or {}
    for ref in (*roles.values(), *itertools.chain(*fallback.values())):
        check_reference(ref)
    return PoolConfig(
        benchmark={k: v for k, v in benchmark.items() if k not in ("name", "splits")},
        model=ModelConfig(fallback=task_model.get("fallback"), sampling=task_model.get("sampling"), **roles),
        seed=config["seed"],
        isolation=runner["isolation"],
        lanes=runner["lanes"],
        concurrency=runner["concurrency"],
        persist=runner["persist"],
        window_s=runner["window_s"],
        patience=Patience(patience.timeout_s, patience.patience_s),
        permissions=permissions(config["permissions"]),
        web=web_rules(config.get("sandbox") or asdict(WebRules()), runner["persist"]),
        servers=tool_servers(config.get("servers") or {}, runner),
    )


def web_rules(section: Mapping[str, Any], persist: bool) -> WebRules:
    """The section ``sandbox``: which hosts evolved code may ask, and how much of them.

    Raises:
        UserError: a value is out of range, or no exact host; or answers would not be kept.
    """
    hosts = section.get("allow_hosts")
    if not isinstance(hosts, Sequence) or isinstance(hosts, str) or not all(isinstance(host, str) for host in hosts):
        raise UserError(f"sandbox.allow_hosts={hosts!r} must be a list of hosts, such as [api.example.org]")
    rules = section_of(WebRules, "sandbox", {**section, "allow_hosts": tuple(hosts)})
    for entry in hosts:
        try:
            host, _ = host_of(entry)
        except ValueError as error:
            raise UserError(f"sandbox.allow_hosts: {entry}: {error}") from error
        if "." not in host and ":" not in host:
            raise UserError(f"sandbox.allow_hosts: {entry} is no public name; give your own machine by its address")
    whole("sandbox.requests", rules.requests)
    whole("sandbox.answer_bytes", rules.answer_bytes)
    number("sandbox.answer_bytes", rules.answer_bytes, f"of at most {MOST_BYTES}", lambda x: x <= MOST_BYTES)
    for name in ("timeout_s", "patience_s"):
        number(f"sandbox.{name}", getattr(rules, name), "above 0", lambda x: x > 0)
    if hosts and not persist:
        raise UserError("runner.persist=false keeps no answers of hosts, which a resumed run needs; "
                        "set runner.persist=true, or sandbox.allow_hosts=[]")  # fmt: skip
    return rules


def permissions(section: Mapping[str, Any]) -> Permissions:
    """The user's rule.

    Raises:
        UserError: an effect or a word that does not exist, or an effect that is left out.
    """
    section_of(Permissions, "permissions", section)
    try:
        return Permissions.from_json(section)
    except ValueError as error:
        raise UserError(f"permissions.{error}") from error


def load_harness(name: str | None, benchmark: Benchmark, isolation: str = "none") -> HarnessConfig:
    """The harness that ``name`` means: a path, a named bundle, ``h0`` or None for the benchmark's own.

    Its built-in parts are made once, so that a parameter they refuse is refused here and not in every rollout.

    Raises:
        UserError: neither a file nor a bundle; no well-typed harness; a part that cannot be made; or code of its
            own, which ``isolation`` does not run.
    """
    harness = _find_harness(name, benchmark)
    text = json.dumps(harness.to_json(), ensure_ascii=False)
    if redact(text) != text:
        raise UserError(f"harness={name} holds what looks like a key or password, and a harness is written down")
    for spec in (*harness.processors, *harness.slots.tools.add):
        if not spec.is_asset:
            try:
                build(spec, harness.assets, allow_assets=False)
            except HarnessInvalid as error:
                raise UserError(f"harness={name}: {error}") from error
    if harness.slots.workspace == "shell" and isolation == "inprocess":
        raise UserError(f"harness={name} runs commands (slots.workspace), and isolation=inprocess does not: {INSTALL}")
    if harness.has_code and isolation == "inprocess":
        raise UserError(f"harness={name} brings code of its own, which isolation=inprocess does not run: {INSTALL}")
    return harness


def _find_harness(name: str | None, benchmark: Benchmark) -> HarnessConfig:
    if name is None or name == "h0":
        return benchmark.harness()
    if Path(name, ROUTER).is_file():
        raise UserError(f"harness={name} is a pool of variants; start from one of them, such as {name}/variants/V1")
    if (Path(name) / "best/harness.yaml").is_file() and not (Path(name) / "harness.yaml").exists():
        raise UserError(f"harness={name} is the folder of a run; its final harness is harness={name.rstrip('/')}/best")
    if Path(name).exists():
        return HarnessConfig.load(name)
    from harnessx import bundles

    try:
        return bundles.load(name)
    except HarnessInvalid:
        raise
    except UserError as error:
        raise UserError(f"harness={name}: no such file or folder, and {error}; h0 is the benchmark's own") from error


def load_system(name: str | None, benchmark: Benchmark, isolation: str = "none") -> System:
    """Like `load_harness`, and also a pool of variants: a folder with a ``router.json``.

    Raises:
        UserError: neither a file nor a bundle, or a file that is no well-typed harness or router.
    """
    if name and Path(name, ROUTER).is_file():
        return RoutedPool.load(name)
    return load_harness(name, benchmark, isolation)


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
