"""Journal lines: from record to bytes and back.

A line is one JSON object in ASCII, ended by a newline; it holds no NUL, NaN or raw newline, and has at most
64 KiB. The commonest line, of a call that went well, is written by hand where the call is recorded, and read back
without a JSON parser by :class:`CallDecoder`; both agree with the Pydantic model's own JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NoReturn

from pyjama_instrument.fold.call_batch import CallBatch

__all__ = ["MAX_RECORD_BYTES", "CallDecoder", "decode_lines", "encode", "quote", "tool_prefix"]

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


_PARENT = '"parent":"'
_NUMBER = "(0|[1-9][0-9]{0,17})"
_ORDINARY = re.compile(
    rf'[0-9a-f]{{16}}","span":"([0-9a-f]{{16}})","ts":{_NUMBER},"duration_ns":{_NUMBER},"status":"ok"}}'
)


_MOST_TOGETHER = 4096


class CallDecoder:
    """Decodes lines as :func:`decode_lines` does, but gives ordinary calls together, as :class:`CallBatch`.

    Ordinary calls that follow each other become one item for each tool and session; any other line is an item of its
    own. So nothing changes places but calls among themselves. CallBatch may be held back until :meth:`rest` is called.
    """

    def __init__(self) -> None:
        self._heads: dict[str, tuple[str, str, str] | None] = {}
        self._together: dict[str, CallBatch] = {}
        self._held_back = 0

    def __call__(self, lines: Sequence[bytes]) -> tuple[list[Record | CallBatch], int]:
        """Items that are ready, and how many of the complete lines were damaged."""
        try:
            texts = b"\n".join(lines).decode("ascii").split("\n")
        except UnicodeDecodeError:
            return self._with_others([], lines)
        items: list[Record | CallBatch] = []
        others: list[bytes] = []
        damaged = 0
        ordinary, heads, together = _ORDINARY.fullmatch, self._heads, self._together
        for text, line in zip(texts, lines, strict=True):
            head, _, tail = text.partition(_PARENT)
            match = ordinary(tail)
            if match is None or (known := heads[head] if head in heads else self._learn(head)) is None:
                others.append(line)
                continue
            if others:
                damaged += self._with_others(items, others)[1]
                others = []
            calls = together.get(head)
            if calls is None:
                calls = together[head] = CallBatch(*known, [], [], [])
            span, ts, duration_ns = match.groups()
            calls.spans.append(span)
            calls.times_us.append(int(ts))
            calls.durations_ns.append(int(duration_ns))
            self._held_back += 1
        if others:
            damaged += self._with_others(items, others)[1]
        elif self._held_back > _MOST_TOGETHER:
            items += self.rest()
        return items, damaged

    def rest(self) -> list[CallBatch]:
        """The calls that were held back."""
        calls = [*self._together.values()]
        self._together.clear()
        self._held_back = 0
        return calls

    def _with_others(
        self, items: list[Record | CallBatch], lines: Sequence[bytes]
    ) -> tuple[list[Record | CallBatch], int]:
        """Append what was held back, and then the records of the lines; also how many of these were damaged."""
        records, damaged = decode_lines(lines)
        items += self.rest()
        items += records
        return items, damaged

    def _learn(self, head: str) -> tuple[str, str, str] | None:
        """Agent, session and tool of lines that begin with ``head``, if it is just what a call's line begins with."""
        known = None
        try:
            record = json.loads(head + '"parent":""}')
            names = record["agent"], record["session"], record["tool"]
            if tool_prefix("tool.ended", *names) == head:
                known = names
        except (ValueError, RecursionError, KeyError, TypeError):
            pass
        self._heads[head] = known
        return known


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
