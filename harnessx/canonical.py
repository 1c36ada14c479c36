"""JSON as text: canonical where it is hashed, as one line where it is sent or written down."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import orjson

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None


def json_encoder(*, sort_keys: bool = False) -> Callable[[object], str]:
    """``json.dumps`` without spaces, unicode kept; its C encoder is made once, not for every value."""
    plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys, check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    text = json.encoder.encode_basestring
    chunks = make(None, plain.default, text, None, ":", ",", sort_keys, False, True)
    return lambda value: "".join(chunks(value, 0))


_encode = json_encoder(sort_keys=True)
_plain = json_encoder()
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def json_line(value: object) -> bytes:
    """``value`` as one line of JSON in UTF-8: for what is sent and written down, never for what is hashed.

    NaN and the infinities, which JSON does not know (RFC 8259, 6), become null; a UUID becomes text.

    Raises:
        TypeError: not a JSON value.
        ValueError: text that no encoding can hold.
    """
    try:
        return orjson.dumps(value, option=_STRICT)
    except TypeError:  # also integers beyond 64 bits, keys that are numbers, half a surrogate pair
        return _plain(_finite(value)).encode()


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def canonical_json(value: object) -> str:
    """One string per JSON value: sorted keys, no spaces, unicode kept.

    Raises:
        TypeError: not a JSON value.
        ValueError: nested too deeply, or in itself.
    """
    try:
        return _encode(value)
    except RecursionError as error:
        raise ValueError("nested too deeply, or in itself") from error


def digest_of(value: object) -> str:
    """128-bit BLAKE2b (RFC 7693) of the canonical JSON of ``value``, in hex."""
    return hashlib.blake2b(_encode(value).encode(), digest_size=16).hexdigest()
