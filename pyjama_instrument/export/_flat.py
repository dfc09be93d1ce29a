"""JSON Lines and CSV: one event a line, streamed."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pyjama_instrument.export._material import Material
from pyjama_instrument.presentation.formatting import printable

__all__ = ["COLUMNS", "write_csv", "write_jsonl"]

_LONGEST_TEXT = 2000
_PLAIN_LOOK = 200

COLUMNS = (
    "time", "ts_us", "kind", "agent", "session", "step", "tool", "span", "parent", "status", "duration_ms",
    "error_type", "error_message", "writer", "more",
)  # fmt: skip
"""The columns of the CSV form."""

_IN_COLUMNS = frozenset(
    {"kind", "ts", "agent", "session", "step", "tool", "span", "parent", "status", "duration_ns", "error", "writer"}
)
_FORMULA = ("=", "+", "-", "@", "\N{MINUS SIGN}")


def write_jsonl(material: Material) -> Iterator[bytes]:
    """Each record as it was recorded."""
    for line in material.lines:
        yield line.text + b"\n"


def write_csv(material: Material) -> Iterator[bytes]:
    """A table for spreadsheets and data frames (RFC 4180)."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for line in material.lines:
        yield _taken(text)
        table.writerow(_row(line.ts, line.writer, line.record))
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
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
    except (ValueError, OverflowError, OSError):  # a clock gone wild; ts_us has it all the same
        return ""


def _cell(value: Any) -> str:
    """Text that no spreadsheet takes for a formula and no terminal for a command."""
    if value is None:
        return ""
    text = printable(value, _LONGEST_TEXT)
    # Spreadsheets take full-width and small forms for the plain ones, and skip white space before them.
    plain = unicodedata.normalize("NFKC", text[:_PLAIN_LOOK]).lstrip()
    return f"'{text}" if plain.startswith(_FORMULA) else text
