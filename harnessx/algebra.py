"""Edits of harnesses: typed, serializable, and closed over well-typed harnesses (paper §2).

Laws, each a property test:

* ``remove(insert(h, p), p) == h``
* ``replace`` is idempotent and keeps the place of what it replaces
* ``diff(a, b).apply(a) == b``; ``Edit.from_json(e.to_json()) == e``
* ``a | a == a``; ``a | b`` raises one error that lists every conflict
* every result is canonical and well typed, or the operation raises `HarnessInvalid`

An `Edit` is atomic: it is applied to a draft and checked once, as a whole, at the end.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from harnessx.canonical import canonical_json
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.hooks import Hook
from harnessx.spec import Spec, spec_of, traits_of

if TYPE_CHECKING:
    from harnessx.processor import Processor


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a processor; ``index`` is its place among the inserted (None: last)."""

    processor: Spec
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Replace:
    """Put ``processor`` in the place of the named one."""

    reference: str
    processor: Spec


@dataclass(frozen=True, slots=True)
class Remove:
    """Take the named processor out."""

    reference: str


@dataclass(frozen=True, slots=True)
class SetParam:
    """Change one parameter of the named processor."""

    reference: str
    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class SetSlot:
    """Change one slot value; ``path`` is dotted. None takes it back to its default (a limit: unlimited)."""

    path: str
    value: Any


@dataclass(frozen=True, slots=True)
class SetAsset:
    """Write a text asset (None: delete it)."""

    path: str
    text: str | None


Operation: TypeAlias = Insert | Replace | Remove | SetParam | SetSlot | SetAsset
_OPERATIONS = {"insert": Insert, "replace": Replace, "remove": Remove, "set_param": SetParam,
               "set_slot": SetSlot, "set_asset": SetAsset}  # fmt: skip
_NAMES = {cls: name for name, cls in _OPERATIONS.items()}


@dataclass(frozen=True, slots=True)
class Edit:
    """A list of operations that is applied as one (e: H -> H of the paper)."""

    operations: tuple[Operation, ...] = ()

    def apply(self, harness: HarnessConfig) -> HarnessConfig:
        """The edited harness.

        Raises:
            HarnessInvalid: an operation names what is not there, or the result is not well typed.
        """
        draft = _Draft(harness)
        for operation in self.operations:
            draft.apply(operation)
        return draft.finish()

    def to_json(self) -> list[dict[str, Any]]:
        """One object per operation, named by ``op``."""
        rows = []
        for operation in self.operations:
            row: dict[str, Any] = {"op": _NAMES[type(operation)]}
            for name in operation.__dataclass_fields__:
                value = getattr(operation, name)
                row[name] = value.to_json() if isinstance(value, Spec) else value
            rows.append(row)
        return rows

    @classmethod
    def from_json(cls, data: object) -> Edit:
        """Inverse of `to_json`.

        Raises:
            HarnessInvalid: not a list of known operations with their fields.
        """
        if not isinstance(data, Sequence) or isinstance(data, str):
            raise HarnessInvalid(f"an edit is a list of operations, not {type(data).__name__}")
        operations: list[Operation] = []
        for row in data:
            kind = _OPERATIONS.get(str(row.get("op"))) if isinstance(row, Mapping) else None
            if kind is None:
                raise HarnessInvalid(f"unknown operation {row!r}; valid op: {', '.join(_OPERATIONS)}")
            fields = {k: v for k, v in row.items() if k != "op"}
            if "processor" in fields:
                fields["processor"] = Spec.from_json(fields["processor"])
            try:
                operation = kind(**fields)
            except TypeError as error:
                raise HarnessInvalid(f"operation {row['op']!r}: {error}") from error
            for name in ("reference", "name", "path"):
                if not isinstance(getattr(operation, name, ""), str):
                    raise HarnessInvalid(f"operation {row['op']!r}: {name} must be text")
            if not isinstance(getattr(operation, "text", None), str | None):
                raise HarnessInvalid(f"operation {row['op']!r}: text must be text, or null to delete")
            if type(getattr(operation, "index", None)) not in (int, type(None)):
                raise HarnessInvalid(f"operation {row['op']!r}: index must be a whole number or null")
            operations.append(operation)
        return cls(tuple(operations))

    def __len__(self) -> int:
        return len(self.operations)


