"""A store that an earlier version wrote opens unchanged: what is read, folded and exported is what that version made.

``tests/corpus/store`` describes the stores. They are read as if their processes were gone, which they are, and as if
the process of the runs in progress were alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from pyjama_instrument.export import export
from pyjama_instrument.reader import Reader
from pyjama_instrument.storage.liveness import hold
from tests.stores import fold, snapshot

_CORPUS = Path(__file__).parents[1] / "corpus" / "store"
_VERSIONS = sorted(path.name for path in _CORPUS.iterdir() if path.is_dir())


class Golden(NamedTuple):
    """A copy of a store, and what the version that wrote it made of the original."""

    home: Path
    expected: Any
    folder: Path


@pytest.fixture(params=_VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    """The folder of one version."""
    return _CORPUS / str(request.param)


@pytest.fixture(params=["alive", "dead"])
def golden(request: pytest.FixtureRequest, version: Path, own_store: Path) -> Iterator[Golden]:
    """The store with the process of its runs in progress alive, or gone."""
    shutil.copytree(version / "store", own_store, copy_function=shutil.copyfile)
    expected = json.loads((version / "expected" / f"{request.param}.json").read_bytes())
    with running_process(own_store) if request.param == "alive" else contextlib.nullcontext():
        yield Golden(own_store, expected, version / "expected")


@contextlib.contextmanager
def running_process(home: Path) -> Iterator[None]:
    """Hold the segments of the writers whose runs are in progress, as these writers would."""
    sessions = snapshot(home)["sessions"].values()
    with contextlib.ExitStack() as stack:
        for writer in {session["writer"] for session in sessions if session["status"] == "running"}:
            fd = os.open(home / "journal" / f"{writer}-1.jsonl", os.O_RDWR)
            stack.callback(os.close, fd)
            hold(fd)
        yield


def as_json(model: BaseModel) -> Any:
    return json.loads(model.model_dump_json(by_alias=True))


def dashboard(home: Path) -> Any:
    """The dashboard's data without what depends on the time, on this process, or on the wording."""
    data = as_json(Reader(home).dashboard())
    del data["timestamp"], data["hooks"], data["health"]["notes"]
    return data


def statuses(runs: Any) -> Counter[str]:
    return Counter(run["session"]["status"] for run in runs.values())


def test_the_dashboard_is_the_same(golden: Golden) -> None:
    assert dashboard(golden.home) == golden.expected["dashboard"]


def test_each_run_is_the_same(golden: Golden) -> None:
    reader = Reader(golden.home)
    assert {sid: as_json(reader.session(sid)) for sid in golden.expected["runs"]} == golden.expected["runs"]


def test_folding_gives_the_same_document_and_retires_the_same_segments(golden: Golden) -> None:
    assert fold(golden.home) == "folded"
    document = snapshot(golden.home)
    del document["clock"]
    for position in (*document["journals"].values(), *document["retired"].values()):
        position.pop("unlocked", None)  # an inode and a time
    assert document == golden.expected["folded"]
    files = {place: sorted(os.listdir(golden.home / place)) for place in ("journal", "history")}
    assert files == golden.expected["files"]


def test_after_folding_everything_reads_as_before(golden: Golden) -> None:
    fold(golden.home)
    assert dashboard(golden.home) == golden.expected["dashboard"]
    reader = Reader(golden.home)
    assert {sid: as_json(reader.session(sid)) for sid in golden.expected["runs"]} == golden.expected["runs"]


def test_a_second_fold_counts_nothing_again(golden: Golden) -> None:
    fold(golden.home)
    fold(golden.home)
    assert dashboard(golden.home) == golden.expected["dashboard"]


@pytest.mark.parametrize("format_name", ["csv", "jsonl"])
def test_the_events_are_exported_as_they_were(format_name: str, version: Path, own_store: Path) -> None:
    shutil.copytree(version / "store", own_store, copy_function=shutil.copyfile)
    expected = (version / "expected" / f"export.{format_name}").read_bytes()
    assert b"".join(export(own_store, None, format_name)) == expected


def test_the_trace_is_exported_as_it_was(version: Path, own_store: Path) -> None:
    shutil.copytree(version / "store", own_store, copy_function=shutil.copyfile)
    events = json.loads(b"".join(export(own_store, None, "chrome-trace")))["traceEvents"]
    expected = json.loads((version / "expected" / "export.trace.json").read_bytes())
    assert [event for event in events if event["name"] != "process_labels"] == expected  # labels are words


def test_runs_in_progress_crash_with_their_process_and_not_before(version: Path) -> None:
    alive, dead = (json.loads((version / "expected" / f"{name}.json").read_bytes()) for name in ("alive", "dead"))
    assert statuses(alive["runs"]) == {"running": 5}
    assert {
        sid: run["session"]["status"] for sid, run in dead["runs"].items() if sid in alive["runs"]
    } == dict.fromkeys(alive["runs"], "crashed")


def test_the_store_holds_every_kind_of_run(version: Path) -> None:
    document = json.loads((version / "store" / "metrics.json").read_bytes())
    runs = json.loads((version / "expected" / "dead.json").read_bytes())["runs"]
    listed = Counter(session["status"] for session in document["sessions"].values())
    assert set(statuses(runs)) == {"completed", "failed", "cancelled", "crashed", "ended"}
    assert {"running", "crashed", "ended"} <= listed.keys()
    assert document["unlisted"]
    assert runs.keys() - document["sessions"].keys() - document["unlisted"].keys()  # evicted after they ended
    assert document["health"]["dropped"]
    assert document["retired"]
