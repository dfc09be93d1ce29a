"""Descriptors that hold a lock: what a forked child does with its copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyjama_instrument.storage import lock_descriptors
from tests.stores import open_files


def in_child(check: Callable[[], bool]) -> bool:
    """What the check answers in a forked child."""
    pid = os.fork()
    if pid == 0:
        answer = 2
        try:
            answer = not check()
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def directory(tmp_path: Path) -> int:
    return os.open(tmp_path, os.O_RDONLY)


def noted(directory: int, name: str = "file") -> int:
    return lock_descriptors.open_tracked(name, os.O_RDWR | os.O_CREAT, dir_fd=directory)


def test_a_child_closes_its_copy_and_the_parent_keeps_its_own(directory: int) -> None:
    fd = noted(directory)
    assert in_child(lambda: not is_open(fd))
    assert is_open(fd)
    lock_descriptors.close(fd)
    assert not is_open(fd)


def test_a_child_does_not_close_what_the_program_has_opened_under_the_number(directory: int, tmp_path: Path) -> None:
    fd = noted(directory)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, fd)
    assert in_child(lambda: is_open(fd))
    lock_descriptors.close(fd)
    assert is_open(fd)
    os.close(fd)


def test_a_child_closes_what_was_raised_and_what_was_put_in_place(directory: int) -> None:
    high = lock_descriptors.move_tracked_high(noted(directory))
    next_one = noted(directory, "next")
    assert lock_descriptors.replace_tracked(next_one, high) == lock_descriptors.inode(next_one)
    assert in_child(lambda: not is_open(high) and not is_open(next_one))
    lock_descriptors.close(next_one)
    lock_descriptors.close(high)
    assert not is_open(high)


def test_a_child_that_is_forked_while_a_number_is_not_noted_yet_closes_that_too(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    move_high = lock_descriptors.move_high

    def move_high_and_fork(fd: int) -> int:
        high = move_high(fd)
        answers.append(in_child(lambda: not is_open(high)))
        return high

    with monkeypatch.context() as patch:
        patch.setattr(lock_descriptors, "move_high", move_high_and_fork)
        high = lock_descriptors.move_tracked_high(noted(directory))
    assert answers == [True]
    assert is_open(high)
    lock_descriptors.close(high)


def test_what_a_child_opens_is_its_own(directory: int) -> None:
    def opens() -> bool:
        fd = noted(directory)
        lock_descriptors.close_copies()
        kept = is_open(fd)
        lock_descriptors.close(fd)
        return kept and not is_open(fd)

    assert in_child(opens)


def test_what_cannot_be_noted_is_closed(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(lock_descriptors, "inode", lambda fd: (_ for _ in ()).throw(OSError("no answer")))
        with pytest.raises(OSError, match="no answer"):
            noted(directory)
    assert open_files() <= before


def test_a_file_of_which_nothing_can_be_learned_is_closed_all_the_same(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = noted(directory)
    with monkeypatch.context() as patch:
        patch.setattr(lock_descriptors, "inode", lambda fd: (_ for _ in ()).throw(OSError(116, "Stale file handle")))
        lock_descriptors.close(fd)
    assert not is_open(fd)
