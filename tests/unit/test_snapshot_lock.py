"""The two locks: ours goes with its holder, the original's is waited for and never broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from pyjama_instrument.storage import snapshot_lock
from pyjama_instrument.storage.snapshot_lock import hold_original_lock, try_lock

OURS = "metrics.json.lock"
THEIRS = "metrics.lock"


def test_one_at_a_time_holds_the_lock(directory: int) -> None:
    with try_lock(directory) as first, try_lock(directory) as second:
        assert (first, second) == (True, False)


def test_the_lock_is_that_of_filelock(directory: int, place: Path) -> None:
    theirs = FileLock(place / OURS, timeout=0)
    with try_lock(directory), pytest.raises(Timeout):
        theirs.acquire()
    with theirs, try_lock(directory) as got:
        assert not got


def test_the_lock_is_free_after_the_block(directory: int) -> None:
    with try_lock(directory):
        pass
    with try_lock(directory) as got:
        assert got


def test_the_lock_is_free_after_an_exception(directory: int) -> None:
    with pytest.raises(RuntimeError), try_lock(directory):
        raise RuntimeError
    with try_lock(directory) as got:
        assert got


def test_a_copy_of_the_descriptor_in_a_forked_child_does_not_keep_the_lock(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "close", lambda fd: None)  # somebody else has the same open file still
    with try_lock(directory):
        pass
    with try_lock(directory) as got:
        assert got


def test_a_lock_file_replaced_while_it_is_locked_lets_nobody_in_twice(directory: int, place: Path) -> None:
    with try_lock(directory):
        (place / OURS).unlink()
        with try_lock(directory) as second:
            assert second  # of another file, so to say
        with try_lock(directory) as third:
            assert third


def test_a_store_that_was_removed_has_no_lock(directory: int, place: Path) -> None:
    place.rmdir()
    with try_lock(directory) as got:
        assert not got


def test_the_content_of_a_lock_file_means_nothing(directory: int, place: Path) -> None:
    (place / OURS).write_text("locked by process 1 for ever")
    with try_lock(directory) as got:
        assert got


def test_while_rewriting_the_original_sees_its_lock_and_afterwards_it_does_not(directory: int, place: Path) -> None:
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0) as got:
        assert got
        with pytest.raises(FileExistsError):
            os.open(place / THEIRS, os.O_CREAT | os.O_EXCL)
    assert not (place / THEIRS).exists()


def test_an_original_s_lock_is_never_broken_however_old_it_is(directory: int, place: Path) -> None:
    (place / THEIRS).touch()
    os.utime(place / THEIRS, (0, 0))
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0.05) as got:
        assert not got
    assert (place / THEIRS).exists()


def test_an_original_s_lock_is_waited_for(directory: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / THEIRS).touch()
    monkeypatch.setattr(
        snapshot_lock, "sleep", lambda seconds: (place / THEIRS).unlink()
    )  # its holder is done meanwhile
    with try_lock(directory), hold_original_lock(directory, wait_seconds=60) as got:
        assert got


def test_the_wait_for_an_original_ends_when_asked_to(directory: int, place: Path) -> None:
    (place / THEIRS).touch()
    with try_lock(directory), hold_original_lock(directory, wait_seconds=60, should_stop=lambda: True) as got:
        assert not got


def test_a_lock_of_ours_that_a_kill_left_behind_is_removed(directory: int, place: Path) -> None:
    with try_lock(directory):
        os.link(place / OURS, place / THEIRS)  # and here its holder was killed
    with try_lock(directory), hold_original_lock(directory, wait_seconds=1) as got:
        assert got
    assert not (place / THEIRS).exists()


def test_an_original_s_lock_that_took_the_place_of_ours_is_not_removed(directory: int, place: Path) -> None:
    # The original deletes a lock that it does not hold when its writing fails.
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0):
        (place / THEIRS).unlink()
        (place / THEIRS).write_text("an original's")
    assert (place / THEIRS).read_text() == "an original's"


def test_the_original_s_lock_appears_with_its_mark_even_on_a_full_disk(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0) as got:
        assert got
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0) as again:
        assert again


def test_the_age_of_the_lock_is_the_time_since_it_was_taken(directory: int, place: Path) -> None:
    with try_lock(directory):
        os.utime(place / OURS, (0, 0))
        with hold_original_lock(directory, wait_seconds=0):
            assert (place / THEIRS).stat().st_mtime > 1_000_000_000


def test_a_mark_of_ours_goes_away_although_the_lock_file_was_removed_by_hand(directory: int, place: Path) -> None:
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0) as mark:
        assert mark
        (place / OURS).unlink()
        assert mark.exists()
    assert not (place / THEIRS).exists()


def test_a_mark_that_was_removed_by_hand_stands_no_more_although_others_made_one(directory: int, place: Path) -> None:
    with try_lock(directory), hold_original_lock(directory, wait_seconds=0) as mark:
        assert mark
        (place / THEIRS).unlink()
        assert not mark.exists()
        (place / THEIRS).touch()
        assert not mark.exists()


def test_where_locks_keep_nobody_out_a_mark_of_ours_keeps_others_out(directory: int, place: Path) -> None:
    with (
        try_lock(directory),
        hold_original_lock(directory, wait_seconds=0, alone=False) as first,
        hold_original_lock(directory, wait_seconds=0, alone=False) as second,
    ):
        assert (first is not None, second) == (True, None)
