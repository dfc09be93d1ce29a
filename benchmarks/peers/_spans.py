"""Exporters for the peers that are built on OpenTelemetry; imported only where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from benchmarks.peers._lines import FILE

__all__ = ["Nothing", "to_file"]


class Nothing(SpanExporter):  # type: ignore[misc]  # untyped where it is not installed
    """Accepts spans and drops them."""

    def export(self, spans: Any) -> SpanExportResult:
        """Say that all went well."""
        return SpanExportResult.SUCCESS


def to_file(directory: Path) -> SpanExporter:
    """One JSON line a span; the file is flushed after each batch."""
    return ConsoleSpanExporter(
        out=(directory / FILE).open("a"), formatter=lambda span: span.to_json(indent=None) + "\n"
    )