class _Draft:
    """A harness under edit: unchecked until `finish`."""

    def __init__(self, harness: HarnessConfig) -> None:
        self.specs = list(harness.inserted)
        self.slots = harness.slots
        self.assets = dict(harness.assets)

    def apply(self, operation: Operation) -> None:
        match operation:
            case Insert(processor, index):
                self.specs.insert(len(self.specs) if index is None else index, processor)
            case Replace(reference, processor):
                self.specs[self.find(reference)] = processor
            case Remove(reference):
                del self.specs[self.find(reference)]
            case SetParam(reference, name, value):
                place = self.find(reference)
                spec = self.specs[place]
                self.specs[place] = Spec(spec.target, {**spec.params, name: value})
            case SetSlot(path, value):
                self.slots = _with_slot(self.slots, path, value)
            case SetAsset(path, None):
                if self.assets.pop(path, None) is None:
                    raise HarnessInvalid(f"no asset {path!r} to delete; there are: {sorted(self.assets)}")
            case SetAsset(path, str(text)):
                self.assets[path] = text

    def finish(self) -> HarnessConfig:
        return HarnessConfig(self.specs, self.slots, self.assets)

    def hits(self, name: str) -> list[int]:
        return [i for i, spec in enumerate(self.specs) if name in self._names(spec)]

    def _names(self, spec: Spec) -> tuple[str | None, ...]:
        return (traits_of(spec, self.assets).group, spec.name, spec.target)

    def find(self, reference: str) -> int:
        """The place of the processor that ``reference`` names: a group, a class name, a target.

        ``Name#2`` is the second of that name.
        """
        name, _, nth = reference.partition("#")
        hits = self.hits(name)
        if nth.isdigit() and 0 < int(nth) <= len(hits):
            return hits[int(nth) - 1]
        if len(hits) == 1 and not nth:
            return hits[0]
        if hits:
            raise HarnessInvalid(f"{len(hits)} processors are named {name!r}; write {name}#1 … #{len(hits)}")
        names = ", ".join(self._names(spec)[0] or spec.name for spec in self.specs) or "none"
        raise HarnessInvalid(f"no processor is named {reference!r}; there are: {names}")

    def reference(self, place: int) -> str:
        """A name that `find` takes back to ``place``."""
        name = self.specs[place].name
        hits = self.hits(name)
        return name if len(hits) == 1 else f"{name}#{hits.index(place) + 1}"


def insert(harness: HarnessConfig, hook: Hook, processor: Processor | Spec) -> HarnessConfig:
    """Add ``processor``, which must declare ``hook``; it then serves every hook it declares.

    Raises:
        HarnessInvalid: it does not declare the hook, or its group is taken.
    """
    spec = spec_of(processor)
    hooks = traits_of(spec, harness.assets).hooks
    if hook not in hooks:
        raise HarnessInvalid(f"{spec.name} does not serve {hook}; it serves: {', '.join(hooks) or 'no hook'}")
    return Edit((Insert(spec),)).apply(harness)


def replace(harness: HarnessConfig, reference: str, processor: Processor | Spec) -> HarnessConfig:
    """Put ``processor`` where the named one is; the place is kept."""
    return Edit((Replace(reference, spec_of(processor)),)).apply(harness)


def remove(harness: HarnessConfig, reference: str | Processor | Spec) -> HarnessConfig:
    """Take out the named processor, or the last one equal to the given one."""
    if isinstance(reference, str):
        return Edit((Remove(reference),)).apply(harness)
    spec = spec_of(reference)
    draft = _Draft(harness)
    places = [i for i, present in enumerate(draft.specs) if present == spec]
    if not places:
        raise HarnessInvalid(f"the harness has no {spec!r}")
    return Edit((Remove(draft.reference(places[-1])),)).apply(harness)


def set_param(harness: HarnessConfig, reference: str, **params: Any) -> HarnessConfig:
    """Change parameters of the named processor."""
    return Edit(tuple(SetParam(reference, name, value) for name, value in params.items())).apply(harness)


def set_slot(harness: HarnessConfig, path: str, value: Any) -> HarnessConfig:
    """Change one slot value."""
    return Edit((SetSlot(path, value),)).apply(harness)


