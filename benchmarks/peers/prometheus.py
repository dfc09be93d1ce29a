"""prometheus_client in its multiprocess mode: a histogram of durations and a counter of outcomes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.peers import Peer, Row, add

__all__ = ["recorded", "start"]


def start(directory: Path, variant: str) -> Peer:
    """Label values are looked up once, as its documentation advises for hot paths."""
    (directory / "multiprocess").mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory / "multiprocess")
    from prometheus_client import Counter, Histogram

    seconds = Histogram("tool_seconds", "Duration of a call", ["tool"]).labels("add")
    calls = Counter("tool_calls", "Calls", ["tool", "status"])
    ok, failed = calls.labels("add", "ok"), calls.labels("add", "error")
    clock = time.perf_counter

    def counted(a: int, b: int) -> int:
        began = clock()
        try:
            result = add(a, b)
        except BaseException:
            seconds.observe(clock() - began)
            failed.inc()
            raise
        seconds.observe(clock() - began)
        ok.inc()
        return result

    return Peer([Row("sync", counted)])


def recorded(directory: Path) -> int:
    """The counter, summed over all processes' files."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory / "multiprocess"))
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return int(sum(sample.value for sample in samples if sample.name == "tool_calls_total"))
