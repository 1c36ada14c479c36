"""HTML and SVG that cannot be injected into: every plain string is escaped, only `Html` is not."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"meta", "br", "hr"})


class Html(str):
    """Text that already is HTML."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: object) -> Html:
    """An element. Plain strings are escaped, None is left out.

    Attribute names lose a trailing underscore and turn others into dashes (``class_``, ``text_anchor``);
    a None or False value leaves the attribute out. Floats are written with one decimal.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """The children one after another, under the same rule."""
    return Html("".join(c if isinstance(c, Html) else escape(c) for c in children if c is not None))


def _value(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
