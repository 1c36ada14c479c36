"""A component as it is written in a harness: a target and its parameters, never a live object.

Targets are ``harnessx.<dotted.path>`` (built in), the name of a registered entry point of the group
``harnessx.components``, or ``assets/<file>.py:<Class>`` (the harness's own code). The host never
imports an asset: what it must know of one (`Traits`) it reads from the syntax tree.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

from harnessx.canonical import canonical_json
from harnessx.errors import HarnessInvalid
from harnessx.hooks import Hook
from harnessx.permissions import Effect
from harnessx.processor import Dimension, Order
from harnessx.sandbox.view import PLUGINS


@dataclass(frozen=True, slots=True)
class Traits:
    """What the algebra must know of a component: where it acts, what it excludes, its parameters."""

    name: str
    hooks: tuple[Hook, ...] = ()
    group: str | None = None
    order: Order = Order.NORMAL
    after: tuple[str, ...] = ()
    dimension: Dimension = Dimension.CONTROL
    parameters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    effects: frozenset[Effect] = frozenset()
    """What it declares to do."""


class Spec:
    """``{_target_: …, **params}``: an immutable value, equal when target and parameters are."""

    __slots__ = ("_canonical", "params", "target")

    target: str
    params: Mapping[str, Any]

    def __init__(self, target: str, params: Mapping[str, Any] | None = None) -> None:
        try:
            self._canonical = canonical_json([target, dict(params or {})])
            self._canonical.encode()
            if "NaN" in self._canonical or "Infinity" in self._canonical:  # or a text that says so
                json.dumps(dict(params or {}), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise HarnessInvalid(f"{target}: parameters must be JSON values ({error})") from error
        self.target = target
        self.params = MappingProxyType(dict(params or {}))

    @property
    def is_asset(self) -> bool:
        """Whether the code behind the target travels with the harness."""
        return self.target.startswith("assets/")

    @property
    def name(self) -> str:
        """The class name."""
        return self.target.replace(":", ".").rsplit(".", 1)[-1]

    def with_params(self, **changes: Any) -> Spec:
        """The same component with some parameters set."""
        return Spec(self.target, {**self.params, **changes})

    def to_json(self) -> dict[str, Any]:
        """The Hydra-style mapping, parameters by name."""
        return {"_target_": self.target, **dict(sorted(self.params.items()))}

    @classmethod
    def from_json(cls, data: object) -> Spec:
        """Inverse of `to_json`.

        Raises:
            HarnessInvalid: not a mapping with a ``_target_``.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("_target_"), str):
            raise HarnessInvalid(f"a component is written {{_target_: dotted.path, …}}, not {data!r}")
        return cls(data["_target_"], {k: v for k, v in data.items() if k != "_target_"})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._canonical == other._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.params.items())})"


def spec_of(component: object) -> Spec:
    """The spec of a live component: its class and the init fields that differ from their defaults.

    Raises:
        HarnessInvalid: the object is not a dataclass instance.
    """
    if isinstance(component, Spec):
        return component
    if not dataclasses.is_dataclass(component) or isinstance(component, type):
        raise HarnessInvalid(f"{component!r} is neither a Spec nor an instance of a dataclass component")
    params = {}
    for field in dataclasses.fields(component):
        if not field.init:
            continue
        value = getattr(component, field.name)
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING or value != default:
            params[field.name] = list(value) if isinstance(value, tuple) else value
    cls = type(component)
    package = cls.__module__.rsplit(".", 1)[0]
    public = sys.modules.get(package)
    module = package if public is not None and getattr(public, cls.__name__, None) is cls else cls.__module__
    return Spec(f"{module}.{cls.__qualname__}", params)


def traits_of(spec: Spec, assets: Mapping[str, str]) -> Traits:
    """The traits of ``spec``; built-in classes are imported, assets only parsed.

    Raises:
        HarnessInvalid: unknown or foreign target, missing asset, unreadable class attributes.
    """
    if spec.is_asset:
        path, _, name = spec.target.partition(":")
        if path not in assets:
            raise HarnessInvalid(f"{spec.target}: no asset {path!r}; the harness has {sorted(assets)}")
        return _asset_traits(path, name, assets[path])
    return _class_traits(spec.target)


def build(spec: Spec, assets: Mapping[str, str], *, allow_assets: bool) -> Any:
    """A fresh instance of the component.

    Raises:
        HarnessInvalid: bad target or parameters, or an asset where ``allow_assets`` is false (the
            host: code that travels with a harness runs in a worker only).
    """
    if spec.is_asset:
        if not allow_assets:
            raise HarnessInvalid(f"{spec.target} is the harness's own code and runs only in a worker process")
        path, _, name = spec.target.partition(":")
        cls = getattr(_asset_module(path, assets[path]), name)
    else:
        cls = _resolve(spec.target)
    try:
        return cls(**spec.params)
    except (TypeError, ValueError) as error:
        raise HarnessInvalid(f"{spec.target}: {error}") from error


