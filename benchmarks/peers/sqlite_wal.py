"""SQLite: one insert a call, committed, in WAL mode."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from benchmarks.peers import Peer, Row, add

__all__ = ["recorded", "start"]

_FILE = "calls.db"


def start(directory: Path, variant: str) -> Peer:
    """``synchronous=NORMAL``: a commit survives the process, as a write does, but not the machine."""
    database = sqlite3.connect(directory / _FILE, isolation_level=None, timeout=60)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS calls (ts INTEGER, tool TEXT, status TEXT, duration_ns INTEGER)")
    clock, wall, execute = time.perf_counter_ns, time.time_ns, database.execute

    def inserted(a: int, b: int) -> int:
        began = clock()
        result = add(a, b)
        execute("INSERT INTO calls VALUES (?, ?, ?, ?)", (wall(), "add", "ok", clock() - began))
        return result

    return Peer([Row("sync", inserted)])


def recorded(directory: Path) -> int:
    """The rows."""
    (rows,) = sqlite3.connect(directory / _FILE).execute("SELECT count(*) FROM calls").fetchone()
    return int(rows)
