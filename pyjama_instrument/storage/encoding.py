"""Journal lines, from record to bytes.

A line is one JSON object in ASCII, ended by a newline. It contains no NUL, NaN or raw newline, and has at most 64 KiB.
The most frequent line, of a call that has succeeded, is made without a JSON encoder where the call is recorded;
:func:`tool_prefix` makes its first part.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Any

__all__ = ["MAX_RECORD_BYTES", "encode", "quote", "tool_prefix"]

MAX_RECORD_BYTES = 64 * 1024

Record = dict[str, Any]


def encode(record: Record) -> bytes:
    """The record's line. Values must be JSON-safe already.

    If the record is over the limit, its free-form fields are removed, largest first. A marker with the size replaces
    each of them.
    """
    line = _dump(record)
    if len(line) > MAX_RECORD_BYTES:
        line = _shortened(dict(record))
    return line


def tool_prefix(kind: str, agent: str, session: str, tool: str) -> str:
    """The constant first part of a tool's lines within one session, up to and including the comma."""
    return f'{{"kind":"{kind}","agent":{quote(agent)},"session":"{session}","tool":{quote(tool)},'


def _dump(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


_FREE_FORM = ("arguments", "result", "attributes", "spec", "tags", "error", "steps", "argv")


def _shortened(record: Record) -> bytes:
    sizes = {key: len(_dump({key: record[key]})) for key in _FREE_FORM if record.get(key)}
    for key in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        record[key] = _replacement(key, record[key], f"[{sizes[key]} bytes, not recorded]")
        line = _dump(record)
        if len(line) <= MAX_RECORD_BYTES:
            return line
    raise ValueError(f"a record of kind {record.get('kind')!r:.40} cannot be brought under the size limit")


def _replacement(key: str, value: Any, marker: str) -> Any:
    if key == "error":
        return {"type": str(value.get("type"))[:256], "message": marker}
    if key in ("steps", "argv"):
        return []
    return marker if key == "result" else {"…": marker}
