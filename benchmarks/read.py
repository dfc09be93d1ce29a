"""Read: what looking costs, and how soon a call is seen by another process and by the dashboard's stream."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from benchmarks._bench import Bench
from benchmarks._child import Child
from benchmarks._environments import NotInstalled
from benchmarks._figures import amount, median, ns, percentile, seconds
from benchmarks._results import Result, Table
from benchmarks.children._names import MARK

__all__ = ["run"]

_MARKED = re.compile(MARK.encode() + rb"\d+")
_DOCUMENTS = [(10, 100), (100, 100), (1000, 500), (2000, 100), (1000, 1000)]
_JOURNALS = [(10, 0), (1000, 0), (1000, 10_000)]


def run(bench: Bench) -> Result:
    """Readers against stores of many sizes, then the way of single calls."""
    result = Result()
    with bench.directory() as directory, bench.child("pyjama", "read", directory, pinned=True) as child:
        _documents(bench, child, result)
        _journals(bench, child, result)
        _unfolded(bench, child, result)
    _seen(bench, result)
    return result


def _documents(bench: Bench, child: Child, result: Result) -> None:
    table = _table("By the size of the document", "tools", "sessions")
    for tools, sessions in bench.size(_DOCUMENTS, [(100, 100), (1000, 500)], [(10, 4)]):
        bench.say(f"read: a document of {tools} tools and {sessions} sessions")
        found = child.ask("by_document", tools=tools, sessions=sessions, polls=bench.size(25, 9, 2))
        table.rows.append([amount(tools), amount(sessions), *_row(found)])
    result.tables.append(table)


def _journals(bench: Bench, child: Child, result: Result) -> None:
    table = _table("By the number of journals", "live", "retired")
    for live, dead in bench.size(_JOURNALS, [(10, 0), (1000, 1000)], [(2, 3)]):
        bench.say(f"read: {live} live journals and {dead} retired ones")
        found = child.ask("by_journals", live=live, dead=dead, polls=bench.size(25, 9, 2))
        table.rows.append([amount(live), amount(dead), *_row(found)])
        if live >= 1000:
            result.figures["read: steady poll, ms"] = median(found["steady"]) / 1e6
            result.figures["read: first page, s"] = median(found["first"]) / 1e9
    result.tables.append(table)


def _unfolded(bench: Bench, child: Child, result: Result) -> None:
    table = _table("By the number of events that nobody has folded", "events")
    for events in bench.size([1000, 10_000, 100_000], [10_000], [100]):
        bench.say(f"read: {events:,} unfolded events")
        table.rows.append([amount(events), *_row(child.ask("unfolded", events=events))])
    result.tables.append(table)


def _table(title: str, *sizes: str) -> Table:
    columns = [*sizes, "first answer", "answer after 10 new events: median", "p99", "after none: median"]
    return Table(f"`Reader.dashboard()`. {title}", columns)


def _row(found: dict[str, list[float]]) -> list[str]:
    steady = found["steady"]
    return [
        ns(median(found["first"])), ns(median(steady)), ns(percentile(sorted(steady), 0.99)), ns(median(found["idle"])),
    ]  # fmt: skip


# -- from a call's return to its being seen


def _seen(bench: Bench, result: Result) -> None:
    calls = bench.size(300, 60, 5)
    bench.say(f"read: how soon {calls} calls are seen")
    seen: dict[str, list[tuple[str, int]]] = {}
    page: dict[str, float] = {}
    with bench.directory() as directory, ExitStack() as stack:
        store = directory / "store"
        watch = stack.enter_context(bench.child("pyjama", "watch", store))
        mark = stack.enter_context(bench.child("pyjama", "mark", store))
        mark.ask("marks", calls=1)
        watch.ask("follow")
        watch.ask("poll")
        stream = None
        try:
            viewer = stack.enter_context(bench.child("viewer", "viewer", store))
            started = viewer.ask("started")
            page = {"start": started["ns"], "first": _get_ns(started["url"], "/api/view")}
            stream = _Stream(started["url"])
            stack.callback(stream.stop)
        except NotInstalled:
            bench.say("read: the viewer could not be installed")
        time.sleep(bench.size(0.5, 0.5, 0.1))  # everybody looks already
        made = dict(mark.ask("marks", calls=calls, timeout=calls + 60.0))
        time.sleep(bench.size(1.5, 1.5, 0.35))  # the last call is seen
        seen = watch.ask("stop") | ({"stream": stream.seen()} if stream else {})
    _report_seen(made, seen, page, result)


def _report_seen(made: dict[str, int], seen: dict[str, Any], page: dict[str, float], result: Result) -> None:
    table = Table("From a call's return to its being seen", ["by", "calls seen", "p50", "p99", "max"])
    for key, label in (
        ("poll", "a reader in another process, asked every 50 ms"),
        ("follow", "`tail_events(follow=True)` in another process"),
        ("stream", "the dashboard's event stream, at a client"),
    ):
        first = dict(reversed([(name, when) for name, when in seen.get(key, [])]))
        delays = sorted((first[name] - when) / 1e9 for name, when in made.items() if name in first)
        if delays:
            quantiles = [percentile(delays, fraction) for fraction in (0.5, 0.99, 1.0)]
            table.rows.append([label, f"{len(delays)} of {len(made)}", *map(seconds, quantiles)])
            if key != "poll":
                result.figures[f"seen by {key}: p99, ms"] = quantiles[1] * 1000
        else:
            table.rows.append([label, "none", "", "", ""])
    if page:
        table.notes.append(
            f"The dashboard started in {ns(page['start'])}, imports included, and gave its first view "
            f"{ns(page['first'])} after it was asked."
        )
    result.tables.append(table)


class _Stream:
    """A client of the dashboard's event stream, in a thread."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._connection.connect()
        self._socket = self._connection.sock
        self._connection.request("GET", "/api/stream")
        self._response = self._connection.getresponse()
        self._messages: list[tuple[int, bytes]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def seen(self) -> list[tuple[str, int]]:
        """The marked calls that have come, in the order and at the time of their coming."""
        return [(name.decode(), when) for when, data in self._messages for name in _MARKED.findall(data)]

    def stop(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the thread that reads
        self._thread.join()
        self._connection.close()

    def _listen(self) -> None:
        try:
            for line in self._response:
                if line.startswith(b"data: "):
                    self._messages.append((time.monotonic_ns(), line[6:]))
        except (OSError, ValueError, http.client.HTTPException):
            pass  # hung up


def _get_ns(url: str, path: str) -> float:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    began = time.perf_counter_ns()
    connection.request("GET", path)
    connection.getresponse().read()
    took = time.perf_counter_ns() - began
    connection.close()
    return took
