"""Power loss: ext4 on a loop device is shut down under load without its log being flushed, and mounted again.

``EXT4_IOC_SHUTDOWN`` with ``NOLOGFLUSH`` is what xfstests uses for a crash: the file system stops at once, whatever
is only in memory (data not written back, transactions not committed) is gone, and mounting recovers from the log. What
it does not imitate is a disk that reorders writes between two barriers. Nothing is synced but what the package syncs
itself, so the journals' latest seconds may be lost; the document may not, and nothing may count twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.reader import Reader
from tests.faults.oracle import balance
from tests.process.children import HANG_SECONDS, line_from, started, until
from tests.scale import full
from tests.stores import Writer, a_call, dead_journal, fold, session_begins, snapshot

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NOLOGFLUSH = struct.pack("I", 2)


class Disk:
    """An ext4 image that can lose its power."""

    def __init__(self, place: Path, options: str) -> None:
        self.image, self.mounted, self.options = place / "disk.img", place / "disk", f"loop,commit=1{options}"
        self.mounted.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(24 * 1024 * 1024)
        _run("mkfs.ext4", "-q", "-F", str(self.image))

    @contextlib.contextmanager
    def power(self) -> Iterator[Path]:
        """Mounted for the block, which may have lost its power by its end."""
        _run("mount", "-o", self.options, str(self.image), str(self.mounted))
        try:
            yield self.mounted / "store"
        finally:
            _run("umount", str(self.mounted))

    def lose_power(self) -> None:
        fd = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NOLOGFLUSH)
        finally:
            os.close(fd)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture(params=["", ",noauto_da_alloc"], ids=["default options", "noauto_da_alloc"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and e2fsprogs, for a file system to take the power from")
    disk = Disk(tmp_path, request.param)
    try:
        with disk.power():
            disk.lose_power()
    except OSError as error:
        pytest.skip(f"no loop-mounted ext4 that can be shut down here: {error}")
    return disk


LOAD = """
acks = os.open(os.environ["ACKS"] + sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
with agent_session(sys.argv[1]):
    say("ready")
    for n in range(1_000_000):
        assert work(n) == n
        os.write(acks, bytes(8))
        if n % 7 == 0:
            time.sleep(0.001)
        if n % 400 == 399:
            flush()
"""


def _recorded_under_load(disk: Disk, home: Path, acks: Path, generations: int) -> dict[str, Any]:
    """Two processes record until so many generations are written, then the power goes; the last but one of them."""
    environment = os.environ | {"PYJAMA_HOME": str(home), "ACKS": f"{acks}/"}
    with started(LOAD, "a", env=environment) as one, started(LOAD, "b", env=environment) as two:
        for child in (one, two):
            assert line_from(child) == "ready"
        seen: list[dict[str, Any]] = []

        def enough() -> bool:
            with contextlib.suppress(FileNotFoundError):
                document = snapshot(home)
                if not seen or document["generation"] != seen[-1]["generation"]:
                    seen.append(document)
            return len(seen) >= generations

        until(enough)
        disk.lose_power()
        for child in (one, two):  # their calls go on as if nothing was: nobody tells the host
            assert child.poll() is None
            child.kill()
            child.communicate(timeout=HANG_SECONDS)
    return seen[-2]  # the one after it was begun when this one was on the disk for good


@pytest.mark.timeout(full(3600, 120))
def test_power_loss_leaves_a_whole_document_and_doubles_nothing(disk: Disk, tmp_path: Path) -> None:
    chance = random.Random(0)
    acks = tmp_path / "acks"
    acks.mkdir()
    before = 0  # counted when the power came back the last time
    for _ in range(full(60, 2)):
        for path in acks.iterdir():
            path.unlink()
        with disk.power() as home:
            durable = _recorded_under_load(disk, home, acks, chance.randint(2, 5))
        acknowledged = sum(path.stat().st_size for path in acks.iterdir()) // 8
        with disk.power() as home:
            assert (home / "metrics.json").exists()
            document = json.loads((home / "metrics.json").read_bytes())
            assert document["generation"] >= durable["generation"]
            counted = Reader(home).dashboard().metrics.global_.count
            assert durable["global"]["count"] <= counted <= before + acknowledged + 2  # the kill cuts off one each
            assert "running" not in {session.status for session in Reader(home).dashboard().sessions.values()}
            # Start-up works, and what is recorded from now on is counted, whatever lies behind the offsets.
            with started("[work(n) for n in range(50)]", env=os.environ | {"PYJAMA_HOME": str(home)}) as child:
                _, said = child.communicate(timeout=HANG_SECONDS)
                assert (child.returncode, said) == (0, "")
            balance(home, counted + 50).check()
            assert not [name for name in os.listdir(home) if "tmp" in name or name == "metrics.lock"]
            before = counted + 50
            shutil.rmtree(home / "history")


@pytest.mark.parametrize("place", ["journal", "history"])
def test_power_loss_that_shortens_a_journal_below_its_offset_loses_nothing_later(own_store: Path, place: str) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), *[a_call() for _ in range(20)])
    if place == "history":
        writer.die()
    fold(own_store)
    path = own_store / place / writer.journal.name.filename
    os.truncate(path, path.stat().st_size // 2)
    writer.die()
    dead_journal(own_store, a_call(), a_call())
    balance(own_store, 22).check()


def test_power_loss_that_leaves_zeros_at_a_journal_s_end_takes_only_them(own_store: Path) -> None:
    name = dead_journal(own_store, session_begins(), a_call(), a_call())
    with open(own_store / "journal" / name.filename, "ab") as file:
        file.write(bytes(5000))
    dead_journal(own_store, a_call())
    balance(own_store, 3).check()
