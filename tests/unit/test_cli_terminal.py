"""Text for a terminal is printable, on one line, and aligned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.cli.terminal import cut, fit, style, width_of, wrap
from pyjama_instrument.presentation.formatting import join_names, printable, problem


@given(st.text())
def test_text_from_the_store_is_printable_whatever_it_was(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=200))
def test_printable_text_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("character", "shown"), [("\x1b", "\\x1b"), ("\n", "\\n"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e")]
)
def test_an_unprintable_character_is_shown_escaped(character: str, shown: str) -> None:
    assert printable(f"a{character}b") == f"a{shown}b"


def test_long_text_is_cut_with_a_mark() -> None:
    assert printable("x" * 1000, 10) == "x" * 9 + "…"


def test_an_error_without_a_type_is_its_message_alone() -> None:
    assert problem("", "exit code 3") == "exit code 3"


def test_the_type_of_an_error_is_shown_without_its_module() -> None:
    assert problem("json.decoder.JSONDecodeError", "bad") == "JSONDecodeError: bad"


@pytest.mark.parametrize(
    ("settings", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": ""}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
    ids=str,
)
def test_colour_in_a_pipe_is_switched_on_by_force_color_and_off_by_no_color(
    settings: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert style("failed", "failed") == ("\x1b[31mfailed\x1b[0m" if coloured else "failed")


def test_a_line_is_cut_to_columns_and_its_colour_ends() -> None:
    assert fit("\x1b[31mfailed\x1b[0m now", 4) == "\x1b[31mfail\x1b[0m"
    assert fit("日本語", 5) == "日本"
    assert fit("short", 10) == "short"


def test_a_cell_that_is_cut_ends_with_a_mark() -> None:
    assert cut("researcher", 10) == "researcher"
    assert cut("researcher", 9) == "research…"
    assert cut("日本語", 5) == "日本…"


def test_text_is_wrapped_at_spaces_and_a_long_word_stays_whole() -> None:
    assert wrap("Runs   3: 1 failed, 2 completed", 20, " " * 7) == ["Runs   3: 1 failed,", "       2 completed"]
    assert wrap("Store  /a/long/path/to/the/store", 20, " " * 7) == ["Store  /a/long/path/to/the/store"]
    assert wrap("any width", None) == ["any width"]


@given(st.text(st.sampled_from("ab 日\u0301")), st.integers(1, 30))
def test_wrapping_loses_no_word_and_no_line_that_could_be_broken_is_too_wide(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert " ".join(lines).split() == text.split()
    assert all(width_of(line) <= width or " " not in line.strip() for line in lines)


def test_names_are_joined_up_to_a_limit() -> None:
    assert join_names([], 2) == ""
    assert join_names(["a", "b"], 2) == "a and b"
    assert join_names(["a", "b", "c", "d"], 2) == "a, b and 2 more"
