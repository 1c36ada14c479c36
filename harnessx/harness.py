"""A harness as a value: processors on hooks plus shared slots, C = (P, S) of paper §2.

`HarnessConfig` is immutable, canonical and well typed from the moment it exists; equality and hash
follow its `digest`, which is its behaviour. On disk it is a bundle: ``harness.yaml`` + ``assets/``.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harnessx.errors import HarnessInvalid
from harnessx.hooks import Hook
from harnessx.messages import canonical_json, digest_of
from harnessx.permissions import Effect, Permissions
from harnessx.spec import Spec, Traits, spec_of, traits_of

if TYPE_CHECKING:
    from harnessx.processor import Processor

FORMAT = 1
_BREAKS = frozenset("\x85\u2028\u2029")
"""Line breaks of Unicode, which PyYAML writes as they are and reads as spaces."""


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
    ``tracer`` is ``full`` (contents in the trajectory) or ``summary`` (counts only). ``workspace``,
    ``sandbox`` and ``plugins`` name providers; only the ones listed in `_PROVIDERS` exist.
    """

    tools: ToolRegistry = field(default_factory=ToolRegistry)
    limits: Limits = field(default_factory=Limits)
    permissions: Permissions = field(default_factory=Permissions)
    tracer: str = "full"
    workspace: str = "scratch"
    sandbox: str = "auto"
    plugins: tuple[str, ...] = ()

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
        _known("slot", data, [f.name for f in dataclasses.fields(cls)])
        tools, limits = data.get("tools") or {}, data.get("limits") or {}
        _known("slots.tools key", tools, ["expose", "describe", "add"])
        _known("slots.limits key", limits, [f.name for f in dataclasses.fields(Limits)])
        expose = tools.get("expose")
        try:
            permissions = Permissions.from_json(data.get("permissions") or {})
        except ValueError as error:
            raise HarnessInvalid(f"slots.permissions: {error}") from error
        return cls(
            ToolRegistry(
                None if expose is None else tuple(expose),
                MappingProxyType(dict(sorted((tools.get("describe") or {}).items()))),
                tuple(Spec.from_json(s) for s in tools.get("add") or ()),
            ),
            Limits(**limits),
            permissions,
            **{name: data[name] for name in ("tracer", "workspace", "sandbox") if name in data},
            plugins=tuple(data.get("plugins") or ()),
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
            if value is not None and not (isinstance(value, int | float) and value > 0):
                found.append(f"slots.limits.{f.name}={value!r} must be a positive number")
        if not isinstance(self.limits.steps, int):
            found.append(f"slots.limits.steps={self.limits.steps!r} must be an integer")
        return found


_DEFAULTS = {"tracer": "full", "workspace": "scratch", "sandbox": "auto"}
_PROVIDERS = {"tracer": ("full", "summary"), "workspace": ("scratch",), "sandbox": ("auto",)}


class HarnessConfig:
    """An immutable harness: processors in canonical order, slots, and text assets by path.

    Canonical order is the stable topological sort by ``order`` and ``after``; ties keep the order of
    insertion. Operations live in `harnessx.algebra` and are methods here too.

    Raises:
        HarnessInvalid: at construction, listing every problem (unknown targets or parameters, two
            processors of one group, cyclic ``after``, bad slots).
    """

    __slots__ = ("_digest", "_traits", "assets", "inserted", "processors", "slots")

    processors: tuple[Spec, ...]
    """In canonical order: the order in which they run."""
    inserted: tuple[Spec, ...]
    """The same in order of insertion, which breaks ties; edits keep it."""
    slots: Slots
    assets: Mapping[str, str]

    def __init__(
        self,
        processors: Iterable[Spec | Processor] = (),
        slots: Slots | None = None,
        assets: Mapping[str, str] | None = None,
    ) -> None:
        self.slots = slots or Slots()
        self.assets = MappingProxyType(dict(sorted((assets or {}).items())))
        self._digest = ""
        specs = [spec_of(p) for p in processors]
        problems = self.slots.problems() + _asset_problems(self.assets)
        traits: list[Traits] = []
        for spec in (*specs, *self.slots.tools.add):
            try:
                found = traits_of(spec, self.assets)
            except HarnessInvalid as error:
                problems += error.problems
                continue
            problems += _parameter_problems(spec, found)
            traits.append(found)
        if problems:
            raise HarnessInvalid(problems)
        tools = traits[len(specs) :]
        problems += [f"{t.name} is a processor, not a tool (slots.tools.add)" for t in tools if t.hooks]
        traits = traits[: len(specs)]
        problems += [f"{t.name} declares no hook" for t in traits if not t.hooks]
        problems += _group_problems(traits)
        if problems:
            raise HarnessInvalid(problems)
        ranking = _canonical_order(traits)
        self.inserted = tuple(specs)
        self.processors = tuple(specs[i] for i in ranking)
        self._traits = tuple(traits[i] for i in ranking)

    @property
    def traits(self) -> tuple[Traits, ...]:
        """The traits of each processor, in the same order."""
        return self._traits

    @property
    def has_code(self) -> bool:
        """Whether the harness brings code of its own, which only a worker may run."""
        return any(spec.is_asset for spec in (*self.processors, *self.slots.tools.add))

    @property
    def own_effects(self) -> dict[str, frozenset[Effect]]:
        """What its own tools declare to do, by class name."""
        found = [traits_of(spec, self.assets) for spec in self.slots.tools.add]
        return {traits.name: traits.effects for traits in found}

    def at(self, hook: Hook) -> tuple[Spec, ...]:
        """The processors that serve ``hook``, in order (P of the paper)."""
        return tuple(s for s, t in zip(self.processors, self._traits, strict=True) if hook in t.hooks)

    # The algebra, as methods (see harnessx.algebra for the laws).

    def insert(self, hook: Hook, processor: Processor | Spec) -> HarnessConfig:
        """The harness with ``processor`` added; it must declare ``hook``."""
        from harnessx.algebra import insert

        return insert(self, hook, processor)

    def replace(self, reference: str, processor: Processor | Spec) -> HarnessConfig:
        """The harness with the named processor replaced in its place."""
        from harnessx.algebra import replace

        return replace(self, reference, processor)

    def remove(self, reference: str | Processor | Spec) -> HarnessConfig:
        """The harness without the named processor."""
        from harnessx.algebra import remove

        return remove(self, reference)

    def set_param(self, reference: str, **params: Any) -> HarnessConfig:
        """The harness with parameters of the named processor changed."""
        from harnessx.algebra import set_param

        return set_param(self, reference, **params)

    def set_slot(self, path: str, value: Any) -> HarnessConfig:
        """The harness with one slot value changed, e.g. ``set_slot("limits.steps", 20)``."""
        from harnessx.algebra import set_slot

        return set_slot(self, path, value)

    def __or__(self, other: HarnessConfig) -> HarnessConfig:
        from harnessx.algebra import compose

        return compose(self, other)

    # Canonical form.

    def to_json(self) -> dict[str, Any]:
        """The whole value, assets included, as JSON."""
        return {
            "format": FORMAT,
            "processors": [spec.to_json() for spec in self.processors],
            "slots": self.slots.to_json(),
            "assets": dict(self.assets),
        }

    @classmethod
    def from_json(cls, data: object, assets: Mapping[str, str] | None = None) -> HarnessConfig:
        """Inverse of `to_json`; ``assets`` overrides those in ``data``.

        Raises:
            HarnessInvalid: malformed or not well typed.
        """
        if not isinstance(data, Mapping):
            raise HarnessInvalid("a harness is a mapping with 'processors' and 'slots'")
        _known("harness key", data, ["format", "processors", "slots", "assets"])
        if data.get("format", FORMAT) != FORMAT:
            raise HarnessInvalid(f"harness format {data['format']!r}; this version reads format {FORMAT}")
        processors, slots = data.get("processors") or [], data.get("slots") or {}
        if not isinstance(processors, list) or not isinstance(slots, Mapping):
            raise HarnessInvalid("'processors' is a list and 'slots' a mapping")
        own = data.get("assets") or {}
        assets = own if assets is None else assets
        return cls([Spec.from_json(p) for p in processors], Slots.from_json(slots), assets)

    def to_yaml(self) -> str:
        """Canonical YAML (without assets, which are files of the bundle)."""
        import yaml

        data = {k: v for k, v in self.to_json().items() if k != "assets" and (v or k == "processors")}
        readable = _BREAKS.isdisjoint(canonical_json(data))
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=readable, width=100)

    @classmethod
    def from_yaml(cls, text: str, assets: Mapping[str, str] | None = None) -> HarnessConfig:
        """Inverse of `to_yaml`.

        Raises:
            HarnessInvalid: not YAML, malformed, or not well typed.
        """
        import yaml

        try:
            data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise HarnessInvalid(f"not YAML: {' '.join(str(error).split())}") from error
        return cls.from_json(data, assets or {})

    def save(self, folder: Path | str) -> Path:
        """Write the bundle (``harness.yaml`` and ``assets/``); returns the folder."""
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        for path, text in self.assets.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
        (root / "harness.yaml").write_text(self.to_yaml(), encoding="utf-8")
        return root

    @classmethod
    def load(cls, path: Path | str) -> HarnessConfig:
        """Read a bundle folder or a harness YAML file.

        Raises:
            HarnessInvalid: nothing there, or not a well-typed harness; the message names the file.
        """
        file = Path(path)
        file = file / "harness.yaml" if file.is_dir() else file
        try:
            text = file.read_text(encoding="utf-8")
            assets = {
                p.relative_to(file.parent).as_posix(): p.read_bytes().decode()
                for p in sorted((file.parent / "assets").rglob("*"))
                if p.is_file() and "__pycache__" not in p.parts
            }
        except (OSError, UnicodeDecodeError) as error:
            raise HarnessInvalid(f"{file}: cannot be read as a harness bundle ({error})") from error
        try:
            return cls.from_yaml(text, assets)
        except HarnessInvalid as error:
            raise HarnessInvalid([f"{file}: {problem}" for problem in error.problems]) from error

    @property
    def digest(self) -> str:
        """Behaviour: canonical processors and slots, and assets (code as its syntax tree). 32 hex."""
        if not self._digest:
            body = {k: v for k, v in self.to_json().items() if k != "assets"}
            hashed = {path: _asset_digest(path, text) for path, text in self.assets.items()}
            self._digest = digest_of([body, hashed])
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HarnessConfig) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"HarnessConfig({', '.join(map(repr, self.processors))})"


