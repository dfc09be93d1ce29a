"""A strict reader of the trace-event format, as Perfetto and chrome://tracing take it (JSON object form)."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

__all__ = ["check_trace"]

_METADATA = {
    "process_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_name": ("name", str),
    "thread_sort_index": ("sort_index", int),
}
_COLOURS = {"terrible", "bad", "good", "yellow", "grey", "black", "white", "olive"}


def check_trace(data: bytes) -> list[dict[str, Any]]:
    """The slices of a trace; raises AssertionError for anything that a viewer would refuse or draw wrongly."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    trace = json.loads(data.decode("ascii"), parse_constant=refuse)
    assert set(trace) <= {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    named: set[tuple[int, int]] = set()
    processes: set[int] = set()
    slices = []
    for event in trace["traceEvents"]:
        assert type(event["pid"]) is type(event["tid"]) is int
        if event["ph"] == "M":
            _check_metadata(event)
            if event["name"] == "thread_name":
                named.add((event["pid"], event["tid"]))
            if event["name"] == "process_name":
                processes.add(event["pid"])
        else:
            _check_slice(event)
            assert (event["pid"], event["tid"]) in named, "a thread without a name"
            assert event["pid"] in processes, "a process without a name"
            slices.append(event)
    _check_nesting(slices)
    return slices


def _check_metadata(event: dict[str, Any]) -> None:
    assert set(event) == {"ph", "name", "pid", "tid", "args"}
    key, kind = _METADATA[event["name"]]
    assert set(event["args"]) == {key}
    assert type(event["args"][key]) is kind


def _check_slice(event: dict[str, Any]) -> None:
    wanted = {"ph", "name", "cat", "pid", "tid", "ts", "args"} | ({"dur"} if event["ph"] == "X" else set())
    assert set(event) - {"cname"} == wanted
    assert event["ph"] in ("X", "B")
    assert type(event["name"]) is str
    assert event["name"]
    assert event["name"].isprintable()
    assert type(event["cat"]) is str
    assert type(event["args"]) is dict
    assert event.get("cname", "bad") in _COLOURS
    for key in wanted & {"ts", "dur"}:
        assert type(event[key]) in (int, float)
        assert event[key] >= 0


def _check_nesting(slices: list[dict[str, Any]]) -> None:
    """On each thread a slice lies inside the one around it or begins after it has ended, to the nanosecond."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in slices:
        begin = _ns(event["ts"])
        end = begin + _ns(event["dur"]) if event["ph"] == "X" else 2**70
        threads[event["pid"], event["tid"]].append((begin, end))
    for spans in threads.values():
        around: list[int] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while around and around[-1] <= begin:
                around.pop()
            assert not around or end <= around[-1], "slices of one thread overlap"
            around.append(end)


def _ns(us: float) -> int:
    return us * 1000 if type(us) is int else round(us * 1000)
