"""Crash points as data: a child dies right before, within or right after each call by which a run changes the disk.

Run as a program it plays every scenario through every point and prints, as JSON, the calls that each scenario makes
and what was wrong after each death. The parent of a dying child finds the old snapshot or the new one, never a
mixture; the reader says what the snapshot and the journals say; and the next run goes on to exact totals.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyjama_instrument.reader import Reader
from pyjama_instrument.storage.compaction import clear
from tests.stores import Writer, a_call, dead_journal, fold, open_store, session_begins, snapshot

__all__ = ["CALLS", "WHEN"]

WHEN = ("before", "after")

_LOCKED = ["create metrics.json.lock", "utime metrics.json.lock", "link metrics.json.lock metrics.lock"]
_UNLOCKED = ["unlink metrics.lock"]
_SNAPSHOT = ["create metrics.json.tmp", "write", "utime", "fsync"]
_PREVIOUS = [*_SNAPSHOT, "replace metrics.json.tmp metrics.json.prev", "fsync"]
_OVER_ANOTHER = [*_SNAPSHOT, "replace metrics.json.tmp metrics.json", "fsync", *_PREVIOUS]
# Never over what somebody else has put there meanwhile: a link is refused then.
_WHERE_NONE_IS = [
    *_SNAPSHOT, "link metrics.json.tmp metrics.json", "unlink metrics.json.tmp", "fsync", *_PREVIOUS,
]  # fmt: skip
_RETIRED = ["rename segment"]  # each that both generations cover; they are the same if there was none to go on from

CALLS = {
    "the first run": [*_LOCKED, *_WHERE_NONE_IS, *_RETIRED, *_UNLOCKED],
    "a run that folds and retires": [
        *_LOCKED, *_SNAPSHOT, "link metrics.json metrics.json.tmp.old",
        "replace metrics.json.tmp.old metrics.json.prev", "replace metrics.json.tmp metrics.json", "fsync",
        *_RETIRED * 2, *_UNLOCKED,
    ],
    "a run after the snapshot was removed": [*_LOCKED, *_WHERE_NONE_IS, *_RETIRED * 3, *_UNLOCKED],
    "a run that finds a corrupt snapshot": [
        *_LOCKED, "link metrics.json aside", *_OVER_ANOTHER, *_RETIRED * 3, *_UNLOCKED,
    ],
    "a clear": [*_LOCKED, *_OVER_ANOTHER, *_RETIRED * 3, *_UNLOCKED],
}  # fmt: skip
"""The calls that change the disk, in their order, by scenario."""


class Scenario(NamedTuple):
    """How the store is made (gives its live writer), what is done, and the counts that are right afterwards."""

    prepare: Callable[[Path], Writer]
    act: Callable[[Path], object]
    right: set[int]


def _first(home: Path) -> Writer:
    dead_journal(home, session_begins("a" * 32), a_call(session="a" * 32), a_call(session="a" * 32))
    writer = Writer(home)
    writer.write(session_begins("b" * 32), a_call(session="b" * 32))
    return writer


def _folded(home: Path) -> Writer:
    """Some generations old, with two journals to retire and news in all the others."""
    writer = _first(home)
    fold(home)
    fold(home)
    for _ in range(2):
        dead_journal(home, a_call())
    fold(home)
    dead_journal(home, a_call())
    writer.write(a_call(session="b" * 32))
    return writer


def _removed(home: Path) -> Writer:
    writer = _folded(home)
    (home / "metrics.json").unlink()
    later_us = time.time_ns() // 1000 + 1_000_000
    writer.write(a_call(ts=later_us), a_call(ts=later_us))
    return writer


def _corrupt(home: Path) -> Writer:
    writer = _folded(home)
    (home / "metrics.json").write_bytes(b'{"half": ')
    return writer


def _clear(home: Path) -> None:
    with open_store(home) as store:
        clear(store)


SCENARIOS = {
    "the first run": Scenario(_first, fold, {3}),
    "a run that folds and retires": Scenario(_folded, fold, {7}),
    # A run that dies has changed the directory: then nothing tells any more when the removal was, and what came
    # after it goes too.
    "a run after the snapshot was removed": Scenario(_removed, fold, {2, 0}),
    "a run that finds a corrupt snapshot": Scenario(_corrupt, fold, {7}),
    "a clear": Scenario(_folded, _clear, {7, 0}),
}


class _Death(NamedTuple):
    """The call to die at: its number, and when."""

    number: int
    when: str


def _patched(death: _Death | None) -> list[str]:
    """Have the calls that change the disk written down, and this process die at one of them."""
    seen: list[str] = []

    def patch(name: str, describe: Callable[..., str | None]) -> None:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            description = describe(*args, **options)
            if description is None:
                return real(*args, **options)
            here = death is not None and len(seen) == death.number
            seen.append(description)
            if here and death is not None and death.when == "before":
                if name == "write":  # half of it gets through
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(77)
            try:
                return real(*args, **options)
            finally:
                if here:
                    os._exit(77)

        setattr(os, name, call)

    patch("open", lambda path, flags, *_, **__: f"create {os.path.basename(path)}" if flags & os.O_CREAT else None)
    patch("write", lambda *_: "write")
    patch("fsync", lambda *_: "fsync")
    patch("utime", lambda path, *_, **__: "utime" if isinstance(path, int) else f"utime {path}")
    patch("link", lambda source, target, **_: f"link {source} {'aside' if 'corrupt' in target else target}")
    patch("replace", lambda source, target, **_: f"replace {source} {target}")
    patch("rename", lambda *_, **__: "rename segment")
    patch("unlink", lambda path, dir_fd: f"unlink {path}" if _exists(path, dir_fd) else None)
    return seen


def _exists(path: str, directory: int) -> bool:
    try:
        os.stat(path, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _trace(scenario: Scenario) -> list[str]:
    """The calls that the scenario makes when nobody dies."""
    reading, writing = os.pipe()
    with _store(scenario) as (home, _):
        if os.fork() == 0:
            seen = _patched(None)
            scenario.act(home)
            os.write(writing, json.dumps(seen).encode())
            os._exit(0)
        os.wait()
    return json.loads(os.read(reading, 65536))  # type: ignore[no-any-return]  # json gives Any


class _store:  # noqa: N801  # a context manager in the guise of a function
    def __init__(self, scenario: Scenario) -> None:
        self.home = Path(tempfile.mkdtemp(), "store")
        self.writer = scenario.prepare(self.home)

    def __enter__(self) -> tuple[Path, Writer]:
        return self.home, self.writer

    def __exit__(self, *_: object) -> None:
        self.writer.die()
        shutil.rmtree(self.home.parent)


def _problems(scenario: Scenario, death: _Death) -> Iterator[str]:
    """What is wrong after the scenario's child has died there."""
    with _store(scenario) as (home, writer):
        old = _content(home)
        if os.fork() == 0:
            _patched(death)
            scenario.act(home)
            os._exit(0)
        if (status := os.waitstatus_to_exitcode(os.wait()[1])) != 77:
            yield f"the child did not die there, it ended with {status}"
        new = _content(home)
        if new != old and (new is None or "journals" not in new):
            yield f"the snapshot is neither the old one nor a new one: {new!r:.100}"
        seen = Reader(home).metrics()
        count = seen["global"]["count"]
        if count not in scenario.right:
            yield f"the reader says {count}"
        if seen["sessions"]["b" * 32]["status"] != "running":
            yield "the living session is not running"
        fold(home)
        if (folded := snapshot(home)["global"]["count"]) != count:
            yield f"after the next run the count is {folded}, it was {count}"
        writer.write(a_call())
        while fold(home) != "current":
            pass
        if (total := snapshot(home)["global"]["count"]) != count + 1:
            yield f"in the end the count is {total}, it was {count} and one more"
        if Reader(home).metrics()["global"]["count"] != count + 1:
            yield "the reader does not say what the snapshot says"
        if left := [name for name in os.listdir(home) if "tmp" in name or name == "metrics.lock"]:
            yield f"left behind: {left}"
        if os.listdir(home / "journal") != [writer.journal.name.filename]:
            yield f"not retired: {os.listdir(home / 'journal')}"


def _content(home: Path) -> Any:
    try:
        return json.loads((home / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return None


def _main() -> None:
    report: dict[str, Any] = {}
    for name, scenario in SCENARIOS.items():
        calls = _trace(scenario)
        wrong = {
            f"{number} {when}": list(_problems(scenario, _Death(number, when)))
            for number in range(len(calls))
            for when in WHEN
        }
        report[name] = {"calls": calls, "wrong": wrong}
    print(json.dumps(report))


if __name__ == "__main__":
    _main()
