"""How processors name a tool call: to compare it, and to speak of it to a model.

Also the two small things every guard over calls needs: matchers for result texts, and a clip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from harnessx.canonical import canonical_json

Signature: TypeAlias = tuple[str, str]

FAILURES = (
    "nothing happens",
    "error:",
    "traceback (most recent call last)",
    "command not found",
    "no such file or directory",
)
"""Texts in a result that mean failure in many environments, whatever ``is_error`` says."""

_COMMAND_KEYS = frozenset({"command", "cmd", "action", "code", "input"})


def signature(name: str, arguments: Mapping[str, Any]) -> Signature:
    """Equal exactly when tool and arguments are equal; hashable."""
    return name, canonical_json(dict(arguments))


def spoken(name: str, arguments: Mapping[str, Any], limit: int = 200) -> str:
    """The call in plain words: ``go to cabinet 1``, ``search red shoes``, ``move x=1, y=2``.

    A sole argument that is itself a command stands alone; else the tool's name comes first.
    """
    values = [(key, value if isinstance(value, str) else canonical_json(value)) for key, value in arguments.items()]
    if len(values) == 1:
        key, value = values[0]
        text = value if key in _COMMAND_KEYS else f"{name} {value}"
    else:
        text = " ".join((name, ", ".join(f"{key}={value}" for key, value in values))).rstrip()
    return one_line(text, limit)


def one_line(text: str, limit: int) -> str:
    """``text`` with whitespace runs as single spaces, at most ``limit`` characters, ``…`` where cut."""
    flat = " ".join(text[: 4 * limit].split())
    return flat if len(flat) <= limit and len(text) <= 4 * limit else flat[: limit - 1] + "…"


def contains(text: str, phrases: Sequence[str]) -> bool:
    """Whether ``text`` says any of ``phrases``, which are lower case; its own case does not matter."""
    lowered = text.lower()
    return any(map(lowered.__contains__, phrases))


def any_of(patterns: Sequence[str], flags: int = 0) -> re.Pattern[str]:
    """One regular expression that finds what any of ``patterns`` finds; none finds nothing.

    Raises:
        ValueError: a pattern is not a regular expression (flags are written ``(?i:…)``).
    """
    try:
        return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)", flags)
    except re.error as error:
        raise ValueError(f"not regular expressions: {list(patterns)} ({error})") from error
