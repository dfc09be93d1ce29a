"""JSON Lines and CSV: one event per line, streamed."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pyjama_instrument.export.export_data import ExportData
from pyjama_instrument.presentation.formatting import printable

__all__ = ["COLUMNS", "write_csv", "write_jsonl"]

_MAX_TEXT = 2000
_CHECKED_LENGTH = 200

COLUMNS = (
    "time", "ts_us", "kind", "agent", "session", "step", "tool", "span", "parent", "status", "duration_ms",
    "error_type", "error_message", "writer", "more",
)  # fmt: skip
"""The columns of the CSV format."""

_IN_COLUMNS = frozenset(
    {"kind", "ts", "agent", "session", "step", "tool", "span", "parent", "status", "duration_ns", "error", "writer"}
)
_FORMULA = ("=", "+", "-", "@", "\N{MINUS SIGN}")


def write_jsonl(source: ExportData) -> Iterator[bytes]:
    """The records as they were recorded."""
    for line in source.lines:
        yield line.text + b"\n"


def write_csv(source: ExportData) -> Iterator[bytes]:
    """A table for spreadsheets and data frames (RFC 4180)."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for line in source.lines:
        yield _flush(text)
        table.writerow(_row(line.ts, line.writer, line.record))
    yield _flush(text)


def _flush(text: io.StringIO) -> bytes:
    data = text.getvalue().encode("utf-8")
    text.seek(0)
    text.truncate()
    return data


def _row(ts: int, writer: str, record: dict[str, Any]) -> list[object]:
    error = record.get("error")
    error = error if type(error) is dict else {}
    duration_ns = record.get("duration_ns")
    more = {key: value for key, value in record.items() if key not in _IN_COLUMNS}
    if error.get("traceback"):
        more["traceback"] = error["traceback"]
    return [
        _iso(ts),
        ts,
        *(_cell(record.get(key)) for key in ("kind", "agent", "session", "step", "tool", "span", "parent", "status")),
        duration_ns / 1e6 if type(duration_ns) is int else "",
        _cell(error.get("type")),
        _cell(error.get("message")),
        writer,
        json.dumps(more, separators=(",", ":")) if more else "",
    ]


def _iso(ts: int) -> str:
    try:
        return datetime.fromtimestamp(ts / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # a time that no date can express; the column ts_us has it
        return ""


def _cell(value: Any) -> str:
    """The value as text that no spreadsheet reads as a formula and no terminal as an escape sequence."""
    if value is None:
        return ""
    text = printable(value, _MAX_TEXT)
    # Spreadsheets also accept full-width and small forms of these signs, and white space before them.
    normalized = unicodedata.normalize("NFKC", text[:_CHECKED_LENGTH]).lstrip()
    return f"'{text}" if normalized.startswith(_FORMULA) else text