def set_asset(harness: HarnessConfig, path: str, text: str | None) -> HarnessConfig:
    """Write or delete one asset."""
    return Edit((SetAsset(path, text),)).apply(harness)


def compose(left: HarnessConfig, right: HarnessConfig) -> HarnessConfig:
    """Both harnesses in one: ``left``'s processors, then those of ``right`` that it lacks.

    Raises:
        HarnessInvalid: one error with every conflict: groups, slots or assets on which they differ.
    """
    conflicts: list[str] = []
    groups = {t.group: s for s, t in zip(left.processors, left.traits, strict=True) if t.group}
    for spec, traits in zip(right.processors, right.traits, strict=True):
        other = groups.get(traits.group) if traits.group else None
        if other is not None and other != spec:
            conflicts.append(f"group {traits.group!r}: {other!r} and {spec!r}")
    mine, theirs = _leaves(left.slots), _leaves(right.slots)
    slots = left.slots
    for path, value in theirs.items():
        if path in mine and mine[path] != value:
            conflicts.append(f"slot {path}: {mine[path]!r} and {value!r}")
        else:
            slots = _with_slot(slots, path, value)
    for path in sorted(left.assets.keys() & right.assets.keys()):
        if left.assets[path] != right.assets[path]:
            conflicts.append(f"asset {path} differs")
    if conflicts:
        raise HarnessInvalid([f"cannot compose: {conflict}" for conflict in conflicts])
    added = [spec for spec in right.inserted if spec not in left.inserted]
    return HarnessConfig([*left.inserted, *added], slots, {**left.assets, **right.assets})


def diff(before: HarnessConfig, after: HarnessConfig) -> Edit:
    """The edit that turns ``before`` into ``after``, in the smallest terms that name a change."""
    operations: list[Operation] = []
    draft = _Draft(before)

    def emit(operation: Operation) -> None:
        draft.apply(operation)
        operations.append(operation)

    for path, text in after.assets.items():
        if before.assets.get(path) != text:
            emit(SetAsset(path, text))
    shift = 0
    matcher = difflib.SequenceMatcher(None, before.inserted, after.inserted, autojunk=False)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        paired = min(i_end - i, j_end - j)
        for k in range(paired):
            for operation in _substitute(draft, i + shift + k, after.inserted[j + k]):
                emit(operation)
        for _ in range(i + paired, i_end):
            emit(Remove(draft.reference(i + shift + paired)))
        for k in range(j + paired, j_end):
            emit(Insert(after.inserted[k], i + shift + k - j))
        shift += (j_end - j) - (i_end - i)
    mine, theirs = _leaves(before.slots), _leaves(after.slots)
    for path in sorted(mine.keys() | theirs.keys()):
        if mine.get(path, ...) != theirs.get(path, ...):
            emit(SetSlot(path, theirs[path] if path in theirs else _default(path)))
    for path in before.assets:
        if path not in after.assets:
            emit(SetAsset(path, None))
    return Edit(tuple(operations))


def _substitute(draft: _Draft, place: int, new: Spec) -> list[Operation]:
    old, reference = draft.specs[place], draft.reference(place)
    if old.target == new.target and not set(old.params) - set(new.params):
        changed = [k for k, v in new.params.items() if k not in old.params or
                   canonical_json(old.params[k]) != canonical_json(v)]  # fmt: skip
        return [SetParam(reference, name, new.params[name]) for name in changed]
    return [Replace(reference, new)]


def _leaves(slots: Slots) -> dict[str, Any]:
    """The slot values that differ from the default, by path."""
    leaves: dict[str, Any] = {}
    for name, value in slots.to_json().items():
        if name in ("tools", "limits", "permissions"):
            leaves.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            leaves[name] = value
    return leaves


def _default(path: str) -> Any:
    head, _, name = path.partition(".")
    return Limits.__dataclass_fields__[name].default if head == "limits" else None


def _with_slot(slots: Slots, path: str, value: Any) -> Slots:
    data = slots.to_json()
    keys = path.split(".", 2)
    node = data
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise HarnessInvalid(f"no slot {path!r}: {key} holds a value")
    if value is None and keys[0] != "limits":
        node.pop(keys[-1], None)
    else:
        node[keys[-1]] = value
    return Slots.from_json(data)
