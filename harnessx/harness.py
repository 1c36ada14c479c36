"""A harness as a value: processors on hooks plus shared slots, C = (P, S) of paper §2.

`HarnessConfig` is immutable, canonical and well typed from the moment it exists; equality and hash
follow its `digest`, which is its behaviour. On disk it is a bundle: ``harness.yaml`` + ``assets/``.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harnessx.canonical import canonical_json, digest_of
from harnessx.errors import HarnessInvalid
from harnessx.hooks import Hook
from harnessx.permissions import Effect
from harnessx.slots import Limits, Slots, ToolRegistry, known, section, writable
from harnessx.spec import Spec, Traits, spec_of, traits_of

if TYPE_CHECKING:
    from harnessx.processor import Processor

__all__ = ["HarnessConfig", "Limits", "Slots", "ToolRegistry"]

FORMAT = 1
_BREAKS = frozenset("\x85\u2028\u2029")
"""Line breaks of Unicode, which PyYAML writes as they are and reads as spaces."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""A name in the path of an asset: a file of that name can be made anywhere."""


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
        self.assets = MappingProxyType(dict(sorted((assets or {}).items(), key=lambda item: str(item[0]))))
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
        """What its own tools declare to do, by class name; its processors and its workspace, if they reach beyond."""
        tools = [traits_of(spec, self.assets) for spec in self.slots.tools.add]
        declared = {traits.name: traits.effects for traits in tools}
        for traits in self._traits:
            if traits.effects:
                declared[traits.name] = traits.effects | declared.get(traits.name, frozenset())
        if self.slots.workspace == "shell":
            declared["shell"] = frozenset({Effect.READ, Effect.WRITE, Effect.EXECUTE})
        return declared

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
        known("harness key", data, ["format", "processors", "slots", "assets"])
        if data.get("format", FORMAT) != FORMAT:
            raise HarnessInvalid(f"harness format {data['format']!r}; this version reads format {FORMAT}")
        processors, slots = data.get("processors") or [], data.get("slots") or {}
        if not isinstance(processors, list) or not isinstance(slots, Mapping):
            raise HarnessInvalid("'processors' is a list and 'slots' a mapping")
        own = section(data, "assets")
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
        except (yaml.YAMLError, ValueError, RecursionError) as error:
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


def _asset_problems(assets: Mapping[str, str]) -> list[str]:
    found = []
    for path, text in assets.items():
        named = isinstance(path, str) and all(map(_PART.fullmatch, path.split("/")))
        if not named or not path.startswith("assets/"):
            found.append(f"asset path {path!r} must lie under 'assets/', and be made of letters, digits, '.', '_', '-'")
        elif any(parent.as_posix() in assets for parent in PurePosixPath(path).parents):
            found.append(f"asset path {path!r} lies below another asset")
        if not isinstance(text, str) or not writable(text):
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
