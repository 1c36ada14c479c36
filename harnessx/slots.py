"""What all processors of a harness share (S of paper §2): tools, limits, permissions, providers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from harnessx.errors import HarnessInvalid
from harnessx.permissions import Permissions
from harnessx.spec import Spec


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rollout may spend; None is unlimited. Wider limits are a budget, not an improvement."""

    steps: int = 50
    tokens: int | None = None
    cost_usd: float | None = None
    wall_s: float | None = 600.0


@dataclass(frozen=True, slots=True)
class ToolRegistry:
    """Which tools the model is offered, and how they are described.

    ``expose`` names the environment's tools to offer (None: all); ``describe`` replaces descriptions
    by tool name; ``add`` are the harness's own tools, which run where its processors run.
    """

    expose: tuple[str, ...] | None = None
    describe: Mapping[str, str] = field(default_factory=dict)
    add: tuple[Spec, ...] = ()


@dataclass(frozen=True, slots=True)
class Slots:
    """The fixed set of things all processors share (S in the paper).

    ``permissions`` is the harness's rule on what its tools may do; the user's rule stands beside it.
    ``tracer`` is ``full`` (contents in the trajectory) or ``summary`` (counts only). ``workspace`` is ``scratch``
    (a folder that only the harness's code has), ``files`` (and one on the host, with tools to work in it) or
    ``shell`` (and commands there). ``sandbox`` and ``plugins`` name providers; only those of `_PROVIDERS` exist.
    """

    tools: ToolRegistry = field(default_factory=ToolRegistry)
    limits: Limits = field(default_factory=Limits)
    tracer: str = "full"
    workspace: str = "scratch"
    sandbox: str = "auto"
    plugins: tuple[str, ...] = ()
    permissions: Permissions = field(default_factory=Permissions)

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the default, so that a canonical form has one spelling."""
        out: dict[str, Any] = {}
        limits = {
            f.name: getattr(self.limits, f.name)
            for f in dataclasses.fields(Limits)
            if getattr(self.limits, f.name) != f.default
        }
        tools: dict[str, Any] = {}
        if self.tools.expose is not None:
            tools["expose"] = list(self.tools.expose)
        if self.tools.describe:
            tools["describe"] = dict(sorted(self.tools.describe.items()))
        if self.tools.add:
            tools["add"] = [spec.to_json() for spec in self.tools.add]
        rule = self.permissions.to_json()
        parts = (("tools", tools), ("limits", limits), ("permissions", rule), ("plugins", list(self.plugins)))
        for name, value in parts:
            if value:
                out[name] = value
        for name in ("tracer", "workspace", "sandbox"):
            if getattr(self, name) != _DEFAULTS[name]:
                out[name] = getattr(self, name)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Slots:
        """Inverse of `to_json`.

        Raises:
            HarnessInvalid: unknown slot, unknown key, or a provider that does not exist.
        """
        known("slot", data, [f.name for f in dataclasses.fields(cls)])
        tools, limits = section(data, "tools"), section(data, "limits")
        known("slots.tools key", tools, ["expose", "describe", "add"])
        known("slots.limits key", limits, [f.name for f in dataclasses.fields(Limits)])
        expose, describe = tools.get("expose"), section(tools, "describe")
        _check_texts("slots.tools.expose", () if expose is None else expose)
        _check_texts("slots.tools.describe", [*describe, *describe.values()])
        _check_texts("slots.plugins", data.get("plugins") or ())
        if not isinstance(tools.get("add") or (), list | tuple):
            raise HarnessInvalid("slots.tools.add must be a list of components")
        try:
            permissions = Permissions.from_json(section(data, "permissions"))
        except ValueError as error:
            raise HarnessInvalid(f"slots.permissions: {error}") from error
        return cls(
            ToolRegistry(
                None if expose is None else tuple(expose),
                MappingProxyType(dict(sorted(describe.items()))),
                tuple(Spec.from_json(s) for s in tools.get("add") or ()),
            ),
            Limits(**limits),
            **{name: data[name] for name in ("tracer", "workspace", "sandbox") if name in data},
            plugins=tuple(data.get("plugins") or ()),
            permissions=permissions,
        )

    def problems(self) -> list[str]:
        """Everything that is wrong with the values."""
        found = []
        for name, valid in _PROVIDERS.items():
            if getattr(self, name) not in valid:
                found.append(f"slots.{name}={getattr(self, name)!r}; valid: {', '.join(valid)}")
        if self.plugins:
            found.append(f"slots.plugins={list(self.plugins)}; no plugin is available")
        for f in dataclasses.fields(Limits):
            value = getattr(self.limits, f.name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                found.append(f"slots.limits.{f.name}={value!r} must be a positive number")
        if not isinstance(self.limits.steps, int) or isinstance(self.limits.steps, bool):
            found.append(f"slots.limits.steps={self.limits.steps!r} must be an integer")
        return found


_DEFAULTS = {"tracer": "full", "workspace": "scratch", "sandbox": "auto"}
_PROVIDERS = {"tracer": ("full", "summary"), "workspace": ("scratch", "files", "shell"), "sandbox": ("auto",)}


def known(what: str, data: Mapping[str, Any], valid: list[str]) -> None:
    """Refuse keys that are none of ``valid``."""
    unknown = sorted(map(repr, set(data) - set(valid)))
    if unknown:
        raise HarnessInvalid(f"unknown {what} {', '.join(unknown)}; valid: {', '.join(valid)}")


def section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The mapping under ``name``; absent is empty."""
    found = data.get(name) or {}
    if not isinstance(found, Mapping):
        raise HarnessInvalid(f"{name} must be a mapping, not {type(found).__name__}")
    return found


def _check_texts(what: str, values: object) -> None:
    """Refuse what is no list of texts that can be written down."""
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) and writable(v) for v in values):
        raise HarnessInvalid(f"{what} must be texts")


def writable(text: str) -> bool:
    """Whether an encoding can hold it: half a surrogate pair has none."""
    return text.isascii() or text == text.encode(errors="replace").decode()
