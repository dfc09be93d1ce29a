"""A process that calls what peers have decorated, and says what it cost.

``python -m benchmarks.children.rows DIRECTORY PEER…``; the peers share the process and the directory.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from benchmarks.children._loops import LOOPS, time_each
from benchmarks.children._serve import serve, stay_on_cpu
from benchmarks.peers import Peer, Row, recorded, start

__all__: list[str] = []

_BARE_CALLS = 2000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class _Rows:
    """The peers of this process, set up."""

    def __init__(self, directory: Path, names: list[str]) -> None:
        self._resident_at_start = _resident()
        self._directory = directory
        self._names = names
        self._peers: dict[str, Peer] = {name: start(name, directory) for name in names}
        self._rows: dict[str, tuple[Peer, Row]] = {
            f"{name}/{row.name}": (peer, row) for name, peer in self._peers.items() for row in peer.rows
        }

    def rows(self) -> list[str]:
        """What there is to measure."""
        return list(self._rows)

    def calibrate(self, budget_ns: int, most: int) -> dict[str, int]:
        """How many calls of each row take ``budget_ns``, at least 10 and at most ``most``."""
        calls = {}
        for name, (peer, row) in self._rows.items():
            with row.around():
                LOOPS[row.style](row.function, 10)
                each = LOOPS[row.style](row.function, 20) / 20
            peer.drain()
            peer.renew()
            calls[name] = max(10, min(most, int(budget_ns / each)))
        return calls

    def cost(self, calls: dict[str, int]) -> dict[str, dict[str, float]]:
        """One round: ns a call of each row and of its bare function, and of CPU until all is where it belongs.

        The first two are to be subtracted from each other; the bare function's own CPU has been subtracted already.
        """
        return {name: self._cost(name, count) for name, count in calls.items()}

    def _cost(self, name: str, calls: int) -> dict[str, float]:
        peer, row = self._rows[name]
        loop = LOOPS[row.style]
        bare_calls = calls if row.style == "slow" else max(calls, _BARE_CALLS)
        gc.collect()
        cpu = time.process_time_ns()
        bare = loop(row.bare, bare_calls) / bare_calls
        bare_cpu = (time.process_time_ns() - cpu) / bare_calls
        with row.around():
            cpu = time.process_time_ns()
            total = loop(row.function, calls) / calls
        peer.drain()
        sample = {"bare": bare, "row": total, "cpu": (time.process_time_ns() - cpu) / calls - bare_cpu}
        peer.renew()
        return sample

    def bare(self, calls: int, path: str) -> None:
        """Time single calls of the bare function: what the machine and the clock add by themselves."""
        row = next(iter(self._rows.values()))[1]
        self._time_each(row.bare, calls, path)

    def tail(self, row: str, calls: int, path: str) -> None:
        """Time single calls; the times are appended to the file ``path``."""
        peer, decorated = self._rows[row]
        with decorated.around():
            self._time_each(decorated.function, calls, path)
        peer.renew()

    def _time_each(self, function: Any, calls: int, path: str) -> None:
        times = array("q", bytes(8 * calls))
        time_each(function, times)
        with open(path, "ab") as file:
            times.tofile(file)

    def burst(self, calls: int) -> None:
        """Call, and die at once."""
        row = self._peers[self._names[0]].rows[0]
        with row.around():
            LOOPS[row.style](row.function, calls)
            os.kill(os.getpid(), signal.SIGKILL)

    def recorded(self) -> int | None:
        """What the first peer can show of the calls made so far."""
        return recorded(self._names[0], self._directory)

    def resident(self, calls: int) -> dict[str, float]:
        """Make so many calls of the first row.

        Returns:
            bytes of memory at the start, before and after, and the time until everything is where it belongs.
        """
        peer = self._peers[self._names[0]]
        row = peer.rows[0]
        before = self._settled(peer)
        began = time.perf_counter_ns()
        with row.around():
            LOOPS[row.style](row.function, calls)
        after = self._settled(peer)
        took = time.perf_counter_ns() - began
        return {"start": self._resident_at_start, "before": before, "after": after, "ns": took}

    def _settled(self, peer: Peer) -> int:
        peer.drain()
        gc.collect()
        return _resident()

    def files(self) -> int:
        """Bytes on disk under the directory."""
        return sum(path.stat().st_size for path in self._directory.rglob("*") if path.is_file())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def main() -> None:
    """Set the peers up, then answer."""
    stay_on_cpu()
    rows = _Rows(Path(sys.argv[1]), sys.argv[2:])
    names = ("rows", "calibrate", "cost", "bare", "tail", "burst", "recorded", "resident", "files")
    serve({name: getattr(rows, name) for name in names})


main()
