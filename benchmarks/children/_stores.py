"""Stores made to measure: journals with given numbers of tools, sessions and writers, without running agents.

The lines are those that the recorder writes. A writer is dead unless its segment is held, as the recorder holds it.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyjama_instrument.storage.encoding import encode, tool_prefix
from pyjama_instrument.storage.layout import SegmentName
from pyjama_instrument.storage.liveness import hold
from pyjama_instrument.storage.store_directory import Store

__all__ = ["Writers", "call", "ended", "fill", "session_id", "started"]

_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_random = random.Random(7)


class Writers:
    """A store and the writers in it."""

    def __init__(self, home: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65536)), hard))
        self.store = Store(str(home))
        self._journal = home / "journal"
        self._live: dict[str, int] = {}

    def dead(self, lines: Iterable[bytes]) -> str:
        """A writer that has recorded ``lines`` and died."""
        writer, fd = self._open(lines)
        os.close(fd)
        return writer

    def live(self, lines: Iterable[bytes] = ()) -> str:
        """A writer that lives."""
        writer, fd = self._open(lines)
        hold(fd)
        self._live[writer] = fd
        return writer

    def append(self, writer: str, lines: Iterable[bytes]) -> None:
        """A live writer records something."""
        os.write(self._live[writer], b"".join(lines))

    def close(self) -> None:
        """Everybody dies."""
        for fd in self._live.values():
            os.close(fd)
        self._live.clear()
        self.store.close()

    def _open(self, lines: Iterable[bytes]) -> tuple[str, int]:
        name = SegmentName(f"{_random.getrandbits(64):016x}", 1)
        fd = os.open(self._journal / name.filename, _APPEND, 0o600)
        os.write(fd, b"".join([_header(name), *lines]))
        return name.writer, fd


def started(agent: str, session: str) -> bytes:
    """A session begins."""
    return encode(
        {"kind": "session.started", "agent": agent, "session": session, "span": session[:16], "ts": _now_us()}
    )


def ended(agent: str, session: str) -> bytes:
    """A session ends well."""
    fields = {"span": session[:16], "ts": _now_us(), "duration_ns": 10**9, "status": "completed"}
    return encode({"kind": "session.ended", "agent": agent, "session": session} | fields)


def call(agent: str, session: str, tool: str) -> bytes:
    """A call ends well, after a time between 10 µs and 100 ms."""
    span, duration_ns = f"{_random.getrandbits(64):016x}", int(10 ** _random.uniform(4, 8))
    tail = f'"parent":"{session[:16]}","span":"{span}","ts":{_now_us()},"duration_ns":{duration_ns},"status":"ok"}}\n'
    return (tool_prefix("tool.ended", agent, session, tool) + tail).encode("ascii")


def session_id() -> str:
    """A new one."""
    return f"{_random.getrandbits(128):032x}"


def fill(writers: Writers, *, tools: int, sessions: int, calls_per_tool: int = 20, agents: int = 50) -> None:
    """Ended and running sessions, half of them each, that have called every tool; all of one live writer."""
    runs = [(f"agent-{at % agents}", session_id()) for at in range(sessions)]
    calls = [
        call(*runs[(tool * calls_per_tool + at) % sessions], f"tool-{tool}")
        for tool in range(tools)
        for at in range(calls_per_tool)
    ]
    writers.live([*(started(*run) for run in runs), *calls, *(ended(*run) for run in runs[: sessions // 2])])


def _header(name: SegmentName) -> bytes:
    header: dict[str, Any] = {
        "kind": "writer.opened", "ts": _now_us(), "schema_version": 1, "writer": name.writer, "segment": 1,
        "pid": os.getpid(), "host": "benchmark", "python": "3", "argv": ["agent.py"], "started": _now_us(),
    }  # fmt: skip
    return encode(header)


def _now_us() -> int:
    return time.time_ns() // 1000
