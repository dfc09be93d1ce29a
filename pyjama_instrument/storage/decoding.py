"""Journal lines, from bytes to records.

The lines of ordinary calls, which have succeeded and have no further fields, are decoded without a JSON parser and
grouped. The result agrees with the JSON of the Pydantic models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pyjama_instrument.fold.call_batch import CallBatch
from pyjama_instrument.storage.encoding import tool_prefix

__all__ = ["CallDecoder", "Record", "decode_lines"]

Record = dict[str, Any]

_PARENT = '"parent":"'
_NUMBER = "(0|[1-9][0-9]{0,17})"
_ORDINARY = re.compile(
    rf'[0-9a-f]{{16}}","span":"([0-9a-f]{{16}})","ts":{_NUMBER},"duration_ns":{_NUMBER},"status":"ok"}}'
)
_LARGEST_BATCH = 4096


def decode_lines(lines: Sequence[bytes]) -> tuple[list[Record], int]:
    """The records of complete lines, and how many lines were damaged. Empty lines are neither."""
    lines = [line for line in lines if line]
    try:
        # The parser is called once for all lines. A damaged line makes it fail or changes the number of records.
        records = _decode(b"[" + b",".join(lines) + b"]")
        if len(records) == len(lines) and all(type(record) is dict for record in records):
            return records, 0
    except (ValueError, RecursionError):
        pass
    return _decode_singly(lines)


class CallDecoder:
    """Decodes lines as :func:`decode_lines` does, but groups ordinary calls in :class:`CallBatch`.

    Ordinary calls that follow each other become one item for each tool and session; any other line is one item. So only
    calls change their order, and only among themselves. Some calls are returned later, at the latest by
    :meth:`take_pending`.
    """

    def __init__(self) -> None:
        self._names_by_prefix: dict[str, tuple[str, str, str] | None] = {}
        self._pending: dict[str, CallBatch] = {}
        self._pending_count = 0

    def __call__(self, lines: Sequence[bytes]) -> tuple[list[Record | CallBatch], int]:
        """The items that are ready, and how many of the complete lines were damaged."""
        if not lines:  # joining and splitting them would make one line of none
            return [], 0
        try:
            texts = b"\n".join(lines).decode("ascii").split("\n")
        except UnicodeDecodeError:
            return self._with_others([], lines)
        items: list[Record | CallBatch] = []
        others: list[bytes] = []
        damaged = 0
        is_ordinary, names, pending = _ORDINARY.fullmatch, self._names_by_prefix, self._pending
        for text, line in zip(texts, lines, strict=True):
            prefix, _, tail = text.partition(_PARENT)
            match = is_ordinary(tail)
            if match is None or (known := names[prefix] if prefix in names else self._learn(prefix)) is None:
                others.append(line)
                continue
            if others:
                damaged += self._with_others(items, others)[1]
                others = []
            calls = pending.get(prefix)
            if calls is None:
                calls = pending[prefix] = CallBatch(*known, [], [], [])
            span, ts, duration_ns = match.groups()
            calls.spans.append(span)
            calls.times_us.append(int(ts))
            calls.durations_ns.append(int(duration_ns))
            self._pending_count += 1
        if others:
            damaged += self._with_others(items, others)[1]
        elif self._pending_count > _LARGEST_BATCH:
            items += self.take_pending()
        return items, damaged

    def take_pending(self) -> list[CallBatch]:
        """The calls that were not returned yet."""
        calls = [*self._pending.values()]
        self._pending.clear()
        self._pending_count = 0
        return calls

    def _with_others(
        self, items: list[Record | CallBatch], lines: Sequence[bytes]
    ) -> tuple[list[Record | CallBatch], int]:
        """Append the pending calls and then the records of the lines; also how many of these lines were damaged."""
        records, damaged = decode_lines(lines)
        items += self.take_pending()
        items += records
        return items, damaged

    def _learn(self, prefix: str) -> tuple[str, str, str] | None:
        """Agent, session and tool of lines with this prefix; None if the lines of calls do not begin with it."""
        known = None
        try:
            record = json.loads(prefix + '"parent":""}')
            names = record["agent"], record["session"], record["tool"]
            if tool_prefix("tool.ended", *names) == prefix:
                known = names
        except (ValueError, RecursionError, KeyError, TypeError):
            pass
        self._names_by_prefix[prefix] = known
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
