"""A storm: many processes and threads record while SIGKILLs hit them, and every single call is accounted for.

Each call carries a number of its own, which its event captures, and is acknowledged in a ledger (see ``oracle``). In
the end the events are matched with the acknowledgements one to one: every acknowledged call must be recorded, no call
may be recorded twice, and a call that is recorded without having been acknowledged must be the one that the kill of
its thread cut off between the two. A part of the kills is aimed at whoever is folding just then: it is stopped, found
to hold the store's lock, and killed while it does.

``python -m tests.faults.storm --full`` runs it at full size and prints the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.oracle import Ledger, all_numbers, numbers_recorded, settle

if TYPE_CHECKING:  # a recording process does not pay for the reader
    from pyjama_instrument.reader import Reader

__all__ = ["FULL", "Figures", "Size", "storm"]

_NUMBER = struct.Struct(">BBHI")  # slot, thread, incarnation, call: 8 bytes, so that no write spans two pages
_FLUSH_EVERY = 100
_ROOT = Path(__file__).resolve().parents[2]
_HANG_SECONDS = 3000.0
_AIM_SECONDS = 0.5


@dataclass(frozen=True)
class Size:
    """How many processes, threads in each, calls each thread has to make, kills, and processes at a time."""

    processes: int
    threads: int
    calls: int
    kills: int
    at_once: int


@dataclass
class Figures:
    """What a storm came to."""

    acknowledged: int = 0
    recorded: int = 0
    counted: int = 0
    snapshot: int = 0
    unacknowledged: int = 0
    twice: int = 0
    missing: int = 0
    unexplained: int = 0
    kills: int = 0
    killed_folding: int = 0
    torn: int = 0
    crashed: int = 0
    completed: int = 0
    looks: int = 0
    seconds: float = 0.0


# -- a recording process


def work_off(acks: Path, slot: int, incarnation: int, size: Size) -> None:
    """What a recording process does: the calls that its predecessors in the slot have not made."""
    from pyjama_instrument import agent_session, flush, tool

    @tool("numbered", capture=("number",))
    def numbered(number: int) -> int:
        return number

    def thread(index: int) -> None:
        made = sum(path.stat().st_size // 8 for path in acks.glob(f"{slot}-{index}-*"))
        ledger = Ledger(acks / f"{slot}-{index}-{incarnation}")
        for call in range(size.calls - made):
            while made + call >= _allowed(acks, slot, size):
                time.sleep(0.001)
            number = int.from_bytes(_NUMBER.pack(slot, index, incarnation, call))
            assert numbered(number) == number
            ledger.acknowledge(number)
            if index == 0 and call % _FLUSH_EVERY == 0:
                flush()  # so that kills hit folds as well

    with agent_session(f"slot-{slot}") as run:
        threads = [threading.Thread(target=run.bind(thread), args=(index,)) for index in range(size.threads)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()


def _allowed(acks: Path, slot: int, size: Size) -> int:
    """How many calls a thread of the slot may have made by now: they must not be through before the kills are."""
    kills = os.stat(acks.parent / "kills").st_size
    if kills == size.kills:
        return size.calls
    waves = -(-size.processes // size.at_once)
    share = waves * (kills + 2) / (size.kills + 1) - slot // size.at_once
    last = slot // size.at_once == waves - 1
    return min(size.calls - last, int(size.calls * max(0.0, share)))


# -- the storm around it


class _Storm:
    def __init__(self, home: Path, size: Size, seed: int) -> None:
        self.home, self.size = home, size
        self.acks = home.parent / "acks"
        self.acks.mkdir()
        (home.parent / "kills").touch()
        self.random = random.Random(seed)
        self.environment = os.environ | {"PYJAMA_HOME": str(home)}
        self.incarnations = [0] * size.processes
        self.waiting = list(range(size.processes))
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.killed: set[tuple[int, int]] = set()
        self.figures = Figures()

    def start(self, slot: int) -> subprocess.Popen[bytes]:
        size, incarnation = self.size, self.incarnations[slot]
        numbers = map(str, (slot, incarnation, *vars(size).values()))
        command = [sys.executable, "-W", "error", "-m", "tests.faults.storm", "--worker", str(self.acks), *numbers]
        return subprocess.Popen(command, env=self.environment, cwd=_ROOT)

    def run(self) -> Figures:
        """Kill evenly over the whole of the work, replace what was killed, and look on meanwhile."""
        from pyjama_instrument.reader import Reader

        began, reader, seen, look_at = time.monotonic(), Reader(self.home), 0, 0.0
        step = self.size.processes * self.size.threads * self.size.calls / (self.size.kills + 1)
        try:
            while self.workers or self.waiting:
                while self.waiting and len(self.workers) < self.size.at_once:
                    slot = self.waiting.pop(0)
                    self.workers[slot] = self.start(slot)
                assert time.monotonic() < began + _HANG_SECONDS, "the storm does not end"
                self.reap()
                if len(self.killed) < self.size.kills and self.progress() >= step * (len(self.killed) + 1):
                    self.kill_one()
                if time.monotonic() >= look_at:
                    seen = self.look(reader, seen)
                    look_at = time.monotonic() + 0.2
                time.sleep(0.002)
        finally:
            for worker in self.workers.values():
                worker.kill()
                worker.wait()
        self.figures.seconds = time.monotonic() - began
        return self.reckon(reader)

    def ready(self, slot: int) -> bool:
        """Whether the slot's present process has come to its calls."""
        return any(self.acks.glob(f"{slot}-*-{self.incarnations[slot]}"))

    def progress(self) -> int:
        return sum(entry.stat().st_size for entry in os.scandir(self.acks)) // 8

    def reap(self) -> None:
        for slot, worker in list(self.workers.items()):
            if worker.poll() is not None:
                assert worker.returncode == 0, f"a worker failed: {worker.returncode}"
                del self.workers[slot]

    def kill_one(self) -> None:
        candidates = [slot for slot in self.workers if self.ready(slot)]
        if not candidates:
            return
        slot = self.caught_folding(candidates) if self.random.random() < 0.5 else None
        if slot is None:
            slot = self.random.choice(candidates)
            time.sleep(self.random.random() * 0.003)  # anywhere in what it does
        else:
            self.figures.killed_folding += 1
        self.workers[slot].kill()
        if self.workers[slot].wait() == 0:  # it was through before the signal came
            del self.workers[slot]
            return
        self.killed.add((slot, self.incarnations[slot]))
        with open(self.home.parent / "kills", "ab") as kills:
            kills.write(b".")
        self.incarnations[slot] += 1
        self.workers[slot] = self.start(slot)

    def caught_folding(self, candidates: list[int]) -> int | None:
        """A process that is stopped in the middle of a fold, as the kernel's list of locks says; None if none is."""
        slots = {self.workers[slot].pid: slot for slot in candidates}
        deadline = time.monotonic() + _AIM_SECONDS
        while time.monotonic() < deadline:
            pid = self.holder()
            if pid in slots:
                os.kill(pid, signal.SIGSTOP)
                if self.holder() == pid:
                    return slots[pid]
                os.kill(pid, signal.SIGCONT)
        return None

    def holder(self) -> int | None:
        """The process that holds the store's lock."""
        try:
            inode = os.stat(self.home / "metrics.json.lock").st_ino
            lines = Path("/proc/locks").read_text().splitlines()
        except FileNotFoundError:
            return None
        held = [line.split() for line in lines if f":{inode} " in line and " FLOCK " in line and "->" not in line]
        return int(held[0][4]) if held else None

    def look(self, reader: Reader, seen: int) -> int:
        """The count never goes back, and ``metrics.json`` is whole."""
        count = reader.dashboard().metrics.global_.count
        assert count >= seen, f"the count went back from {seen} to {count}"
        if (self.home / "metrics.json").exists():
            json.loads((self.home / "metrics.json").read_bytes())
        self.figures.looks += 1
        return count

    # -- the reckoning

    def reckon(self, reader: Reader) -> Figures:
        from pyjama_instrument.reader import Reader
        from tests.stores import snapshot

        figures = self.figures
        acks, recorded = all_numbers(self.acks), numbers_recorded(self.home)
        acknowledged = set(acks)
        assert len(acks) == len(acknowledged)
        figures.kills = len(self.killed)
        figures.acknowledged, figures.recorded = len(acknowledged), len(recorded)
        once = set(recorded)
        figures.twice = len(recorded) - len(once)
        figures.missing = len(acknowledged - once)
        extra = once - acknowledged
        figures.unacknowledged = len(extra)
        figures.unexplained = sum(not self.cut_off(number, acknowledged) for number in extra)
        data = Reader(self.home).dashboard()
        assert data == reader.dashboard().model_copy(update={"timestamp": data.timestamp})
        figures.counted, figures.torn = data.metrics.global_.count, data.health.torn
        settle(self.home)
        figures.snapshot = snapshot(self.home)["global"]["count"]
        runs = [agent.runs for agent in Reader(self.home).dashboard().agents.values()]
        figures.crashed, figures.completed = sum(run.crashed for run in runs), sum(run.completed for run in runs)
        return figures

    def cut_off(self, number: int, acknowledged: set[int]) -> bool:
        """Whether the call is the one that a kill of its thread left between recording and acknowledgement."""
        slot, _, incarnation, call = _NUMBER.unpack(number.to_bytes(8))
        after_the_last = call == 0 or number - 1 in acknowledged
        return (slot, incarnation) in self.killed and after_the_last and number + 1 not in acknowledged


def storm(home: Path, size: Size, *, seed: int = 0) -> Figures:
    """Run a storm on an empty store at ``home``; its figures."""
    return _Storm(home, size, seed).run()


FULL = Size(processes=64, threads=2, calls=2500, kills=500, at_once=6)
"""64 processes that make 5,000 calls each, and 500 kills."""


def _main() -> None:
    parser = argparse.ArgumentParser(description="record in many processes, kill them, account for every call")
    parser.add_argument("--full", action="store_true", help="64 processes, 5,000 calls each, 500 kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", nargs=8, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        acks, slot, incarnation, *size = options.worker
        work_off(Path(acks), int(slot), int(incarnation), Size(*map(int, size)))
        return
    size = FULL if options.full else Size(processes=6, threads=2, calls=200, kills=12, at_once=4)
    with tempfile.TemporaryDirectory() as directory:
        figures = storm(Path(directory, "store"), size, seed=options.seed)
    print(size)
    for name, figure in vars(figures).items():
        print(f"{name:>16}  {figure}")


if __name__ == "__main__":
    _main()
