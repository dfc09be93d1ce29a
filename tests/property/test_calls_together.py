"""Ordinary calls are folded together; the totals are those of folding each line by itself."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.fold.document import new_document
from pyjama_instrument.fold.fold import Fold
from pyjama_instrument.storage.decoding import CallDecoder, decode_lines
from pyjama_instrument.storage.encoding import encode
from tests.stores import Record, a_call, call_begins, session_begins, session_ends

SESSIONS = ("a" * 32, "b" * 32)
SPANS = [f"{number:016x}" for number in range(4)]
TOOLS = ("read", 'wri"te', "töl", '\\"parent":"', "__other__")

_tools, _sessions, _spans = st.sampled_from(TOOLS), st.sampled_from(SESSIONS), st.sampled_from(SPANS)
_times = st.integers(1_700_000_000_000_000, 1_700_000_003_000_000) | st.integers(0, 10**18)
_durations = st.integers(0, 10**19)
_calls = st.builds(
    lambda tool, session, span, ts, duration_ns, more: (
        a_call(tool, session, ts=ts) | {"span": span, "duration_ns": duration_ns} | more
    ),
    _tools, _sessions, _spans, _times, _durations,
    st.just({}) | st.sampled_from([{"status": "error"}, {"items": 3}, {"parent": "not an id"}, {"ts": "no time"}]),
)  # fmt: skip
_others = st.one_of(
    st.builds(lambda tool, session, span: call_begins(tool, session) | {"span": span}, _tools, _sessions, _spans),
    st.builds(session_begins, _sessions),
    st.builds(session_ends, _sessions),
)
_damaged = st.sampled_from([b"", b"{", b"\0", b"\xff\xfe", b'{"kind":"tool.ended"}', b"[]", b"7"])
_lines = st.lists((_calls | _calls | _others).map(lambda record: encode(record).rstrip(b"\n")) | _damaged, max_size=40)


@given(_lines, st.integers(1, 40))
def test_calls_folded_together_give_the_totals_of_calls_folded_one_by_one(lines: list[bytes], portion: int) -> None:
    assert together(lines, portion) == one_by_one(lines)


def test_a_head_that_is_not_spelt_as_ours_is_read_by_the_general_parser() -> None:
    line = encode(a_call("read")).replace(b'"agent":', b'"agent": ').rstrip(b"\n")
    items, damaged = CallDecoder()([line])
    assert (items, damaged) == ([json.loads(line)], 0)


def test_calls_are_held_back_until_something_else_comes() -> None:
    calls = [a_call("read", ts=1), a_call("write", ts=2), a_call("read", ts=3)]
    decode = CallDecoder()
    assert decode(bare(calls)) == ([], 0)
    begun = call_begins("read")
    first, second, third = decode(bare([begun]))[0]
    assert (first.tool, first.times_us, second.tool, second.times_us) == ("read", [1, 3], "write", [2])
    assert third == begun
    assert decode.take_pending() == []


def together(lines: list[bytes], portion: int) -> Any:
    fold, decode, torn = Fold(new_document()), CallDecoder(), 0
    for start in range(0, len(lines), portion):
        items, damaged = decode(lines[start : start + portion])
        fold.add("0" * 16, items)
        torn += damaged
    fold.add("0" * 16, decode.take_pending())
    return finished(fold, torn)


def one_by_one(lines: list[bytes]) -> Any:
    fold, torn = Fold(new_document()), 0
    for line in lines:
        records, damaged = decode_lines([line])
        fold.add("0" * 16, records)
        torn += damaged
    return finished(fold, torn)


def finished(fold: Fold, torn: int) -> Any:
    fold.count_damaged(torn)
    fold.finish()
    document = json.loads(json.dumps(fold.document), object_hook=rounded)
    document["recent-logs"].sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return document


def rounded(entry: Record) -> Record:
    if "total-duration" in entry:
        entry["total-duration"] = f"{entry['total-duration']:.6e}"
    return entry


def bare(records: list[Record]) -> list[bytes]:
    return [encode(record).rstrip(b"\n") for record in records]
