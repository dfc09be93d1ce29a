"""Names of files: what is a segment, and in which order segments come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyjama_instrument.storage.layout import SegmentName, list_segments

NAME = SegmentName("00ff00ff00ff00ff", 12)


def test_a_segment_is_named_after_its_writer_and_number() -> None:
    assert NAME.filename == "00ff00ff00ff00ff-12.jsonl"
    assert NAME.key == "00ff00ff00ff00ff-12"


def test_a_file_name_gives_its_segment_back() -> None:
    assert SegmentName.parse(NAME.filename) == NAME


def test_the_next_segment_has_the_next_number() -> None:
    assert NAME.next == SegmentName("00ff00ff00ff00ff", 13)


@pytest.mark.parametrize(
    "filename",
    [
        "",
        "00ff00ff00ff00ff.jsonl",
        "00ff00ff00ff00ff-.jsonl",
        "00ff00ff00ff00ff--1.jsonl",
        "00ff00ff00ff00ff-1.json",
        "00ff00ff00ff00ff-1.jsonl.gz",
        "00ff00ff00ff00ff-1.jsonl\n",
        ".00ff00ff00ff00ff-1.jsonl.tmp",
        "00FF00FF00FF00FF-1.jsonl",
        "ff-1.jsonl",
        "00ff00ff00ff00ff-1234567890.jsonl",
        "../00ff00ff00ff00ff-1.jsonl",
    ],
)
def test_any_other_file_is_not_a_segment(filename: str) -> None:
    assert SegmentName.parse(filename) is None


def test_segments_are_listed_by_writer_and_number_not_by_text(tmp_path: Path) -> None:
    other = SegmentName("ffffffffffffffff", 1)
    for name in (other, NAME._replace(number=10), NAME._replace(number=9)):
        (tmp_path / name.filename).touch()
    (tmp_path / "notes.txt").touch()
    assert list_segments(str(tmp_path)) == [NAME._replace(number=9), NAME._replace(number=10), other]


def test_a_directory_that_is_missing_has_no_segments(tmp_path: Path) -> None:
    assert list_segments(str(tmp_path / "nowhere")) == []


def test_a_directory_removed_while_it_is_open_has_no_segments(tmp_path: Path) -> None:
    gone = tmp_path / "journal"
    gone.mkdir()
    fd = os.open(gone, os.O_RDONLY)
    try:
        gone.rmdir()
        assert list_segments(fd) == []
    finally:
        os.close(fd)
