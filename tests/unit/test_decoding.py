"""Reading journal lines: what is damaged is counted and takes nothing else with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.events import to_json
from pyjama_instrument.storage.decoding import CallDecoder, decode_lines
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.testing import events


@given(st.lists(events(), max_size=5))
def test_many_lines_are_decoded_as_one_by_one(some: list[Any]) -> None:
    lines = [encode(json.loads(to_json(event))).rstrip(b"\n") for event in some]
    assert decode_lines(lines) == ([json.loads(line) for line in lines], 0)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"\x00\x00\x00", "holes left by a power failure"),
        (b'{"kind": "tool.ended", "tool": "a\x00b"}', "a hole inside a record"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"kind": "tool.en', "cut off"),
        (b'en", "ts": 1}', "the rest of a line"),
        (b'{"kind": "activity", "x": NaN}', "a constant that is not JSON"),
        (b'{"kind": "activity", "x": -Infinity}', "a constant that is not JSON"),
        (b"[1, 2]", "not an object"),
        (b"42", "not an object"),
        (b'"text"', "not an object"),
        (b'{"a": 1}{"b": 2}', "two records in a line"),
        (b'{"a": 1},{"b": 2}', "two records in a line, with a comma"),
        (b"[" * 100_000, "nested deeper than the stack"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "an object nested deeper than the stack"),
        (b'{"ts": ' + b"9" * 5000 + b"}", "a number beyond the parser's limit"),
        (b"   ", "only white space"),
        (b"],[", "brackets that would close the batch"),
    ],
)
def test_a_damaged_line_is_counted_and_takes_no_other_with_it(damage: bytes, why: str) -> None:
    before, after = {"kind": "activity", "n": 1}, {"kind": "activity", "n": 2}
    lines = [encode(before).strip(), damage, encode(after).strip()]
    assert decode_lines(lines) == ([before, after], 1), why


def test_empty_lines_are_neither_records_nor_damage() -> None:
    assert decode_lines([b"", b'{"a":1}', b"", b""]) == ([{"a": 1}], 0)


def test_no_lines_are_no_items() -> None:
    assert CallDecoder()([]) == ([], 0)
