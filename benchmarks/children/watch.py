"""Watches a store that others record to: ``python -m benchmarks.children.watch STORE``.

Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.children._names import MARK
from benchmarks.children._serve import serve
from pyjama_instrument.events import ToolEnded
from pyjama_instrument.reader import Reader, tail_events

__all__: list[str] = []

_SAMPLE_SECONDS = 0.02
_PAGE_SECONDS = 0.25
_POLL_SECONDS = 0.05


class _Watch:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._seen: dict[str, list[Any]] = {}

    # -- totals, beside what the recording processes say themselves

    def totals(self, tally: str, writers: int) -> None:
        """Begin to note, again and again, how many calls were made and how many the snapshot counts."""
        self._begin(self._note_totals, tally, writers)

    def pages(self) -> None:
        """Begin to note, as the viewer does, how many calls a reader counts."""
        self._begin(self._note_pages)

    def _note_totals(self, tally: str, writers: int) -> None:
        made, folded = self._series("made"), self._series("folded")
        snapshot, number = self._home / "metrics.json", struct.Struct(f"={writers}q")
        with open(tally, "rb", buffering=0) as file:
            while not self._stop.wait(_SAMPLE_SECONDS):
                file.seek(0)
                made.append((time.monotonic_ns(), sum(number.unpack(file.read(number.size)))))
                if snapshot.exists():
                    began = time.monotonic_ns()
                    count = json.loads(snapshot.read_bytes())["global"].get("count", 0)
                    folded.append((began, count))

    def _note_pages(self) -> None:
        pages, reader = self._series("pages"), Reader(self._home)
        while not self._stop.wait(_PAGE_SECONDS):
            began = time.monotonic_ns()
            count = reader.dashboard().metrics.global_.count
            pages.append((began, time.monotonic_ns(), count))

    # -- single calls

    def follow(self) -> None:
        """Begin to note when each marked call is first seen by ``tail_events(follow=True)``."""
        self._begin(self._note_events)

    def poll(self) -> None:
        """Begin to note when each marked call is first seen by a reader that is asked every 50 ms."""
        self._begin(self._note_polls)

    def _note_events(self) -> None:
        seen = self._series("follow")
        for event in tail_events(self._home, limit=0, follow=True, stop=self._stop.is_set):
            if isinstance(event, ToolEnded) and event.tool.startswith(MARK):
                seen.append((event.tool, time.monotonic_ns()))

    def _note_polls(self) -> None:
        seen, reader, known = self._series("poll"), Reader(self._home), set[str]()
        while not self._stop.wait(_POLL_SECONDS):
            new = {tool for tool in reader.dashboard().metrics.tools if tool.startswith(MARK)} - known
            now = time.monotonic_ns()
            seen += [(tool, now) for tool in new]
            known |= new

    # -- all of them

    def count(self) -> int:
        """What a new reader counts."""
        return Reader(self._home).dashboard().metrics.global_.count

    def stop(self) -> dict[str, list[Any]]:
        """End all that was begun and give what was noted."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self._seen

    def _begin(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _series(self, name: str) -> list[Any]:
        return self._seen.setdefault(name, [])


def main() -> None:
    """Answer."""
    watch = _Watch(Path(sys.argv[1]))
    serve({name: getattr(watch, name) for name in ("totals", "pages", "follow", "poll", "count", "stop")})


main()
