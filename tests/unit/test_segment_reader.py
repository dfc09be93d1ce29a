"""Reading one segment: what is complete is read, what is damaged is counted."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES, encode
from pyjama_instrument.storage.layout import SegmentName
from pyjama_instrument.storage.liveness import hold
from pyjama_instrument.storage.position import Position
from pyjama_instrument.storage.segment_reader import read_segment
from tests.stores import Record

NAME = SegmentName("00ff00ff00ff00ff", 1)
ONE, TWO = {"kind": "activity", "n": 1}, {"kind": "activity", "n": 2}
A, B = encode(ONE), encode(TWO)


class Directory(NamedTuple):
    """A place for segments, and what is read from the one in it."""

    path: Path
    fd: int

    def put(self, data: bytes) -> Path:
        path = self.path / NAME.filename
        path.write_bytes(data)
        return path

    def read(self, position: Position | None = None) -> tuple[list[Record], Position]:
        records: list[Record] = []
        position = position or Position()
        read_segment(self.fd, NAME, position, records.extend)
        return records, position


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    path = tmp_path / "segments"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    yield Directory(path, fd)
    os.close(fd)


@pytest.fixture
def live(directory: Directory) -> Iterator[int]:
    """The descriptor of a writer that lives."""
    fd = os.open(directory.put(b""), os.O_WRONLY | os.O_APPEND)
    hold(fd)
    yield fd
    os.close(fd)


class Corrupt(NamedTuple):
    """Bytes of a dead writer's journal, what can be read of them, and how many damaged stretches there are."""

    data: bytes
    records: list[Record]
    torn: int


CORRUPT = {
    "nothing at all": Corrupt(b"", [], 0),
    "only newlines": Corrupt(b"\n\n\n", [], 0),
    "only the beginning of a record": Corrupt(A[:5], [], 1),
    "a record that lacks its newline": Corrupt(A + B[:-1], [ONE], 1),
    "a torn tail": Corrupt(A + B[:7], [ONE], 1),
    "a tail of one byte": Corrupt(A + b"{", [ONE], 1),
    "a torn record between two good ones": Corrupt(A + A[:9] + b"\n" + B, [ONE, TWO], 1),
    "a torn record that swallowed the next": Corrupt(A[:9] + A + B, [TWO], 1),
    "an empty line, as after a failed write": Corrupt(A + b"\n" + B, [ONE, TWO], 0),
    "two torn records": Corrupt(A[:9] + b"\n" + A + B[:4] + b"\n" + B, [ONE, TWO], 2),
    "zeros at the end, as after a power failure": Corrupt(A + b"\0" * 4096, [ONE], 1),
    "zeros in the middle": Corrupt(A + b"\0" * 100 + b"\n" + B, [ONE, TWO], 1),
    "zeros before a record on its line": Corrupt(b"\0" * 8 + A + B, [TWO], 1),
    "nothing but zeros": Corrupt(b"\0" * 300_000, [], 1),
    "carriage returns": Corrupt(A[:-1] + b"\r\n" + B, [ONE, TWO], 0),
    "a byte order mark": Corrupt(b"\xef\xbb\xbf" + A + B, [TWO], 1),
    "binary rubbish": Corrupt(bytes(range(256)) + b"\n" + A, [ONE], 2),
    "somebody's text": Corrupt(b"# a comment\n" + A, [ONE], 1),
    "a JSON array": Corrupt(b"[]\n" + A, [ONE], 1),
    "an endless line": Corrupt(A + b"x" * 1_000_000 + b"\n" + B, [ONE, TWO], 1),
    "an endless line and no end": Corrupt(A + b"x" * 1_000_000, [ONE], 1),
    "a line as long as a chunk": Corrupt(b"x" * 65_536, [], 1),
    "a line of a chunk and its newline": Corrupt(b"x" * 65_535 + b"\n" + A, [ONE], 1),
    "a line longer than any record may be": Corrupt(b"x" * (4 * MAX_RECORD_BYTES) + b"\n" + A, [ONE], 1),
    "the largest record over a chunk's edge": Corrupt(
        A * 1000 + encode(ONE | {"s": "x" * 65_000}) + B, [ONE] * 1000 + [ONE | {"s": "x" * 65_000}, TWO], 0
    ),
}


