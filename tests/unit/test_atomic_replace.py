"""Replacing a file in one step: old bytes or new, and the old ones kept when asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyjama_instrument.storage.atomic_replace import FileChanged, replace_keeping_previous, write_file


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)


def test_a_file_is_made_for_its_owner_only(directory: int, place: Path) -> None:
    write_file(directory, "a", b"new")
    assert (place / "a").read_bytes() == b"new"
    assert (place / "a").stat().st_mode & 0o777 == 0o600


def test_an_open_file_keeps_the_old_bytes_when_the_name_gets_new_ones(directory: int, place: Path) -> None:
    write_file(directory, "a", b"old")
    with open(place / "a", "rb") as before:
        write_file(directory, "a", b"new")
        assert (before.read(), (place / "a").read_bytes()) == (b"old", b"new")


def test_the_predecessor_is_kept_under_its_own_name(directory: int, place: Path) -> None:
    write_file(directory, "a", b"1")
    for data in (b"2", b"3"):
        replace_keeping_previous(directory, "a", "a.prev", data)
    assert ((place / "a").read_bytes(), (place / "a.prev").read_bytes()) == (b"3", b"2")


@pytest.mark.parametrize("leftover", ["metrics.json.tmp", "metrics.json.tmp.old"])
def test_what_a_kill_left_behind_is_no_obstacle(directory: int, place: Path, leftover: str) -> None:
    write_file(directory, "a", b"1")
    (place / leftover).write_bytes(b"half of som")
    replace_keeping_previous(directory, "a", "a.prev", b"2")
    assert (place / "a").read_bytes() == b"2"
    assert sorted(os.listdir(place)) == ["a", "a.prev"]


def test_a_predecessor_that_is_the_file_itself_is_replaced_all_the_same(directory: int, place: Path) -> None:
    # So it stands after a kill between the two renames.
    write_file(directory, "a", b"1")
    os.link(place / "a", place / "a.prev")
    for data in (b"2", b"3"):
        replace_keeping_previous(directory, "a", "a.prev", data)
    assert ((place / "a").read_bytes(), (place / "a.prev").read_bytes()) == (b"3", b"2")


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_changes_nothing_and_leaves_nothing(directory: int, place: Path) -> None:
    (place / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        replace_keeping_previous(directory, "a", "a.prev", b"new")
    assert (place / "a").read_bytes() == b"old"
    assert os.listdir(place) == ["a"]


def test_a_file_that_has_vanished_is_not_made_anew(directory: int, place: Path) -> None:
    # Somebody removed it on purpose, and his wish counts.
    with pytest.raises(FileNotFoundError):
        replace_keeping_previous(directory, "a", "a.prev", b"new")
    assert os.listdir(place) == []


def test_a_write_that_is_accepted_in_pieces_is_completed(
    directory: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data)[:2]))
    write_file(directory, "a", b"abcde")
    assert (place / "a").read_bytes() == b"abcde"


def test_a_file_system_that_takes_nothing_and_reports_nothing_is_an_error(
    directory: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(OSError, match="nothing could be written"):
        write_file(directory, "a", b"new")
    assert os.listdir(place) == []


@pytest.mark.parametrize(
    "write",
    [
        lambda directory: write_file(directory, "a", b"2"),
        lambda directory: replace_keeping_previous(directory, "a", "a.prev", b"2"),
    ],
    ids=["a file", "the next generation"],
)
def test_the_half_written_file_of_somebody_who_sees_no_lock_of_ours_is_never_taken_for_ours(
    directory: int, place: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[int], object]
) -> None:
    write_file(directory, "a", b"1")

    def another_begins(fd: int) -> None:
        (place / "other").write_bytes(b"half of som")
        os.rename(place / "other", place / "metrics.json.tmp")

    monkeypatch.setattr(os, "fsync", another_begins)
    with pytest.raises(FileChanged):
        write(directory)
    assert (place / "a").read_bytes() == b"1"
