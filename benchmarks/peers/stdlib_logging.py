"""The standard library's logging: one line a call, to a file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from benchmarks.peers import Peer, Row, add
from benchmarks.peers._lines import FILE, recorded

__all__ = ["recorded", "start"]


def start(directory: Path, variant: str) -> Peer:
    """A FileHandler and a common format."""
    logger = logging.getLogger("benchmark")
    handler = logging.FileHandler(directory / FILE)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    clock = time.perf_counter

    def logged(a: int, b: int) -> int:
        began = clock()
        result = add(a, b)
        logger.info("tool=%s status=%s seconds=%.6f", "add", "ok", clock() - began)
        return result

    return Peer([Row("sync", logged)])
