"""Who is alive: the lock on a journal says so, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pyjama_instrument.storage import liveness

Open = Callable[[], int]


class Locks(NamedTuple):
    """One of the two ways to hold a file."""

    hold: Callable[[int], None]
    is_held: Callable[[int], bool]


@pytest.fixture(params=["as on this platform", "as where there are no locks of open file descriptions"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Locks:
    if request.param.endswith("this platform"):
        return Locks(liveness.hold, liveness.is_held)
    monkeypatch.setattr(sys, "platform", "elsewhere")
    module = runpy.run_path(liveness.__file__)
    return Locks(module["hold"], module["is_held"])


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


def test_a_file_that_nobody_holds_is_not_held(locks: Locks, open_file: Open) -> None:
    assert not locks.is_held(open_file())


def test_a_held_file_is_held_for_whoever_opens_it(locks: Locks, open_file: Open) -> None:
    locks.hold(open_file())
    assert locks.is_held(open_file())


def test_looking_does_not_hold_it(locks: Locks, open_file: Open) -> None:
    probe = open_file()
    locks.is_held(probe)
    assert not locks.is_held(open_file())


def test_a_read_only_descriptor_is_enough_to_look(locks: Locks, open_file: Open, tmp_path: Path) -> None:
    locks.hold(open_file())
    fd = os.open(tmp_path / "journal.jsonl", os.O_RDONLY)
    assert locks.is_held(fd)
    os.close(fd)


def test_closing_the_descriptor_ends_it(locks: Locks, open_file: Open) -> None:
    fd = open_file()
    locks.hold(fd)
    os.close(fd)
    assert not locks.is_held(open_file())


def test_closing_another_descriptor_of_the_file_does_not_end_it(locks: Locks, open_file: Open) -> None:
    fd = open_file()
    locks.hold(fd)
    os.close(open_file())  # this is what drops a classic POSIX lock
    assert locks.is_held(open_file())


def test_a_copy_of_the_descriptor_keeps_it_and_closing_the_copy_does_not_end_it(locks: Locks, open_file: Open) -> None:
    fd = open_file()
    locks.hold(fd)
    copy = os.dup(fd)
    os.close(copy)
    assert locks.is_held(open_file())


def test_two_cannot_hold_one_file(locks: Locks, open_file: Open) -> None:
    locks.hold(open_file())
    with pytest.raises(OSError, match="temporarily unavailable"):
        locks.hold(open_file())
