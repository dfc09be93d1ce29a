"""structlog: one JSON line a call, to a file."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.peers import Peer, Row, add
from benchmarks.peers._lines import FILE, recorded

__all__ = ["recorded", "start"]


def start(directory: Path, variant: str) -> Peer:
    """The configuration that its page on performance recommends, with the standard library's json."""
    import structlog

    structlog.configure(
        cache_logger_on_first_use=True,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=(directory / FILE).open("a")),
    )
    logger = structlog.get_logger()
    clock = time.perf_counter

    def logged(a: int, b: int) -> int:
        began = clock()
        result = add(a, b)
        logger.info("call", tool="add", status="ok", seconds=clock() - began)
        return result

    return Peer([Row("sync", logged)])
