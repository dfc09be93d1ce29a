"""Stores made by hand: real journals of writers that live and die at a test's word, and the records in them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyjama_instrument.storage.compaction import Outcome, compact
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.storage.journal import Journal
from pyjama_instrument.storage.layout import SCHEMA, SegmentName
from pyjama_instrument.storage.store_directory import Store

__all__ = [
    "AGENT",
    "ROOT_SPAN",
    "SESSION",
    "START_US",
    "Record",
    "Writer",
    "a_call",
    "call_begins",
    "dead_journal",
    "fold",
    "open_files",
    "open_store",
    "remove",
    "session_begins",
    "session_ends",
    "snapshot",
    "step_begins",
    "step_ends",
]

Record = dict[str, Any]

AGENT = "researcher"
SESSION = "5e551011" * 4
ROOT_SPAN = "0000000000000001"
START_US = 1_700_000_000_000_000

_spans = itertools.count(16)


class Writer:
    """A process that records, as far as the store can tell: it holds its journal until it dies."""

    def __init__(self, home: Path | str, writer: str | None = None, number: int = 1) -> None:
        self.store = Store(str(home))
        name = SegmentName(writer or secrets.token_hex(8), number)
        self.journal = Journal(self.store, name, header)
        self.id = name.writer

    @property
    def path(self) -> Path:
        """Its current segment."""
        return Path(self.store.path, "journal", self.journal.name.filename)

    def write(self, *records: Record) -> None:
        """Append records."""
        self.raw(b"".join(map(encode, records)))

    def raw(self, data: bytes) -> None:
        """Append bytes as they are."""
        assert os.write(self.journal.fd, data) == len(data)

    def die(self) -> None:
        """End without a word: the kernel lets go of the journal, and that is all."""
        self.journal.close()
        self.store.close()


def header(name: SegmentName) -> bytes:
    """The first line of a segment."""
    return encode(
        {
            "kind": "writer.opened",
            "ts": START_US,
            "schema_version": SCHEMA,
            "writer": name.writer,
            "segment": name.number,
            "pid": 4242,
            "host": "testhost",
            "python": "3.11.0",
            "argv": ["agent.py"],
            "started": START_US,
        }
    )


@contextlib.contextmanager
def open_store(home: Path | str) -> Iterator[Store]:
    """The store at ``home``, made if need be."""
    store = Store(str(home))
    try:
        yield store
    finally:
        store.close()


def fold(
    home: Path | str, *, should_stop: Callable[[], bool] = lambda: False, enough: Callable[[], bool] = lambda: False
) -> Outcome:
    """One compaction by somebody who records nothing."""
    with open_store(home) as store:
        return compact(store, should_stop=should_stop, enough=enough)


def open_files(below: Path = Path("/")) -> set[tuple[str, str]]:
    """The number and the path of each file that this process has open there.

    Ask what is new rather than how many there are: files that another test left may be closed at any moment.
    """
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was the one for this listing
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return {(number, path) for number, path in found if path.startswith(str(below))}


def remove(home: Path) -> None:
    """Remove the store in one step, so that nobody can put anything back while it is being removed."""
    gone = home.rename(home.with_name(f"{home.name}-removed"))
    shutil.rmtree(gone, ignore_errors=True)


def snapshot(home: Path | str, name: str = "metrics.json") -> Any:
    """What ``metrics.json`` says."""
    return json.loads(Path(home, name).read_bytes())


def dead_journal(home: Path | str, *records: Record, tail: bytes = b"", writer: str | None = None) -> SegmentName:
    """The journal of a process that recorded this and died."""
    dead = Writer(home, writer)
    dead.write(*records)
    dead.raw(tail)
    dead.die()
    return dead.journal.name


# -- records


def session_begins(session: str = SESSION, agent: str = AGENT, ts: int = START_US, **more: Any) -> Record:
    return _record("session.started", session, agent, ts, span=ROOT_SPAN) | more


def session_ends(session: str = SESSION, agent: str = AGENT, ts: int = START_US, **more: Any) -> Record:
    ended = _record("session.ended", session, agent, ts, span=ROOT_SPAN, duration_ns=1_000_000)
    return ended | {"status": "completed"} | more


def step_begins(step: str, span: str, session: str = SESSION, agent: str = AGENT, ts: int = START_US) -> Record:
    return _record("step.started", session, agent, ts, step=step, parent=ROOT_SPAN, span=span)


def step_ends(step: str, span: str, session: str = SESSION, agent: str = AGENT, ts: int = START_US) -> Record:
    begun = step_begins(step, span, session, agent, ts)
    return begun | {"kind": "step.ended", "duration_ns": 1_000_000, "status": "ok"}


def call_begins(
    tool: str = "search", session: str = SESSION, agent: str = AGENT, ts: int = START_US, **more: Any
) -> Record:
    return _record("tool.started", session, agent, ts, tool=tool, parent=ROOT_SPAN, span=_span()) | more


def a_call(tool: str = "search", session: str = SESSION, agent: str = AGENT, ts: int = START_US, **more: Any) -> Record:
    call = call_begins(tool, session, agent, ts)
    ended: Record = {"kind": "tool.ended", "agent": agent, "session": session}
    # In the order in which the recorder writes them.
    for key in ("tool", "parent", "span", "ts"):
        ended[key] = call[key]
    return ended | {"duration_ns": 2_000_000, "status": "ok"} | more


def _record(kind: str, session: str, agent: str, ts: int, **more: Any) -> Record:
    return {"kind": kind, "agent": agent, "session": session, "ts": ts} | more


def _span() -> str:
    return f"{next(_spans):016x}"
