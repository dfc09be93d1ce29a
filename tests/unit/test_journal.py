"""The journal: append-only, held before it is seen, and steady under its descriptor."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.storage import compaction
from pyjama_instrument.storage.journal import Journal
from pyjama_instrument.storage.layout import SegmentName
from pyjama_instrument.storage.liveness import hold, is_held
from pyjama_instrument.storage.store_directory import Store
from tests.stores import Writer, header, open_files

NAME = SegmentName("00ff00ff00ff00ff", 1)


@pytest.fixture
def store(own_store: Path) -> Iterator[Store]:
    store = Store(str(own_store))
    yield store
    store.close()


@pytest.fixture
def journal(store: Store) -> Iterator[Journal]:
    journal = Journal(store, NAME, header)
    yield journal
    journal.close()


def segment(store: Store, name: SegmentName = NAME) -> Path:
    return Path(store.path, "journal", name.filename)


def held(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return is_held(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("times", [1, 3])
def test_a_segment_that_is_tidied_away_before_it_is_held_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    tidied = []

    def too_late(fd: int) -> None:
        if len(tidied) < times:
            compaction._tidy(store, time.time())
            tidied.append(os.fstat(fd).st_nlink)
        hold(fd)

    monkeypatch.setattr("pyjama_instrument.storage.journal.hold", too_late)
    journal = Journal(store, NAME, header)
    assert tidied == [0] * times
    assert segment(store).read_bytes() == header(NAME)
    assert held(segment(store))
    assert os.listdir(segment(store).parent) == [NAME.filename]
    journal.close()


def test_a_journal_directory_that_is_gone_is_no_reason_to_try_for_ever(store: Store) -> None:
    segment(store).parent.rmdir()
    with pytest.raises(FileNotFoundError):
        Journal(store, NAME, header)


def test_a_segment_begins_with_its_header(journal: Journal, store: Store) -> None:
    assert segment(store).read_bytes() == header(NAME)


def test_a_segment_is_its_owner_s_alone(journal: Journal, store: Store) -> None:
    assert segment(store).stat().st_mode & 0o777 == 0o600


def test_a_segment_is_held_when_it_gets_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    rename = os.rename

    def look_first(source: str, target: str, **where: int) -> None:
        seen.append(held(segment(store).with_name(source)))
        rename(source, target, **where)

    monkeypatch.setattr(os, "rename", look_first)
    Journal(store, NAME, header).close()
    assert seen == [True]


def test_a_closed_journal_is_not_held(journal: Journal, store: Store) -> None:
    assert held(segment(store))
    journal.close()
    assert not held(segment(store))


def test_the_descriptor_is_out_of_the_program_s_way_and_not_inherited(journal: Journal) -> None:
    assert journal.fd >= 512
    assert not os.get_inheritable(journal.fd)


def test_the_descriptor_keeps_its_number_over_a_rotation(journal: Journal, store: Store) -> None:
    fd = journal.fd
    os.write(fd, b"old\n")
    journal.rotate()
    os.write(fd, b"new\n")
    assert journal.fd == fd
    assert segment(store).read_bytes() == header(NAME) + b"old\n"
    assert segment(store, NAME.next).read_bytes() == header(NAME.next) + b"new\n"


def test_a_rotation_lets_go_of_the_old_segment_and_holds_the_new(journal: Journal, store: Store) -> None:
    journal.rotate()
    assert (held(segment(store)), held(segment(store, NAME.next))) == (False, True)
    assert not os.get_inheritable(journal.fd)


def test_the_new_segment_is_there_before_the_old_one_is_let_go(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or somebody who finds the old one unheld would take the writer for dead.
    seen: list[bool] = []
    dup2 = os.dup2

    def look_first(fd: int, fd2: int, inheritable: bool = True) -> int:
        seen.append(segment(store, NAME.next).exists() and held(segment(store, NAME.next)))
        return dup2(fd, fd2, inheritable)

    monkeypatch.setattr(os, "dup2", look_first)
    journal.rotate()
    assert seen == [True]


def test_a_rotation_that_fails_leaves_the_old_segment_in_use(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="No space"):
            journal.rotate()
    os.write(journal.fd, b"goes on\n")
    assert segment(store).read_bytes().endswith(b"goes on\n")
    assert os.listdir(store.journal) == [NAME.filename]


@pytest.mark.parametrize("what", ["close", "reuse"])
def test_a_descriptor_that_the_program_took_is_noticed_and_left_alone(
    journal: Journal, tmp_path: Path, what: str
) -> None:
    os.close(journal.fd)
    if what == "reuse":
        with open(tmp_path / "theirs", "wb") as theirs:
            os.dup2(theirs.fileno(), journal.fd)
    assert not journal.is_ours()
    fd = journal.fd
    journal.close()
    if what == "reuse":
        os.write(fd, b"still open")
        os.close(fd)


@pytest.mark.parametrize("part", [".", "journal", "history"])
def test_a_removed_store_is_noticed(journal: Journal, store: Store, part: str) -> None:
    assert journal.is_ours()
    shutil.rmtree(Path(store.path, part))
    assert not journal.is_ours()


def test_a_removed_segment_is_noticed(journal: Journal, store: Store) -> None:
    segment(store).unlink()
    assert not journal.is_ours()


def test_a_store_that_was_removed_and_made_anew_is_another_store(journal: Journal, store: Store) -> None:
    shutil.rmtree(store.path)
    Store(store.path).close()
    assert not journal.is_ours()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.ELOOP, errno.EMFILE])
@pytest.mark.parametrize("call", ["stat", "fstat"])
def test_a_store_that_cannot_be_looked_at_was_not_removed(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        assert journal.is_ours()
    assert journal.is_ours()


def test_a_store_that_was_closed_is_no_longer_current(store: Store) -> None:
    store.close()
    assert not store.is_current()


def test_a_program_that_may_open_few_files_can_record(store: Store) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        journal = Journal(store, NAME, header)
        assert journal.fd >= 128
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_directory_of_a_new_store_is_its_owner_s_alone(store: Store) -> None:
    for part in (".", "journal", "history"):
        assert Path(store.path, part).stat().st_mode & 0o777 == 0o700


def test_the_mode_of_a_directory_that_was_there_is_left_as_it_was(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    Writer(shared).die()
    assert shared.stat().st_mode & 0o777 == 0o755


def test_a_store_may_be_a_link_to_a_larger_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    writer = Writer(tmp_path / "link")
    assert writer.journal.is_ours()
    writer.die()


def test_a_directory_of_somebody_else_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    before = open_files()
    with pytest.raises(StoreUnavailable, match=r"belongs to another user.*PYJAMA_HOME"):
        Store(str(tmp_path))
    assert "journal" not in os.listdir(tmp_path)
    assert open_files() <= before


def test_a_store_that_is_let_go_of_closes_its_descriptors(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert len(open_files(tmp_path)) == 3
    del store
    assert not open_files(tmp_path)


def test_a_rotation_that_fails_halfway_has_used_up_the_new_segment_s_name(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, *_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup2", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.rotate()
    os.write(journal.fd, b"record\n")
    assert journal.is_ours()
    assert segment(store, journal.name).read_bytes().endswith(b"record\n")
    assert journal.last == NAME.next
    journal.rotate()
    assert journal.name == NAME.next.next
    assert b"record\n" in segment(store, NAME).read_bytes() + segment(store, NAME.next).read_bytes()


def test_a_segment_that_could_not_be_noted_is_not_in_the_way_of_the_next_attempt(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.rotate()
    assert journal.is_ours()
    journal.rotate()
    assert journal.name == NAME.next


def test_a_store_does_not_close_what_was_opened_anew_under_its_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    before = Store(path)
    os.closerange(min(before.fd, before.journal, before.history), max(before.fd, before.journal, before.history) + 1)
    after = Store(path)
    assert (after.fd, after.journal, after.history) == (before.fd, before.journal, before.history)
    before.close()
    assert after.is_current()
    after.close()
