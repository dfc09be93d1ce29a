"""A table has aligned columns, and every row fits the terminal on one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.cli.table import Column, table
from pyjama_instrument.cli.terminal import width_of

COLUMNS = [
    Column("AGENT", least=8),
    Column("STATUS", status=True),
    Column("RUNS", right=True, leave_out=2),
    Column("SEEN", right=True, leave_out=1),
    Column("NOW", least=6),
]
ROWS = [["software-versions", "completed", "12", "7 s ago", ""], ["nightly", "failed", "3", "1 d ago", "KeyError: x"]]


def test_columns_are_aligned_by_what_characters_take_on_a_terminal() -> None:
    lines = table([Column("NAME"), Column("N", right=True)], [["日本", "1"], ["e\u0301te", "20"]])
    assert lines == ["NAME   N", "日本   1", "e\u0301te   20"]


def test_a_table_without_rows_is_its_head() -> None:
    assert table([Column("NAME"), Column("N", right=True)], []) == ["NAME  N"]


def test_a_wide_terminal_gets_every_column_uncut() -> None:
    assert (
        table(COLUMNS, ROWS, 80)
        == table(COLUMNS, ROWS)
        == [
            "AGENT              STATUS     RUNS     SEEN  NOW",
            "software-versions  completed    12  7 s ago",
            "nightly            failed        3  1 d ago  KeyError: x",
        ]
    )


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (50, ["AGENT        STATUS     RUNS     SEEN  NOW", "nightly      failed        3  1 d ago  KeyError: x"]),
        (42, ["AGENT     STATUS     RUNS     SEEN  NOW", "nightly   failed        3  1 d ago  KeyEr…"]),
        (41, ["AGENT      STATUS        SEEN  NOW", "nightly    failed     1 d ago  KeyError:…"]),
        (35, ["AGENT        STATUS     NOW", "nightly      failed     KeyError: x"]),
        (20, ["AGENT     STATUS", "nightly   failed"]),
    ],
)
def test_a_narrow_terminal_gets_shorter_cells_and_then_fewer_columns(width: int, lines: list[str]) -> None:
    head, _, last = table(COLUMNS, ROWS, width)
    assert [head, last] == lines


def test_a_status_has_its_colour_and_a_name_like_a_status_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert table(COLUMNS[:2], [["failed", "failed"]])[1] == "failed  \x1b[31mfailed\x1b[0m"


@given(st.lists(st.tuples(*[st.text("ab 日", max_size=30)] * 5).map(list), max_size=5), st.integers(1, 100))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    assert all(width_of(line) <= width for line in table(COLUMNS, rows, width))
