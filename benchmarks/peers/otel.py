"""OpenTelemetry's SDK: one span a call, with three ways to get it out."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import Peer, Row, add
from benchmarks.peers._lines import recorded

__all__ = ["recorded", "start"]


def start(directory: Path, variant: str) -> Peer:
    """``noop`` and ``batch`` use the batch processor with its default settings, ``simple`` exports at each end."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    from benchmarks.peers._spans import Nothing, to_file

    provider = TracerProvider()
    exporter = Nothing() if variant == "noop" else to_file(directory)
    provider.add_span_processor(SimpleSpanProcessor(exporter) if variant == "simple" else BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("benchmark")

    def traced(a: int, b: int) -> int:
        with tracer.start_as_current_span("add"):
            return add(a, b)

    return Peer([Row("sync", traced)], provider.force_flush)
