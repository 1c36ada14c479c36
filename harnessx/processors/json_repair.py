"""JSON objects as models write them: with fences, single quotes, stray commas, ends cut off."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from harnessx.canonical import canonical_json

_OPEN = {"{": "}", "[": "]"}
_LONE_PAIR = re.compile(r"""\{\s*["']?(\w+)["']?\s*:\s*["']?([^"'{}\[\],:]+?)["']?\s*\}?\s*$""")
_TRAILING_COMMA = re.compile(r",\s*([}\]])")


def find_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in ``text``, repaired where that is unambiguous; None where there is none.

    Repairs, in this order: text around the object (code fences, prose) is dropped; unclosed strings,
    brackets and braces are closed; trailing commas go; Python literals (single quotes, ``True``,
    ``None``) are read as such; a single key with unquoted text is read as that text.
    """
    start = text.find("{")
    if start < 0:
        return None
    body = _balanced(text[start:])
    plain = _TRAILING_COMMA.sub(r"\1", body)
    for candidate in (body, plain):
        try:
            value = json.loads(candidate, strict=False)
        except ValueError:
            continue
        return value if isinstance(value, dict) else None
    try:
        value = ast.literal_eval(plain)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        lone = _LONE_PAIR.match(plain)
        return {lone[1]: lone[2]} if lone else None
    return json.loads(canonical_json(value)) if isinstance(value, dict) and _is_json(value) else None


def _is_json(value: object) -> bool:
    match value:
        case dict():
            return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
        case list() | tuple():
            return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float)


def _balanced(text: str) -> str:
    """``text`` up to where its first bracket closes, or with what is missing for that at the end."""
    closers: list[str] = []
    quote = ""
    escaped = False
    for index, char in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char == '"' or (char == "'" and _opens_string(text, index)):
            quote = char
        elif char in _OPEN:
            closers.append(_OPEN[char])
        elif closers and char == closers[-1]:
            closers.pop()
            if not closers:
                return text[: index + 1]
    return text.rstrip().rstrip("`").rstrip() + quote + "".join(reversed(closers))


def _opens_string(text: str, index: int) -> bool:
    """Whether a single quote stands where a JSON value or key begins."""
    return text[:index].rstrip()[-1:] in ("{", "[", ",", ":")
