"""Replacing a passage of a text that is quoted, exactly or but for white space. What is not unique is not replaced."""

from __future__ import annotations

from collections.abc import Sequence

from harnessx.errors import ToolError

SHOWN = 5
"""Places that an error names."""


def replaced(text: str, old: str, new: str, *, fuzzy: bool = False) -> str:
    """``text`` with its one passage ``old`` replaced by ``new``.

    An exact passage counts first. With ``fuzzy``, where there is none, whole lines match that differ in white space
    only; ``new`` then takes the indentation of what it replaces, and the line ends of the text.

    Raises:
        ToolError: there is no such passage, or more than one; says where.
    """
    if not old:
        raise ToolError("the passage to replace is empty; write the whole file instead")
    count = text.count(old)
    if count == 1:
        return text.replace(old, new)
    if count > 1:
        places = _lines_of(text, old)
        raise ToolError(f"the passage occurs {count} times, at lines {_named(places)}; quote more around it")
    if not fuzzy:
        hint = "; with fuzzy=true it would match line for line but for white space" if _matches(text, old) else ""
        raise ToolError(f"the passage is not in the file, character for character{hint}")
    return _replaced_lines(text, old, new)


def _lines_of(text: str, old: str) -> list[int]:
    found, place = [], -1
    while (place := text.find(old, place + 1)) >= 0:
        found.append(text.count("\n", 0, place) + 1)
    return found


def _named(lines: Sequence[int]) -> str:
    more = ", …" if len(lines) > SHOWN else ""
    return ", ".join(map(str, lines[:SHOWN])) + more


def _bare(line: str) -> str:
    """A line without what white space says."""
    return " ".join(line.split())


def _block(text: str) -> list[str]:
    """The lines of a quotation, without empty ones around it."""
    lines = text.splitlines()
    while lines and not lines[0].strip():
        del lines[0]
    while lines and not lines[-1].strip():
        del lines[-1]
    return lines


def _matches(text: str, old: str) -> list[int]:
    """The indices of the lines where ``old`` begins, white space aside."""
    wanted = [_bare(line) for line in _block(old)]
    have = [_bare(line) for line in text.splitlines()]
    if not wanted:
        return []
    last = len(have) - len(wanted)
    return [i for i in range(last + 1) if have[i] == wanted[0] and have[i : i + len(wanted)] == wanted]


def _replaced_lines(text: str, old: str, new: str) -> str:
    places = _matches(text, old)
    if not places:
        raise ToolError("no lines of the file match the passage, white space aside")
    if len(places) > 1:
        where = _named([place + 1 for place in places])
        raise ToolError(f"{len(places)} places match the passage, white space aside, at lines {where}; quote more")
    lines, quoted = text.splitlines(keepends=True), _block(old)
    start, end = places[0], places[0] + len(quoted)
    fresh = _indented(_block(new), _indent(quoted[0]), _indent(lines[start]))
    ending = "\r\n" if lines[start].endswith("\r\n") else "\n"
    closing = lines[end - 1][len(lines[end - 1].rstrip("\r\n")) :]
    block = ending.join(fresh) + closing if fresh else ""
    return "".join((*lines[:start], block, *lines[end:]))


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _indented(lines: Sequence[str], said: str, found: str) -> list[str]:
    """Lines quoted at the indentation ``said``, at the one that was ``found``."""
    return [found + line[len(said) :] if line.strip() and line.startswith(said) else line.rstrip() for line in lines]
