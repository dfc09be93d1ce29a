"""Loading the snapshot: whole, cleared, corrupt or absent, and never more than it is."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.errors import SchemaTooNew
from pyjama_instrument.fold.document import new_document
from pyjama_instrument.storage.snapshot import identity, load
from tests.stores import open_files

OURS = new_document() | {"generation": 7}


def put(place: Path, content: Any, name: str = "metrics.json") -> Path:
    path = place / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_document_with_offsets_is_whole(directory: int, place: Path) -> None:
    put(place, OURS)
    snapshot = load(directory)
    assert (snapshot.state, snapshot.document, snapshot.cleared_us) == ("whole", OURS, None)


def test_where_nothing_is_there_never_was_a_snapshot(directory: int) -> None:
    snapshot = load(directory)
    assert (snapshot.state, snapshot.document) == ("absent", new_document())


def test_a_removed_document_was_cleared_when_the_directory_was_last_changed(directory: int, place: Path) -> None:
    put(place, OURS, "metrics.json.prev")
    os.utime(place, ns=(0, 5_000_000_000))
    snapshot = load(directory)
    assert (snapshot.state, snapshot.document, snapshot.cleared_us) == ("cleared", OURS, 5_000_000)


def test_a_caller_that_has_changed_the_directory_says_when_others_did(directory: int, place: Path) -> None:
    put(place, OURS, "metrics.json.prev")
    assert load(directory, 3_000_000_000).cleared_us == 3_000_000


def test_a_document_without_offsets_was_cleared_when_it_was_written(directory: int, place: Path) -> None:
    put(place, OURS, "metrics.json.prev")
    os.utime(put(place, {"mine": 1}), ns=(0, 6_000_000_000))
    snapshot = load(directory)
    assert (snapshot.state, snapshot.cleared_us, snapshot.found) == ("cleared", 6_000_000, {"mine": 1})


def test_a_document_that_an_original_began_is_taken_over(directory: int, place: Path) -> None:
    put(place, {"global": {"count": 3}})
    snapshot = load(directory)
    assert (snapshot.state, snapshot.document) == ("absent", {"global": {"count": 3}})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"42", b'{"journals": {}} and more', b"\xff\xfe", b"\0" * 100, b"[" * 100_000],
)
def test_what_is_not_a_json_object_is_corrupt_and_the_predecessor_stands_in(
    directory: int, place: Path, content: bytes
) -> None:
    put(place, OURS, "metrics.json.prev")
    put(place, content)
    snapshot = load(directory)
    assert (snapshot.state, snapshot.document) == ("corrupt", OURS)


def test_without_a_sound_predecessor_a_corrupt_store_begins_anew(directory: int, place: Path) -> None:
    put(place, b"{", "metrics.json.prev")
    put(place, b"{")
    snapshot = load(directory)
    assert (snapshot.state, snapshot.document) == ("corrupt", new_document())


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_something_else_in_its_place_is_corrupt(directory: int, place: Path, kind: str) -> None:
    path = place / "metrics.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    before = open_files()
    assert load(directory).state == "corrupt"
    assert open_files() <= before


@pytest.mark.parametrize("name", ["metrics.json", "metrics.json.prev"])
def test_a_newer_schema_is_refused(directory: int, place: Path, name: str) -> None:
    put(place, OURS | {"schema": 2}, name)
    with pytest.raises(SchemaTooNew, match="upgrade"):
        load(directory)


def test_two_generations_are_told_apart(directory: int, place: Path) -> None:
    put(place, OURS)
    first = identity(directory)
    (place / "metrics.json").unlink()
    put(place, OURS | {"generation": 8888})
    assert first is not None
    assert identity(directory) != first


def test_a_missing_file_has_no_identity(directory: int) -> None:
    assert identity(directory) is None


def test_a_predecessor_that_cannot_be_opened_now_is_not_taken_for_none(
    directory: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, b'{"half": ')
    put(place, OURS, "metrics.json.prev")
    real = os.open

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if path == "metrics.json.prev":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match="Input/output"):
            load(directory)
    assert load(directory).document == OURS
