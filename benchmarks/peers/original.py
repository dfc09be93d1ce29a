"""The original's way: each call takes a lock file, parses the whole document, changes it and writes it back.

As in the original, every duration is kept in a list, so the document and the cost of a call grow with the number of
calls; ``renew`` begins a new one, so that a figure stands for a young document.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer, Row, add

__all__ = ["recorded", "start"]

_POLL_SECONDS = 0.01


def start(directory: Path, variant: str) -> Peer:
    """The document and its lock file are in ``directory``."""
    document, lock = directory / "metrics.json", directory / "metrics.lock"

    def recorded_call(a: int, b: int) -> int:
        began = time.perf_counter()
        result = add(a, b)
        _record(document, lock, (time.perf_counter() - began) * 1000)
        return result

    return Peer([Row("sync", recorded_call)], renew=lambda: document.unlink(missing_ok=True))


def recorded(directory: Path) -> int:
    """What the document says."""
    return int(json.loads((directory / "metrics.json").read_text())["global"]["count"])


def _record(document: Path, lock: Path, milliseconds: float) -> None:
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            time.sleep(_POLL_SECONDS)
    try:
        data: dict[str, Any] = json.loads(document.read_text()) if document.exists() else _empty()
        for counts in (data["global"], data["tools"].setdefault("add", _counts())):
            counts["count"] += 1
            counts["success"] += 1
            counts["total-duration"] += milliseconds
            counts["durations"].append(milliseconds)
        now = time.time_ns() // 1_000_000
        data["agents"]["benchmark"] = {"status": "running", "last-seen": now}
        log = {"timestamp": now, "agent-id": "benchmark", "tool": "add", "status": "ok"}
        data["recent-logs"] = [log, *data["recent-logs"]][:100]
        document.write_text(json.dumps(data, indent=2))
    finally:
        lock.unlink()


def _empty() -> dict[str, Any]:
    return {"global": _counts(), "tools": {}, "agents": {}, "recent-logs": []}


def _counts() -> dict[str, Any]:
    return {"count": 0, "success": 0, "error": 0, "total-duration": 0.0, "durations": []}
