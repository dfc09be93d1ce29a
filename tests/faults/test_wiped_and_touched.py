"""Wiped and touched: what people and other programs do to the files of a store while agents record into it.

Nothing crashes and recording goes on. Where journals and one of the two generations are left alone the count stays
exact, and what was damaged is kept aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.reader import Reader
from tests.faults.oracle import all_numbers, balance
from tests.process.children import HANG_SECONDS, line_from, started, tell, until
from tests.scale import full
from tests.stores import Writer, a_call, fold, session_begins, snapshot

LOAD = """
import select
from tests.faults.oracle import Ledger
ledger = Ledger(os.environ["LEDGERS"] + sys.argv[1])
with agent_session(sys.argv[1]):
    work()
    say("ready")
    n = 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        assert work(n) == n
        ledger.acknowledge(n)
        n += 1
"""


@contextlib.contextmanager
def under_load(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two agents record during the block; they must come to their end afterwards, without a traceback."""
    ledgers = tmp_path / "ledgers"
    ledgers.mkdir()
    environment = os.environ | {"LEDGERS": f"{ledgers}/"}
    where = {"env": environment, "cwd": Path(__file__).resolve().parents[2]}
    with started(LOAD, "a", **where) as one, started(LOAD, "b", **where) as two:
        for child in (one, two):
            assert line_from(child) == "ready"
        yield [one, two]
        for child in (one, two):
            tell(child)
        for child in (one, two):
            _, err = child.communicate(timeout=HANG_SECONDS)
            assert child.returncode == 0, err
            assert "Traceback" not in err
            assert err.count("\n") <= 3, err


def counted(home: Path) -> int:
    """What a whole snapshot says; -1 where there is none just now."""
    return _figure(home, lambda document: int(document["global"]["count"]))


def _figure(home: Path, figure: Callable[[Any], int]) -> int:
    try:
        found = os.lstat(home / "metrics.json")
        if not stat.S_ISREG(found.st_mode) or found.st_size > 1 << 26:
            return -1
        return figure(snapshot(home))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return -1


def goes_on(home: Path) -> None:
    """The snapshot is whole, or is so again, and counts on."""
    before = until(lambda: max(0, counted(home)))
    until(lambda: counted(home) >= before + 10)


def reading_works(home: Path) -> None:
    Reader(home).dashboard()
    with contextlib.suppress(FileNotFoundError):
        Reader(home).tail(10)


# -- accidents that leave the journals and one generation alone: the count is exact


def _replace(home: Path, name: str, put: Callable[[Path], object]) -> None:
    path = home / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    put(path)


