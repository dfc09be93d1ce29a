"""An agent of the original, as far as the store can tell: its lock file, and the document rewritten in place.

``metrics.lock`` is made with O_EXCL, and waited for in turns of 10 ms for as long as it exists; the document is read,
changed and written over in place, so that a reader can catch half of it; the lock is deleted. Keys that it does not
know are kept, every duration is added to a list.

As a program: ``python -m tests.faults.original HOME LEDGER`` records until its standard input is closed.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.oracle import Ledger

__all__ = ["AGENT", "TOOL", "rewrite"]

AGENT, TOOL = "jvm-agent", "jvm-tool"


def rewrite(home: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """One change of the document by an agent of the original."""
    lock, document = home / "metrics.lock", home / "metrics.json"
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            time.sleep(0.01)
    try:
        data = json.loads(document.read_bytes()) if document.exists() else {}
        change(data)
        text = json.dumps(data)
        with open(document, "w", encoding="utf-8") as file:  # truncated, and then written in two portions
            file.write(text[: len(text) // 2])
            file.flush()
            file.write(text[len(text) // 2 :])
    finally:
        lock.unlink()


def one_call(data: dict[str, Any]) -> None:
    """What a call of a tool adds to the document."""
    now_ms = time.time_ns() // 1_000_000
    for counts in (data.setdefault("global", {}), data.setdefault("tools", {}).setdefault(TOOL, {})):
        for key in ("count", "success"):
            counts[key] = counts.get(key, 0) + 1
        counts["total-duration"] = counts.get("total-duration", 0) + 1.5
        counts["durations"] = [*counts.get("durations", []), 1.5]
    data.setdefault("agents", {}).setdefault(AGENT, {}).update({"status": "running", "last-seen": now_ms})
    log = {"timestamp": now_ms, "agent-id": AGENT, "tool": TOOL, "status": "ok"}
    data["recent-logs"] = [log, *data.get("recent-logs", [])][:100]


def _main(home: str, ledger: str) -> None:
    acknowledged = Ledger(ledger)
    number = 0
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        rewrite(Path(home), one_call)
        acknowledged.acknowledge(number)
        number += 1


if __name__ == "__main__":
    _main(*sys.argv[1:])
