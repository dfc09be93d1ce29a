"""Journal lines: from record to bytes and back.

A line is one JSON object in ASCII, ended by a newline; it holds no NUL, NaN or raw newline, and has at most
64 KiB. ``tool_ended`` writes the commonest line by hand; it says the same as the Pydantic model's own JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NoReturn

__all__ = ["MAX_RECORD_BYTES", "decode_lines", "encode", "quote", "tool_prefix"]

MAX_RECORD_BYTES = 64 * 1024

Record = dict[str, Any]


def encode(record: Record) -> bytes:
    """The record's line. Values must be JSON-safe already.

    A record that would be over the limit loses its free-form fields, largest first; each is replaced by a marker
    that says how large it was.
    """
    line = _dump(record)
    if len(line) > MAX_RECORD_BYTES:
        line = _shortened(dict(record))
    return line


def tool_prefix(kind: str, agent: str, session: str, tool: str) -> str:
    """The constant first part of a tool's lines within one session, up to and including the comma."""
    return f'{{"kind":"{kind}","agent":{quote(agent)},"session":"{session}","tool":{quote(tool)},'


def decode_lines(lines: Sequence[bytes]) -> tuple[list[Record], int]:
    """The records of complete lines, and how many lines were damaged. Empty lines are neither."""
    lines = [line for line in lines if line]
    try:
        # One call of the parser for the whole batch. A damaged line makes it fail or changes the count.
        records = _decode(b"[" + b",".join(lines) + b"]")
        if len(records) == len(lines) and all(type(record) is dict for record in records):
            return records, 0
    except (ValueError, RecursionError):
        pass
    return _decode_singly(lines)


def _decode_singly(lines: Sequence[bytes]) -> tuple[list[Record], int]:
    records = []
    for line in lines:
        try:
            record = _decode(line)
        except (ValueError, RecursionError):
            continue
        if type(record) is dict:
            records.append(record)
    return records, len(lines) - len(records)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _decode(data: bytes) -> Any:
    return _DECODER.decode(data.decode("utf-8"))


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
