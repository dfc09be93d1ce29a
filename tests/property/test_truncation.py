"""Any truncation of a journal gives a prefix of its events, and whatever the bytes are, reading ends."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.events import to_json
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.storage.layout import SegmentName
from pyjama_instrument.storage.liveness import hold
from pyjama_instrument.storage.position import Position
from pyjama_instrument.storage.segment_reader import read_segment
from pyjama_instrument.testing import events

NAME = SegmentName("00ff00ff00ff00ff", 1)
RECORDS = st.lists(events().map(lambda event: json.loads(to_json(event))), max_size=8)


def read(data: bytes, position: Position | None = None) -> tuple[list[Any], Position]:
    """What a dead writer's journal with these bytes gives."""
    records: list[Any] = []
    position = position or Position()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, NAME.filename).write_bytes(data)
        fd = os.open(directory, os.O_RDONLY)
        try:
            read_segment(fd, NAME, position, records.extend)
        finally:
            os.close(fd)
    return records, position


@given(RECORDS, st.data())
def test_a_truncated_journal_gives_a_prefix_and_at_most_one_torn_record(
    records: list[dict[str, Any]], data: st.DataObject
) -> None:
    whole = b"".join(map(encode, records))
    cut = data.draw(st.integers(0, len(whole)))
    found, position = read(whole[:cut])
    assert found == records[: whole[:cut].count(b"\n")]
    assert position.torn == (whole[:cut][-1:] not in (b"", b"\n"))
    assert position.offset == cut


@given(RECORDS, st.lists(st.integers(0, 4000), max_size=6))
def test_a_journal_that_grows_in_any_portions_gives_each_event_once(
    records: list[dict[str, Any]], cuts: list[int]
) -> None:
    whole = b"".join(map(encode, records))
    found: list[Any] = []
    position = Position()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, NAME.filename)
        path.touch()
        writer = os.open(path, os.O_WRONLY | os.O_APPEND)
        fd = os.open(directory, os.O_RDONLY)
        try:
            hold(writer)
            for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
                os.write(writer, whole[start:end])
                read_segment(fd, NAME, position, found.extend)
        finally:
            os.close(writer)
            os.close(fd)
    assert found == records
    assert position == Position(offset=len(whole))


@given(st.binary(max_size=2000))
def test_reading_any_bytes_ends_at_their_end(data: bytes) -> None:
    found, position = read(data)
    assert position.offset == len(data)
    assert len(found) + position.torn <= data.count(b"\n") + 1


@given(RECORDS, st.binary(max_size=50), st.integers(0, 8))
def test_damage_between_two_lines_takes_at_most_the_line_it_is_on(
    records: list[dict[str, Any]], damage: bytes, at: int
) -> None:
    lines = [encode(record) for record in records]
    found, _ = read(b"".join([*lines[:at], damage, *lines[at:]]))
    lost = [record for record in records if record not in found]
    assert len(lost) <= 1


@given(RECORDS, st.data())
def test_an_offset_anywhere_gives_only_whole_records_after_it(
    records: list[dict[str, Any]], data: st.DataObject
) -> None:
    whole = b"".join(map(encode, records))
    offset = data.draw(st.integers(0, len(whole)))
    found, _ = read(whole, Position(offset=offset))
    assert found == records[len(records) - len(found) :]
