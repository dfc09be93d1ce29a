"""The trace format of Perfetto and chrome://tracing: one process per run, one thread per lane.

It is the JSON object form of the Chromium project's "Trace Event Format". Ended spans are complete events (``X``).
Running spans are begin events without an end (``B``), which viewers draw up to the end of the trace.
Times are microseconds since the epoch, durations microseconds with three decimals.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from pyjama_instrument.document import SessionTree
from pyjama_instrument.export.export_data import ExportData, build_trees
from pyjama_instrument.export.lanes import Slice, lay_out
from pyjama_instrument.presentation.formatting import count, printable

__all__ = ["write_trace"]

_MAX_SPANS = 100_000
_NAME_LIMIT = 256
_FAILED = "✗ "  # part of the name, since Perfetto derives a span's colour from its name alone
_COLOURS = {"error": "terrible", "failed": "terrible", "crashed": "terrible", "cancelled": "bad", "running": "yellow"}


def write_trace(source: ExportData) -> Iterator[bytes]:
    """The trace, with at most about 100,000 spans."""
    stream = build_trees(source, max_spans=_MAX_SPANS)
    other = {"producer": "pyjama_instrument", "sessions-left-out": stream.left_out}
    yield b'{"displayTimeUnit":"ms","otherData":' + _json(other) + b',"traceEvents":['
    separator = b"\n"
    for pid, tree in enumerate(stream.trees, 1):
        for event in _events(pid, tree):
            yield separator + _json(event)
            separator = b",\n"
    yield b"\n]}\n"


def _events(pid: int, tree: SessionTree) -> Iterator[dict[str, Any]]:
    slices = lay_out(tree.root, tree.session)
    yield from _names(pid, tree, 1 + max(each.lane for each in slices))
    for each in slices:
        yield _slice(pid, tree.id, each)


def _names(pid: int, tree: SessionTree, lanes: int) -> Iterator[dict[str, Any]]:
    run = tree.session
    labels = [run.status, f"run {tree.id}"]
    if run.pid is not None:
        labels.append(f"pid {run.pid}")
    if tree.truncated:
        labels.append(f"{count(tree.truncated, 'span')} left out")
    yield _meta(pid, 0, "process_name", name=f"{printable(run.agent_id, _NAME_LIMIT)} ({tree.id[:8]})")
    yield _meta(pid, 0, "process_labels", labels=", ".join(labels))
    yield _meta(pid, 0, "process_sort_index", sort_index=pid)
    for lane in range(lanes):
        yield _meta(pid, lane, "thread_name", name=f"in parallel {lane}" if lane else "calls")
        yield _meta(pid, lane, "thread_sort_index", sort_index=lane)


def _meta(pid: int, lane: int, kind: str, **args: object) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": _tid(lane), "args": args}


def _tid(lane: int) -> int:
    return lane + 1  # viewers treat thread 0 as the idle task


def _slice(pid: int, session: str, each: Slice) -> dict[str, Any]:
    span = each.span
    args: dict[str, Any] = {"status": span.status, "span": span.span, "session": session}
    for key in ("error", "arguments", "result", "items", "first_item_ms"):
        if (value := getattr(span, key)) is not None:
            args[key.replace("_", "-")] = value
    colour = _COLOURS.get(span.status)
    name = printable(span.name, _NAME_LIMIT) or "(no name)"
    event: dict[str, Any] = {
        "ph": "B" if each.end is None else "X",
        "name": _FAILED + name if colour == "terrible" else name,
        "cat": span.kind,
        "pid": pid,
        "tid": _tid(each.lane),
        "ts": _us(each.begin),
        "args": args,
    }
    if each.end is not None:
        event["dur"] = _us(each.end - each.begin)
    if colour is not None:
        event["cname"] = colour
    return event


def _us(ns: int) -> int | float:
    return ns // 1000 if ns % 1000 == 0 else ns / 1000


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError:  # a captured number such as 1e999, which Python reads as infinity
        return json.dumps(_finite(value), separators=(",", ":")).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