@pytest.mark.parametrize("case", CORRUPT.values(), ids=CORRUPT.keys())
def test_of_a_dead_writer_s_journal_everything_sound_is_read_and_the_rest_is_counted(
    directory: Directory, case: Corrupt
) -> None:
    directory.put(case.data)
    records, position = directory.read()
    assert (records, position.torn) == (case.records, case.torn)
    assert (position.offset, position.sealed) == (len(case.data), True)


@pytest.mark.parametrize("case", CORRUPT.values(), ids=CORRUPT.keys())
def test_a_live_writer_s_journal_gives_the_same_records_however_it_comes(
    directory: Directory, live: int, case: Corrupt
) -> None:
    records, position = [], Position()
    step = max(1, len(case.data) // 7)
    for start in range(0, len(case.data), step):
        os.write(live, case.data[start : start + step])
        records += directory.read(position)[0]
    assert records == case.records
    assert position.torn <= case.torn  # the end of the file may still be completed


def test_a_torn_tail_of_a_live_writer_is_waited_for(directory: Directory, live: int) -> None:
    os.write(live, A + B[:7])
    records, position = directory.read()
    assert (records, position) == ([ONE], Position(offset=len(A)))
    os.write(live, B[7:])
    assert directory.read(position) == ([TWO], Position(offset=len(A + B)))


def test_what_follows_a_torn_record_on_a_new_line_is_read(directory: Directory, live: int) -> None:
    os.write(live, A + A[:7])
    _, position = directory.read()
    os.write(live, b"\n" + B)
    assert directory.read(position) == ([TWO], Position(offset=len(A + B) + 8, torn=1))


def test_a_dead_writer_s_journal_is_sealed_and_a_live_one_s_is_not(directory: Directory, live: int) -> None:
    assert not directory.read()[1].sealed
    os.unlink(directory.path / NAME.filename)
    directory.put(A)
    assert directory.read()[1].sealed


def test_a_journal_cut_short_under_its_living_writer_is_read_from_its_beginning(
    directory: Directory, live: int
) -> None:
    os.write(live, A + A)
    _, position = directory.read()
    os.truncate(directory.path / NAME.filename, 0)
    os.write(live, B)
    assert directory.read(position) == ([TWO], Position(offset=len(B), torn=1))


def test_a_dead_writer_s_journal_that_lost_its_end_is_not_counted_again(directory: Directory) -> None:
    # A power failure takes what was not synced, but not the snapshot that has it already.
    directory.put(A)
    records, position = directory.read(Position(offset=len(A + B)))
    assert (records, position.torn, position.sealed) == ([], 1, True)


def test_an_offset_that_points_into_a_record_skips_the_rest_of_it(directory: Directory) -> None:
    directory.put(A + B)
    records, position = directory.read(Position(offset=5))
    assert (records, position.torn) == ([TWO], 1)


def test_a_writer_that_appends_as_fast_as_it_is_read_does_not_keep_the_reader(directory: Directory, live: int) -> None:
    os.write(live, A)
    read: list[Record] = []

    def sink(records: list[Record]) -> None:
        read.extend(records)
        os.write(live, A)

    read_segment(directory.fd, NAME, Position(), sink)
    assert read == [ONE]


def test_a_journal_that_does_not_exist_is_no_journal(directory: Directory) -> None:
    assert read_segment(directory.fd, NAME, Position(), lambda _: None) is None


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_something_else_in_a_journal_s_place_is_passed_over(directory: Directory, kind: str) -> None:
    path = directory.path / NAME.filename
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert directory.read() == ([], Position())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_want_of_descriptors_is_no_proof_of_death(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    directory.put(A)
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match=r"."):
        directory.read()


def test_a_journal_that_may_not_be_read_is_taken_for_held(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    directory.put(A)
    monkeypatch.setattr(os, "open", fail)
    assert read_segment(directory.fd, NAME, Position(), lambda _: None) is True


# -- positions
