"""Text for a terminal is printable, on one line, and aligned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.cli._terminal import problem, safe, table


@given(st.text())
def test_safe_text_is_printable_whatever_it_was(text: str) -> None:
    assert safe(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=200))
def test_printable_text_is_left_as_it_is(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize(
    ("character", "shown"), [("\x1b", "\\x1b"), ("\n", "\\n"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e")]
)
def test_an_unprintable_character_is_shown_escaped(character: str, shown: str) -> None:
    assert safe(f"a{character}b") == f"a{shown}b"


def test_long_text_is_cut_with_a_mark() -> None:
    assert safe("x" * 1000, 10) == "x" * 9 + "…"


def test_an_error_without_a_type_is_its_message_alone() -> None:
    assert problem("", "exit code 3") == "exit code 3"


def test_the_type_of_an_error_is_shown_without_its_module() -> None:
    assert problem("json.decoder.JSONDecodeError", "bad") == "JSONDecodeError: bad"


def test_columns_are_aligned_by_what_characters_take_on_a_terminal() -> None:
    lines = table(["NAME", "N"], [["日本", "1"], ["e\u0301te", "20"]], right=frozenset({1}))
    assert lines == ["NAME   N", "日本   1", "e\u0301te   20"]
