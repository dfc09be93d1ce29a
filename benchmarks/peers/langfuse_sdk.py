"""Langfuse: its decorator, with made-up keys and an exporter of ours in the place of its server."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import Peer, Row, add
from benchmarks.peers._lines import recorded

__all__ = ["recorded", "start"]

_CLOSED = "http://127.0.0.1:9"


def start(directory: Path, variant: str) -> Peer:
    """``batch`` exports to a file through Langfuse's own batching, anything else to nowhere."""
    from benchmarks.children._serve import only_loopback

    only_loopback()
    from langfuse import Langfuse, observe

    from benchmarks.peers._spans import Nothing, to_file

    client = Langfuse(
        public_key="pk-lf-benchmark",
        secret_key="sk-lf-benchmark",
        base_url=_CLOSED,
        span_exporter=to_file(directory) if variant == "batch" else Nothing(),
    )
    observed = observe(capture_input=False, capture_output=False)(add)
    return Peer([Row("sync", observed)], client.flush)
