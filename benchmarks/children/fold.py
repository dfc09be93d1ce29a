"""Folds made-up stores and says how long that takes: ``python -m benchmarks.children.fold DIRECTORY``."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.children import _stores as stores
from benchmarks.children._serve import serve, stay_on_cpu
from pyjama_instrument.storage.compaction import compact

__all__: list[str] = []

_EVENTS_PER_FOLD = 100
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class _Folds:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0

    def rate(self, events: int, tools: int, sessions: int) -> dict[str, float]:
        """Fold so many events of a dead writer into an empty store, in one go."""
        writers = self._new_store()
        runs = [(f"agent-{at}", stores.session_id()) for at in range(sessions)]
        lines = [stores.call(*runs[at % sessions], f"tool-{at % tools}") for at in range(events)]
        writers.dead([*(stores.started(*run) for run in runs), *lines])
        gc.collect()
        took = _timed(lambda: compact(writers.store))
        self._drop(writers)
        return {"events": events, "ns": took, "bytes": sum(map(len, lines)) / events}

    def by_document(self, tools: int, sessions: int, folds: int) -> dict[str, Any]:
        """Folds of a few events each, into a document of that size."""
        writers = self._new_store()
        stores.fill(writers, tools=tools, sessions=sessions)
        agent, session = "agent-0", stores.session_id()
        writer = writers.live([stores.started(agent, session)])
        compact(writers.store)
        compact(writers.store)
        times = []
        for _ in range(folds):
            writers.append(
                writer, [stores.call(agent, session, f"tool-{at % tools}") for at in range(_EVENTS_PER_FOLD)]
            )
            times.append(_timed(lambda: compact(writers.store)))
        size = os.stat("metrics.json", dir_fd=writers.store.fd).st_size
        answer = {"ns": times, "bytes": size, "disk_ns": [self._write_alone(size) for _ in range(folds)]}
        self._drop(writers)
        return answer

    def by_journals(self, live: int, dead: int, folds: int) -> dict[str, Any]:
        """The first two folds of a store with so many writers, and then folds of a few events each."""
        writers = self._new_store()
        busy = ""
        for at in range(live):
            run = f"agent-{at % 50}", stores.session_id()
            busy = writers.live([stores.started(*run), stores.call(*run, "tool")])
        for at in range(dead):
            run = f"agent-{at % 50}", stores.session_id()
            writers.dead([stores.started(*run), stores.call(*run, "tool"), stores.ended(*run)])
        first, second = (_timed(lambda: compact(writers.store)) for _ in range(2))
        times = []
        agent, session = "agent-0", stores.session_id()
        busy = busy or writers.live()
        for _ in range(folds):
            writers.append(busy, [stores.call(agent, session, "tool") for _ in range(_EVENTS_PER_FOLD)])
            times.append(_timed(lambda: compact(writers.store)))
        self._drop(writers)
        return {"first": first, "second": second, "ns": times}

    def beside(self, events: int, path: str) -> dict[str, float]:
        """Time single calls of a tool, first alone, then while this process folds ``events`` of another writer."""
        from pyjama_instrument import agent_session, configure, flush, tool
        from pyjama_instrument.recording.settings import reset_for_testing

        writers = self._new_store()
        configure(home=writers.store.path)
        function = tool(_add)
        with agent_session("benchmark"):
            alone = _times(function, lambda done: done < 20_000)
            flush()
            run = "other", stores.session_id()
            writers.dead([stores.started(*run), *(stores.call(*run, f"tool-{at % 100}") for at in range(events))])
            gc.collect()
            folding = threading.Thread(target=flush)  # what the flusher does, begun at a known moment
            began = time.perf_counter_ns()
            folding.start()
            meanwhile = _times(function, lambda done: folding.is_alive())
            took = time.perf_counter_ns() - began
        reset_for_testing()
        self._drop(writers)
        with open(path, "wb") as file:
            meanwhile.tofile(file)
        return {"alone_median": sorted(alone)[len(alone) // 2], "fold_ns": took, "calls": len(meanwhile)}

    def _write_alone(self, size: int) -> int:
        """Write and sync so many bytes as the snapshot is: what of a fold's time is the disk's."""
        data, path = b"x" * size, self._directory / "alone"

        def write() -> None:
            fd = os.open(path, _NEW_FILE, 0o600)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)
            os.replace(path, self._directory / "replaced")

        return _timed(write)

    def _new_store(self) -> stores.Writers:
        self._number += 1
        return stores.Writers(self._directory / f"store-{self._number}")

    def _drop(self, writers: stores.Writers) -> None:
        writers.close()
        shutil.rmtree(writers.store.path)


def _add(a: int, b: int) -> int:
    return a + b


def _times(function: Callable[..., Any], go_on: Callable[[int], bool]) -> array[int]:
    times, clock = array("q"), time.perf_counter_ns
    while go_on(len(times)):
        began = clock()
        function(1, 2)
        times.append(clock() - began)
    return times


def _timed(work: Callable[[], Any]) -> int:
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


def main() -> None:
    """Answer."""
    stay_on_cpu()
    folds = _Folds(Path(sys.argv[1]))
    serve({name: getattr(folds, name) for name in ("rate", "by_document", "by_journals", "beside")})


main()
