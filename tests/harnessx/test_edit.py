"""Replacing a quoted passage: exactly, and but for white space."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harnessx.errors import ToolError
from harnessx.tools.edit import replaced

CODE = "class A:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 2\n"
LINES = st.lists(st.text("abc ()=", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=8)


def test_one_exact_passage_is_replaced() -> None:
    assert replaced(CODE, "return 1", "return 3") == CODE.replace("return 1", "return 3")


@pytest.mark.parametrize("fuzzy", [False, True])
def test_a_passage_that_occurs_twice_is_not_replaced_and_the_places_are_named(fuzzy) -> None:
    with pytest.raises(ToolError, match="occurs 2 times, at lines 3, 6"):
        replaced(CODE, "        return", "yield", fuzzy=fuzzy)


def test_a_passage_that_is_not_there_is_an_error_that_says_what_would_help() -> None:
    with pytest.raises(ToolError, match=r"character for character; with fuzzy=true"):
        replaced(CODE, "def f(self):\n    return 1", "x")
    with pytest.raises(ToolError, match=r"character for character$"):
        replaced(CODE, "def h(self):", "x")
    with pytest.raises(ToolError, match="no lines of the file match"):
        replaced(CODE, "def h(self):", "x", fuzzy=True)
    with pytest.raises(ToolError, match="empty"):
        replaced(CODE, "", "x")


def test_a_fuzzy_passage_takes_the_indentation_of_what_it_replaces() -> None:
    fresh = replaced(CODE, "def  f(self):\n    return 1 ", "def  f(self):\n    return 7", fuzzy=True)
    assert fresh == CODE.replace("def f", "def  f").replace("return 1", "return 7")


def test_a_fuzzy_passage_that_fits_two_places_is_not_replaced() -> None:
    with pytest.raises(ToolError, match=r"2 places match .* at lines 1, 3"):
        replaced("a  b\nc\na b\n", "a\tb", "x", fuzzy=True)


def test_line_ends_stay_as_they_were() -> None:
    assert replaced("a\r\n  b\r\nc\r\n", "a\nb", "x\ny", fuzzy=True) == "x\r\ny\r\nc\r\n"
    assert replaced("a\n  b", "a \nb", "x", fuzzy=True) == "x"


@given(LINES, st.integers(0, 7), st.text("xyz", min_size=1, max_size=5), st.integers(0, 3))
def test_a_line_quoted_with_other_white_space_is_the_line_that_changes(lines, index, new, indent) -> None:
    """The law: only the line that was meant changes, and it keeps its indentation."""
    index %= len(lines)
    bare = [" ".join(line.split()) for line in lines]
    assume(bare.count(bare[index]) == 1)
    lines = [" " * (4 * indent) + line.strip() for line in lines]
    quoted = "  " + bare[index].replace(" ", "\t") + " "
    text = "\n".join(lines) + "\n"
    assume(quoted not in text)
    expected = [*lines]
    expected[index] = " " * (4 * indent) + new
    assert replaced(text, quoted, f"  {new}", fuzzy=True) == "\n".join(expected) + "\n"


@given(st.text(max_size=40), st.text(min_size=1, max_size=5), st.text(max_size=5))
def test_an_exact_edit_changes_one_place_or_nothing(text, old, new) -> None:
    if text.count(old) == 1:
        assert replaced(text, old, new) == text.replace(old, new)
    else:
        with pytest.raises(ToolError):
            replaced(text, old, new)
