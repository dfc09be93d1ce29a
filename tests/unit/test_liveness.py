"""Who is alive: the lock on a journal says so, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyjama_instrument.storage._liveness import hold, is_held

Open = Callable[[], int]


@pytest.fixture
def open_file(tmp_path: Path) -> Iterator[Open]:
    path = tmp_path / "journal.jsonl"
    path.touch()
    opened: list[int] = []

    def open_() -> int:
        opened.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return opened[-1]

    yield open_
    for fd in opened:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_a_file_that_nobody_holds_is_not_held(open_file: Open) -> None:
    assert not is_held(open_file())


def test_a_held_file_is_held_for_whoever_opens_it(open_file: Open) -> None:
    hold(open_file())
    assert is_held(open_file())


def test_looking_does_not_hold_it(open_file: Open) -> None:
    probe = open_file()
    is_held(probe)
    assert not is_held(open_file())


def test_a_read_only_descriptor_is_enough_to_look(open_file: Open, tmp_path: Path) -> None:
    hold(open_file())
    fd = os.open(tmp_path / "journal.jsonl", os.O_RDONLY)
    assert is_held(fd)
    os.close(fd)


def test_closing_the_descriptor_ends_it(open_file: Open) -> None:
    fd = open_file()
    hold(fd)
    os.close(fd)
    assert not is_held(open_file())


@pytest.mark.skipif(sys.platform != "linux", reason="locks of an open file description are Linux's")
def test_closing_another_descriptor_of_the_file_does_not_end_it(open_file: Open) -> None:
    fd = open_file()
    hold(fd)
    os.close(open_file())  # this is what drops a classic POSIX lock
    assert is_held(open_file())


def test_a_copy_of_the_descriptor_keeps_it_and_closing_the_copy_does_not_end_it(open_file: Open) -> None:
    fd = open_file()
    hold(fd)
    copy = os.dup(fd)
    os.close(copy)
    assert is_held(open_file())


def test_two_cannot_hold_one_file(open_file: Open) -> None:
    hold(open_file())
    with pytest.raises(OSError, match="temporarily unavailable"):
        hold(open_file())