def _zeros(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(full(1 << 30, 1 << 28) + 1)


def _in_one_step(home: Path, put: Callable[[Path], object]) -> None:
    """In the snapshot's place, which is never missing: that would be a wish to clear."""
    put(home / "other")
    os.replace(home / "other", home / "metrics.json")


EXACT: dict[str, Callable[[Path], object]] = {
    "the predecessor is removed": lambda home: (home / "metrics.json.prev").unlink(missing_ok=True),
    "the kernel lock is removed": lambda home: (home / "metrics.json.lock").unlink(missing_ok=True),
    "the original's lock is removed": lambda home: (home / "metrics.lock").unlink(missing_ok=True),
    "the snapshot is truncated": lambda home: os.truncate(home / "metrics.json", 0),
    "the snapshot is cut in half": lambda home: os.truncate(home / "metrics.json", 300),
    "the snapshot is junk": lambda home: _in_one_step(home, lambda path: path.write_bytes(os.urandom(5000))),
    "the snapshot is zeros": lambda home: _in_one_step(home, _zeros),
    "the snapshot is a FIFO": lambda home: _in_one_step(home, os.mkfifo),
    "the snapshot is a link to nothing": lambda home: _in_one_step(home, lambda path: path.symlink_to("nowhere")),
    "the snapshot is a link to a device": lambda home: _in_one_step(home, lambda path: path.symlink_to("/dev/zero")),
    "the snapshot is a number": lambda home: _in_one_step(home, lambda path: path.write_text("5")),
    "the snapshot is nested deeply": lambda home: _in_one_step(home, lambda path: path.write_text("[" * 200_000)),
    "the snapshot holds NaN": lambda home: _in_one_step(home, lambda path: path.write_text('{"journals": {"x": NaN}}')),
    "the predecessor is junk": lambda home: (home / "metrics.json.prev").write_bytes(os.urandom(500)),
    "the predecessor is a FIFO": lambda home: _replace(home, "metrics.json.prev", os.mkfifo),
    "the history is emptied": lambda home: [path.unlink() for path in home.glob("history/*")],
    "strangers are in journal/": lambda home: [
        (home / "journal" / "notes.txt").write_text("mine"),
        (home / "journal" / "00ff00ff00ff00ff-1.jsonl").mkdir(exist_ok=True),
        _replace(home / "journal", "11ff00ff00ff00ff-1.jsonl", os.mkfifo),
        _replace(home / "journal", "22ff00ff00ff00ff-1.jsonl", lambda path: path.symlink_to("/etc/passwd")),
        _replace(home / "journal", "33ff00ff00ff00ff-1.jsonl", _zeros),
        (home / "journal" / "44ff00ff00ff00ff-1.jsonl").write_bytes(os.urandom(100_000).replace(b'"tool.ended"', b"")),
    ],
}


@pytest.mark.timeout(full(1800, 120))
@pytest.mark.parametrize("portion", range(full(3, 1)))
def test_touched_files_that_can_be_made_up_for_leave_the_count_exact(
    own_store: Path, tmp_path: Path, portion: int
) -> None:
    with under_load(tmp_path):
        goes_on(own_store)
        until((own_store / "metrics.json.prev").exists)
        for accident in list(EXACT)[portion::3] * full(3, 1):
            generation = snapshot(own_store)["generation"]
            # Both generations have to be sound when one of them is damaged.
            until(lambda generation=generation: _sound(own_store) > generation + 1)  # type: ignore[misc]
            with contextlib.suppress(FileNotFoundError):
                EXACT[accident](own_store)
            reading_works(own_store)
            goes_on(own_store)
    shutil.rmtree(own_store / "journal" / "00ff00ff00ff00ff-1.jsonl", ignore_errors=True)
    balance(own_store, len(all_numbers(tmp_path / "ledgers")) + 2).check()
    assert not (own_store / "metrics.lock").exists()


def _sound(home: Path) -> int:
    """The generation, if both are sound."""
    try:
        json.loads((home / "metrics.json.prev").read_bytes() if (home / "metrics.json.prev").is_file() else b"")
    except (OSError, ValueError):
        return -1
    return _figure(home, lambda document: int(document["generation"]))


def test_touched_snapshot_is_kept_aside_and_told(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    (own_store / "metrics.json").write_bytes(b"junk")
    assert any("metrics.json cannot be read" in note for note in Reader(own_store).dashboard().health.notes)
    fold(own_store)
    assert [path.read_bytes() for path in own_store.glob("metrics.json.corrupt-*")] == [b"junk"]
    balance(own_store, 1).check()
    writer.die()


@pytest.mark.parametrize("value", ["1e999", "-1e999"])
def test_touched_numbers_beyond_all_bounds_do_not_make_the_snapshot_unreadable_to_others(
    own_store: Path, value: str
) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    document = snapshot(own_store)
    document["global"]["total-duration"] = document["tools"]["search"]["extra"] = 12345
    (own_store / "metrics.json").write_text(json.dumps(document).replace("12345", value))
    writer.write(a_call())
    fold(own_store)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    json.loads((own_store / "metrics.json").read_bytes(), parse_constant=refuse)
    assert snapshot(own_store)["global"]["count"] == 2
    writer.die()


def test_touched_snapshot_of_a_newer_version_is_never_overwritten_under_load(own_store: Path, tmp_path: Path) -> None:
    newer = b'{"schema": 999, "journals": {}, "things": [1]}'
    with under_load(tmp_path):
        goes_on(own_store)
        whole = (own_store / "metrics.json").read_bytes()
        with contextlib.ExitStack() as lock:  # as a newer version would: not in the middle of a fold
            until(lambda: _makes(own_store / "metrics.lock"))
            lock.callback((own_store / "metrics.lock").unlink)
            whole = (own_store / "metrics.json").read_bytes()
            _in_one_step(own_store, lambda path: path.write_bytes(newer))
        made = len(all_numbers(tmp_path / "ledgers"))
        until(lambda: len(all_numbers(tmp_path / "ledgers")) > made + 300)
        assert (own_store / "metrics.json").read_bytes() == newer
        assert any("upgrade" in note for note in Reader(own_store).dashboard().health.notes)
        _in_one_step(own_store, lambda path: path.write_bytes(whole))
    balance(own_store, len(all_numbers(tmp_path / "ledgers")) + 2).check()


def _makes(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


# -- accidents that take events with them: nothing crashes, and what comes later counts


def _journals(home: Path, do: Callable[[Path], object]) -> None:
    for path in home.glob("journal/*.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            do(path)


LOSSY: dict[str, Callable[[Path], object]] = {
    "everything is removed": lambda home: shutil.rmtree(home, ignore_errors=True),
    "the snapshot is removed": lambda home: (home / "metrics.json").unlink(missing_ok=True),
    "the journals are removed": lambda home: _journals(home, Path.unlink),
    "the journals are truncated": lambda home: _journals(home, lambda path: os.truncate(path, 0)),
    "the directory journal/ is removed": lambda home: shutil.rmtree(home / "journal", ignore_errors=True),
    "the directory history/ is removed": lambda home: shutil.rmtree(home / "history", ignore_errors=True),
    "journal/ is a file for a while": lambda home: [
        shutil.rmtree(home / "journal", ignore_errors=True),
        (home / "journal").write_text("mine"),
        time.sleep(1.0),  # long enough for somebody to run into it, not for anything to be waited for
        (home / "journal").unlink(),
    ],
    "the store is a file for a while": lambda home: [
        os.rename(home, home.with_name("moved")),
        home.write_text("mine"),
        time.sleep(1.0),
        home.unlink(),
        shutil.rmtree(home.with_name("moved"), ignore_errors=True),
    ],
    "the journals are overwritten": lambda home: _journals(home, lambda path: path.write_bytes(os.urandom(3000))),
    "all files are removed": lambda home: [path.unlink(missing_ok=True) for path in home.rglob("*") if path.is_file()],
}


@pytest.mark.timeout(full(1800, 120))
@pytest.mark.parametrize("portion", range(full(2, 1)))
def test_wiped_stores_are_begun_anew_and_what_comes_later_counts(own_store: Path, tmp_path: Path, portion: int) -> None:
    with under_load(tmp_path):
        goes_on(own_store)
        for accident in list(LOSSY)[portion::2] * full(3, 1):
            with contextlib.suppress(OSError):  # somebody makes files while we remove them
                LOSSY[accident](own_store)
            reading_works(own_store)
            until(lambda: set(Reader(own_store).dashboard().agents) >= {"a", "b"}, accident)
            goes_on(own_store)
    struck = balance(own_store, len(all_numbers(tmp_path / "ledgers")) + 2)
    assert struck.counted == struck.snapshot
    assert struck.doubled == 0, struck


@pytest.mark.timeout(full(600, 120))
def test_wiped_every_two_seconds_under_load_disturbs_nobody(own_store: Path, tmp_path: Path) -> None:
    with under_load(tmp_path) as children:
        for _ in range(full(60, 2)):
            made = len(all_numbers(tmp_path / "ledgers"))
            subprocess.run(["rm", "-rf", str(own_store)], check=False)
            time.sleep(full(2.0, 0.5))
            until(lambda made=made: len(all_numbers(tmp_path / "ledgers")) > made)  # type: ignore[misc]
            assert [child.poll() for child in children] == [None, None]
        goes_on(own_store)
    assert balance(own_store, len(all_numbers(tmp_path / "ledgers")) + 2).doubled == 0
