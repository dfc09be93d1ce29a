"""A process under load: calls as fast as it can, at a steady rate, or now and then.

``python -m benchmarks.children.load DIRECTORY PEER``
"""

from __future__ import annotations

import mmap
import resource
import struct
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any

from benchmarks.children._serve import serve
from benchmarks.peers import start

__all__: list[str] = []

_CHUNK = 50
_TALLY = struct.Struct("=q")


class _Load:
    def __init__(self, directory: Path, name: str) -> None:
        self._row = start(name, directory).rows[0]

    def ready(self) -> bool:
        """Everything is imported and has been called once."""
        with self._row.around():
            self._row.function(1, 2)
        return True

    def run(self, start_ns: int, seconds: float, path: str, busy_threads: int = 0) -> dict[str, float]:
        """From ``start_ns`` on, call as often as possible; single durations go to the file ``path``.

        ``busy_threads`` more threads of this process compute meanwhile.
        """
        stop = threading.Event()
        threads = [threading.Thread(target=_compute, args=(stop,), daemon=True) for _ in range(busy_threads)]
        function, clock, times = self._row.function, time.perf_counter_ns, array("q")
        chunk = [0] * (_CHUNK if not busy_threads else 1)
        with self._row.around():
            _sleep_until(start_ns)
            for thread in threads:
                thread.start()
            began = time.monotonic_ns()
            end = began + int(seconds * 1e9)
            while (now := time.monotonic_ns()) < end:
                for at in range(len(chunk)):
                    before = clock()
                    function(1, 2)
                    chunk[at] = clock() - before
                times.extend(chunk)
            stop.set()
        with open(path, "wb") as file:
            times.tofile(file)
        return {"calls": len(times), "seconds": (now - began) / 1e9}

    def pace(self, start_ns: int, seconds: float, rate: int, tally: str, place: int) -> dict[str, float]:
        """``rate`` calls a second, in portions of a millisecond; the number so far is kept in the file ``tally``."""
        function, ticks = self._row.function, int(seconds * 1000)
        done = late_ns = 0
        with open(tally, "r+b") as file, mmap.mmap(file.fileno(), 0) as shared, self._row.around():
            for tick in range(ticks):
                due = start_ns + tick * 1_000_000
                late_ns = max(late_ns, -_sleep_until(due))
                for _ in range(rate * (tick + 1) // 1000 - rate * tick // 1000):
                    function(1, 2)
                    done += 1
                _TALLY.pack_into(shared, place * _TALLY.size, done)
        return {"calls": done, "late_ms": late_ns / 1e6, "seconds": (time.monotonic_ns() - start_ns) / 1e9}

    def trickle(self, start_ns: int, seconds: float, rate: float, warm_up: float) -> dict[str, float]:
        """A call now and then; CPU seconds of the process and of its flusher thread meanwhile.

        What is loaded once, for the first fold, falls into the seconds of the warm-up.
        """
        function, calls = self._row.function, int(seconds * rate)
        before = _cpu_seconds(), _flusher_seconds()
        with self._row.around():
            for call in range(-int(warm_up * rate), calls):
                _sleep_until(start_ns + int((warm_up + call / rate) * 1e9))
                if call == 0:
                    before = _cpu_seconds(), _flusher_seconds()
                function(1, 2)
            after = _cpu_seconds(), _flusher_seconds()
        return {"calls": calls, "process": after[0] - before[0], "flusher": after[1] - before[1]}


def _sleep_until(due_ns: int) -> int:
    """Sleep until then; returns the nanoseconds that were left, negative if it is late."""
    left = due_ns - time.monotonic_ns()
    if left > 0:
        time.sleep(left / 1e9)
    return left


def _compute(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _flusher_seconds() -> float:
    """CPU of the threads that the recorder has started, to the nanosecond."""
    mine = [thread.native_id for thread in threading.enumerate() if thread is not threading.main_thread()]
    paths = [Path(f"/proc/self/task/{native_id}/schedstat") for native_id in mine]
    return sum(int(path.read_text().split()[0]) for path in paths if path.exists()) / 1e9


def main() -> None:
    """Set the peer up, then answer."""
    load = _Load(Path(sys.argv[1]), sys.argv[2])
    handlers: dict[str, Any] = {name: getattr(load, name) for name in ("ready", "run", "pace", "trickle")}
    serve(handlers)


main()