@functools.lru_cache(maxsize=1024)
def _asset_digest(path: str, text: str) -> str:
    """Code counts as its syntax tree (docstrings kept, positions and comments not); text as bytes."""
    if path.endswith(".py"):
        # unparsable code is itself, and equals nothing that parses
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            text = ast.dump(ast.parse(text))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _known(what: str, data: Mapping[str, Any], valid: list[str]) -> None:
    unknown = sorted(set(data) - set(valid))
    if unknown:
        raise HarnessInvalid(f"unknown {what} {', '.join(map(repr, unknown))}; valid: {', '.join(valid)}")


def _asset_problems(assets: Mapping[str, str]) -> list[str]:
    found = []
    for path, text in assets.items():
        pure = PurePosixPath(path)
        if not path.startswith("assets/") or ".." in pure.parts or pure.as_posix() != path:
            found.append(f"asset path {path!r} must lie under 'assets/'")
        if not isinstance(text, str):
            found.append(f"asset {path!r} must be text")
    return found


def _parameter_problems(spec: Spec, traits: Traits) -> list[str]:
    unknown = sorted(set(spec.params) - set(traits.parameters))
    missing = sorted(set(traits.required) - set(spec.params))
    valid = ", ".join(traits.parameters) or "none"
    return [f"{traits.name}: unknown parameter {p!r}; valid: {valid}" for p in unknown] + [
        f"{traits.name}: parameter {p!r} is required" for p in missing
    ]


def _group_problems(traits: list[Traits]) -> list[str]:
    members: dict[str, list[str]] = {}
    for t in traits:
        if t.group is not None:
            members.setdefault(t.group, []).append(t.name)
    taken = {group: names for group, names in members.items() if len(names) > 1}
    return [f"group {group!r} admits one processor, not {' and '.join(names)}" for group, names in taken.items()]


def _canonical_order(traits: list[Traits]) -> list[int]:
    """Stable topological sort: the first by (order, insertion) whose ``after`` groups are all placed."""
    remaining = sorted(range(len(traits)), key=lambda i: (traits[i].order, i))
    placed: list[int] = []
    while remaining:
        waiting = {traits[i].group for i in remaining}
        ready = next((i for i in remaining if not waiting & (set(traits[i].after) - {traits[i].group})), None)
        if ready is None:
            cycle = ", ".join(traits[i].name for i in remaining)
            raise HarnessInvalid(f"'after' is cyclic among {cycle}")
        placed.append(ready)
        remaining.remove(ready)
    return placed