@functools.cache
def _resolve(target: str) -> Any:
    if not target.startswith("harnessx."):
        from importlib.metadata import entry_points

        for entry in entry_points(group=PLUGINS):
            if target in (entry.name, entry.value.replace(":", ".")):
                return entry.load()
        raise HarnessInvalid(
            f"foreign target {target!r}: a harness may name targets under 'harnessx.', "
            f"registered entry points ({PLUGINS}) and its own 'assets/<file>.py:<Class>'"
        )
    module_name, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        known = _siblings(module_name)
        raise HarnessInvalid(f"unknown target {target!r}" + (f"; known: {known}" if known else "")) from error


def _siblings(module_name: str) -> str:
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError):
        return ""
    return ", ".join(n for n in getattr(module, "__all__", ()) if isinstance(getattr(module, n, None), type))


@functools.cache
def _class_traits(target: str) -> Traits:
    cls = _resolve(target)
    if not dataclasses.is_dataclass(cls):
        raise HarnessInvalid(f"{target} is not a component (a dataclass)")
    fields = [f for f in dataclasses.fields(cls) if f.init]
    missing, effects = dataclasses.MISSING, getattr(cls, "effects", None)
    return Traits(
        name=getattr(cls, "__name__", target),
        hooks=tuple(getattr(cls, "hooks", ())),
        group=getattr(cls, "group", None),
        order=getattr(cls, "order", Order.NORMAL),
        after=tuple(getattr(cls, "after", ())),
        dimension=getattr(cls, "dimension", Dimension.CONTROL),
        parameters=tuple(f.name for f in fields),
        required=tuple(f.name for f in fields if f.default is missing and f.default_factory is missing),
        effects=effects if isinstance(effects, frozenset) else frozenset(),
    )


@functools.lru_cache(maxsize=512)
def _asset_traits(path: str, name: str, source: str) -> Traits:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise HarnessInvalid(f"{path}:{error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise HarnessInvalid(f"{path}: it cannot be parsed ({error or type(error).__name__})") from error
    found = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if found is None:
        classes = [n.name for n in tree.body if isinstance(n, ast.ClassDef)]
        raise HarnessInvalid(f"{path} defines no class {name!r} (it defines {classes})")
    traits: dict[str, Any] = {}
    parameters, required = [], []
    for node in found.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            key = node.targets[0].id
            if key in ("hooks", "group", "order", "after", "dimension"):
                traits[key] = _literal(node.value, f"{path}:{node.lineno}: {name}.{key}")
            elif key == "effects":
                traits[key] = _effects(node.value, f"{path}:{node.lineno}: {name}.{key}")
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and "ClassVar" not in _written(node.annotation)
            and not (node.value is not None and "init=False" in _written(node.value))
        ):
            parameters.append(node.target.id)
            if node.value is None:
                required.append(node.target.id)
    _check_kinds(traits, f"{path}: {name}")
    return Traits(name=name, parameters=tuple(parameters), required=tuple(required), **traits)


def _written(node: ast.expr) -> str:
    """The source of an expression; '' where it is too deep to be one of those looked for."""
    try:
        return ast.unparse(node)
    except RecursionError:
        return ""


def _check_kinds(traits: Mapping[str, Any], where: str) -> None:
    """Refuse class attributes of another kind than the algebra reads."""
    kinds: dict[str, tuple[Callable[[Any], bool], str]] = {
        "hooks": (lambda v: isinstance(v, tuple) and all(isinstance(h, Hook) for h in v), "a tuple of Hook"),
        "group": (lambda v: v is None or isinstance(v, str), "a text or None"),
        "order": (lambda v: isinstance(v, Order), "an Order"),
        "after": (lambda v: isinstance(v, tuple) and all(isinstance(g, str) for g in v), "a tuple of texts"),
        "dimension": (lambda v: isinstance(v, Dimension), "a Dimension"),
    }
    for key, (fits, kind) in kinds.items():
        if key in traits and not fits(traits[key]):
            raise HarnessInvalid(f"{where}.{key} must be {kind}")


def _effects(node: ast.expr, where: str) -> frozenset[Effect]:
    """The value of ``frozenset({Effect.X, …})``, or of a set, tuple or list of them."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "frozenset":
        if not node.args:
            return frozenset()
        node = node.args[0]
    if isinstance(node, ast.Set):
        node = ast.Tuple(node.elts)
    found = _literal(node, where)
    if not isinstance(found, tuple) or not all(isinstance(effect, Effect) for effect in found):
        raise HarnessInvalid(f"{where} must be a set of Effect.{', Effect.'.join(e.name for e in Effect)}")
    return frozenset(found)


def _literal(node: ast.expr, where: str) -> Any:
    """The value of a literal, where ``Hook.X``, ``Order.X``, ``Dimension.X`` and ``Effect.X`` count as literals."""
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(item, where) for item in node.elts)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        enum = {"Hook": Hook, "Order": Order, "Dimension": Dimension, "Effect": Effect}.get(node.value.id)
        if enum is not None and node.attr in enum.__members__:
            return enum[node.attr]
    raise HarnessInvalid(f"{where} must be a literal, so that a host can read it without running it")


@functools.lru_cache(maxsize=64)
def _asset_module(path: str, source: str) -> ModuleType:
    name = "harness_assets." + path.removeprefix("assets/").removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(source, path, "exec"), module.__dict__)
    return module
