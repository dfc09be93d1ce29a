"""Reads made-up stores and says how long that takes: ``python -m benchmarks.children.read DIRECTORY``.

``first`` of each figure is a reader that has read nothing yet, ``steady`` one that asks again after a few events.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.children import _stores as stores
from benchmarks.children._serve import serve, stay_on_cpu
from pyjama_instrument.reader import Reader
from pyjama_instrument.storage.compaction import compact

__all__: list[str] = []

_EVENTS_PER_POLL = 10


class _Reads:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0

    def by_document(self, tools: int, sessions: int, polls: int) -> dict[str, Any]:
        """A store whose document has that size."""
        writers = self._new_store()
        stores.fill(writers, tools=tools, sessions=sessions)
        compact(writers.store)
        return self._read(writers, [writers.live()], polls)

    def by_journals(self, live: int, dead: int, polls: int) -> dict[str, Any]:
        """A store with so many live writers and so many that are dead, folded and retired."""
        writers = self._new_store()
        for at in range(dead):
            run = f"agent-{at % 50}", stores.session_id()
            writers.dead([stores.started(*run), stores.call(*run, "tool"), stores.ended(*run)])
        busy = []
        for at in range(live):
            run = f"agent-{at % 50}", stores.session_id()
            busy.append(writers.live([stores.started(*run), stores.call(*run, "tool")]))
        compact(writers.store)
        compact(writers.store)
        return self._read(writers, busy, polls)

    def unfolded(self, events: int) -> dict[str, Any]:
        """The first look at a store whose events nobody has folded yet."""
        writers = self._new_store()
        run = "agent", stores.session_id()
        writers.live([stores.started(*run), *(stores.call(*run, f"tool-{at % 100}") for at in range(events))])
        return self._read(writers, [writers.live()], 3)

    def _read(self, writers: stores.Writers, busy: list[str], polls: int) -> dict[str, Any]:
        home = writers.store.path
        first = [_timed(lambda: Reader(home).dashboard()) for _ in range(3)]
        reader = Reader(home)
        reader.dashboard()
        agent, session = "agent-0", stores.session_id()
        steady, idle = [], []
        for poll in range(polls):
            for at in range(_EVENTS_PER_POLL):
                writers.append(
                    busy[(poll * _EVENTS_PER_POLL + at) % len(busy)], [stores.call(agent, session, "tool-0")]
                )
            steady.append(_timed(reader.dashboard))
            idle.append(_timed(reader.dashboard))
        writers.close()
        shutil.rmtree(home)
        return {"first": first, "steady": steady, "idle": idle}

    def _new_store(self) -> stores.Writers:
        self._number += 1
        return stores.Writers(self._directory / f"store-{self._number}")


def _timed(work: Callable[[], Any]) -> int:
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


def main() -> None:
    """Answer."""
    stay_on_cpu()
    Reader(sys.argv[1]).dashboard()  # imports are a figure of their own
    reads = _Reads(Path(sys.argv[1]))
    serve({name: getattr(reads, name) for name in ("by_document", "by_journals", "unfolded")})


main()
