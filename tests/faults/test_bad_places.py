"""Error at real places: a full disk, no inodes, read-only, immutable, size and descriptor limits of the process.

The user's function returns its value all the time, what could not be recorded is counted by its reason, and recording
resumes by itself when the place recovers. The balance is exact.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pyjama_instrument.reader import Reader
from tests.faults.oracle import balance
from tests.process.children import HANG_SECONDS, line_from, started, tell
from tests.scale import full

CALLS = full(20_000, 500)

AGENT = """
import resource
from pyjama_instrument.recording import call_announcements, call_events
from pyjama_instrument.recording.recorder import recorder
# Calls are all that is recorded, so all that is dropped.
call_events.SLOW_NS = call_announcements._ANNOUNCE_AFTER_NS = 1 << 62
calls = 0

def some(times):
    global calls
    for _ in range(times):
        assert work(calls) == calls
        calls += 1

def limit(what, number):
    resource.setrlimit(what, (number, resource.getrlimit(what)[1]))

if sys.argv[2] == "first":
    say("ready")
    wait()
with agent_session("agent"):
    some(10)
    if sys.argv[2] != "first":
        say("ready")
        wait()
    exec(sys.argv[3])
    some(int(sys.argv[1]))
    exec(sys.argv[4])
    say("through")
    wait()
    while recorder.fd == -1:
        some(1)
        time.sleep(0.01)
    dropped = sum(recorder.writer.dropped.unreported().values())
    some(50)
    assert sum(recorder.writer.dropped.unreported().values()) <= dropped, "recording has not resumed"
say(calls)
"""


class Fault(NamedTuple):
    """What the test does with the place, the process with its limits, and the reasons for which events are dropped."""

    place: Callable[[Path], contextlib.AbstractContextManager[Callable[[], object]]]
    reasons: set[str]
    begin: str = ""
    end: str = ""
    first: bool = False
    """From before the first event, and not amid the calls."""


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot be done here: {' '.join(map(str, command))}: {done.stderr.strip()}")


@contextlib.contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", place)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def _anywhere(place: Path) -> Iterator[Callable[[], object]]:
    yield lambda: lambda: None


@contextlib.contextmanager
def _small(place: Path) -> Iterator[Callable[[], object]]:
    """1 MiB, of which nothing is left."""

    def fill() -> Callable[[], object]:
        fd = os.open(place / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, bytes(1024))
        return lambda: os.ftruncate(fd, 0)

    with _mounted(place, "size=1m"):
        yield fill


@contextlib.contextmanager
def _no_inodes(place: Path) -> Iterator[Callable[[], object]]:
    def fill() -> Callable[[], object]:
        made = []
        with contextlib.suppress(OSError):
            for number in range(1000):
                (place / f"filler-{number}").touch()
                made.append(place / f"filler-{number}")
        assert len(made) < 1000
        return lambda: [path.unlink() for path in made]

    with _mounted(place, "size=8m,nr_inodes=40"):
        yield fill


@contextlib.contextmanager
def _read_only(place: Path) -> Iterator[Callable[[], object]]:
    """A bind mount that becomes writable."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")

    def protect() -> Callable[[], object]:
        _run("mount", "-o", "remount,bind,ro", place)
        return lambda: _run("mount", "-o", "remount,bind,rw", place)

    _run("mount", "--bind", place, place)
    try:
        yield protect
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def _immutable(place: Path) -> Iterator[Callable[[], object]]:
    """Journals and directories that not even root may write to."""
    protected: list[Path] = []

    def protect() -> Callable[[], object]:
        protected.extend([*place.glob("store/journal/*.jsonl"), place / "store" / "journal", place / "store"])
        _run("chattr", "+i", *protected)
        return release

    def release() -> None:
        if protected:
            _run("chattr", "-i", *protected)
            protected.clear()

    try:
        yield protect
    finally:
        release()


_SIZE = "limit(resource.RLIMIT_FSIZE, os.fstat(recorder.fd).st_size + 1000)"
_FILES = """
taken = []
try:
    limit(resource.RLIMIT_NOFILE, 600)
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
"""
_NO_MORE_FILES = "[os.close(fd) for fd in taken]\nlimit(resource.RLIMIT_NOFILE, 1024)"

FAULTS = {
    "a full disk": Fault(_small, {"ENOSPC", "short-write"}),
    "a disk that is full from the start": Fault(_small, {"unavailable", "ENOSPC", "short-write"}, first=True),
    "no inodes": Fault(_no_inodes, set()),
    "no inodes from the start": Fault(_no_inodes, {"unavailable"}, first=True),
    "read-only from the start": Fault(_read_only, {"unavailable"}, first=True),
    "immutable": Fault(_immutable, {"EPERM"}),
    "RLIMIT_FSIZE": Fault(
        _anywhere, {"EFBIG", "short-write"}, _SIZE, "limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)"
    ),
    "RLIMIT_NOFILE": Fault(_anywhere, set(), _FILES, _NO_MORE_FILES),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.timeout(full(600, 120))
def test_error_of_a_real_place_is_accounted_for_and_recording_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault = FAULTS[name]
    place = tmp_path / "place"
    place.mkdir()
    store = place / "store"
    monkeypatch.setenv("PYJAMA_HOME", str(store))
    with fault.place(place) as begin:
        when = "first" if fault.first else "amid"
        with started(AGENT, str(CALLS), when, fault.begin, fault.end) as child:
            assert line_from(child) == "ready"
            heal = begin()
            tell(child)
            assert line_from(child) == "through"
            assert callable(heal)
            heal()
            tell(child)
            acknowledged = int(line_from(child))
            _, said = child.communicate(timeout=HANG_SECONDS)
            assert child.returncode == 0, said
        assert "Traceback" not in said
        assert said.count("\n") <= 4, said
        struck = balance(store, acknowledged)
        extra = 2 if fault.first else 0  # the session's start and the first call's were dropped as well
        assert struck.lost == 0, struck
        assert struck.doubled <= extra, struck
        assert struck.counted == struck.snapshot
        dropped = Reader(store).dashboard().health.dropped
        assert set(dropped) <= fault.reasons, dropped
        if fault.reasons:
            assert struck.dropped > 0


def test_error_of_a_process_without_descriptors_from_the_start_is_accounted_for(
    own_store: Path,
) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 700
    source = AGENT.replace("with agent_session", "exec(sys.argv[5])\nwith agent_session")
    with started(source, str(CALLS), "first", "", _NO_MORE_FILES, _FILES) as child:
        assert line_from(child) == "ready"
        tell(child)
        assert line_from(child) == "through"
        tell(child)
        acknowledged = int(line_from(child))
        _, said = child.communicate(timeout=HANG_SECONDS)
        assert child.returncode == 0, said
    struck = balance(own_store, acknowledged)
    assert (struck.lost, struck.counted) == (0, struck.snapshot)
    assert 0 < struck.dropped <= acknowledged
