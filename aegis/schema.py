"""JSON with a schema: frozen values that round-trip, and refuse what they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from harnessx.errors import UserError

T = TypeVar("T")

LATER = {"later": True}
"""Metadata of a field that came after the first release of its schema: a record without it has the default."""


class RecordInvalid(UserError):
    """JSON that is not the record it should be; the message names the field."""


class Record:
    """Base of the top-level records: JSON with a schema version."""

    schema: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, ``schema`` first.

        Raises:
            ValueError: a number is not finite; an unscored metric is None.
        """
        return {"schema": self.schema, **_encode(self, type(self).__name__)}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Inverse of `to_json`.

        Raises:
            RecordInvalid: a field is missing, unknown or of another type, or the schema differs.
        """
        if not isinstance(data, Mapping):
            raise RecordInvalid(f"{cls.__name__}: expected an object, got {_brief(data)}")
        if data.get("schema") != cls.schema:
            raise RecordInvalid(
                f"{cls.__name__}: schema {data.get('schema')!r}, this version reads {cls.schema}; "
                "use the version that wrote the run"
            )
        body = {key: value for key, value in data.items() if key != "schema"}
        return _decode_dataclass(cls, body, cls.__name__)


def _encode(value: object, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; an unscored metric is None")
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _encode(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return value.value if isinstance(value, StrEnum) else value


def _decode(kind: Any, data: object, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = [arg for arg in args if arg is not NoneType]
        # Several alternatives are `JSON` itself, which is kept as it came.
        return data if data is None or len(inner) > 1 else _decode(inner[0], data, where)
    if origin is tuple and isinstance(data, list):
        return tuple(_decode(args[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {key: _decode(args[1], item, f"{where}.{key}") for key, item in data.items()}
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(data, dict):
        return _decode_dataclass(kind, data, where)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if isinstance(kind, type) and issubclass(kind, StrEnum) and data in list(kind):
        return kind(str(data))
    if kind in (str, int, bool) and type(data) is kind:
        return data
    raise RecordInvalid(f"{where}: expected {getattr(kind, '__name__', kind)}, got {_brief(data)}")


def _decode_dataclass(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    later = {f.name for f in fields(kind) if f.metadata.get("later")}  # type: ignore[arg-type]
    wrong = [f"no {name}" for name in names if name not in data and name not in later]
    wrong += [f"unknown {name}" for name in data if name not in names]
    if wrong:
        raise RecordInvalid(f"{where}: {', '.join(wrong)}; fields are {', '.join(names)}")
    return kind(**{name: _decode(hints[name], data[name], f"{where}.{name}") for name in names if name in data})


def _brief(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."
