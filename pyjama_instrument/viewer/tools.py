"""The tools page as data: a table to sort and search, and all about one tool. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pyjama_instrument.document import DashboardData, ToolMetrics
from pyjama_instrument.viewer.asked import Asked
from pyjama_instrument.viewer.recent import LINE_MS, LINE_SLOTS, Recent, spark
from pyjama_instrument.viewer.wording import count, duration, failure_text, label, number_of, per_second, percent

__all__ = ["MAX_ROWS", "histogram", "time_line", "tool_of", "tool_row", "tools_of"]

MAX_ROWS = 200
MAX_BARS = 60

_Bounds = Callable[[int], tuple[float, float]]

_SORTS: dict[str, Callable[[ToolMetrics], float]] = {
    "calls": lambda tool: tool.count,
    "errors": lambda tool: tool.error,
    "success": lambda tool: tool.success_rate if tool.success_rate is not None else 2.0,
    "p50": lambda tool: number_of(tool.p50_ms or 0.0),
    "p95": lambda tool: number_of(tool.p95_ms or 0.0),
    "p99": lambda tool: number_of(tool.p99_ms or 0.0),
    "total": lambda tool: number_of(tool.total_duration),
}
DEFAULT_SORT = "-total"


def tools_of(data: DashboardData, asked: Asked, recent: Recent) -> dict[str, Any]:
    """The table: the tools that are asked for, in the order asked for."""
    found = [
        (name, tool)
        for name, tool in data.metrics.tools.items()
        if all(word in f"{name} {_last_error(tool)}".casefold() for word in asked.words)
        and (asked.status != "wrong" or tool.error)
    ]
    sort = _sort(asked.sort)
    _arrange(found, sort, recent, data.timestamp)
    limit = max(MAX_ROWS, asked.shown)
    longest = max((number_of(tool.total_duration) for _, tool in found), default=0.0)
    return {
        "rows": [tool_row(name, tool, longest, recent, data.timestamp) for name, tool in found[:limit]],
        "more": max(len(found) - limit, 0),
        "found": count(len(found)),
        "all": count(len(data.metrics.tools)),
        "sort": sort,
    }


def _sort(asked: str) -> str:
    return asked if asked.removeprefix("-") in {*_SORTS, "tool", "now"} else DEFAULT_SORT


def _arrange(found: list[tuple[str, ToolMetrics]], sort: str, recent: Recent, now: int) -> None:
    """Tools of the same rank stay in the order of their names, whichever way the table is turned."""
    key, backwards = sort.removeprefix("-"), sort.startswith("-")
    found.sort(key=lambda item: (item[0].casefold(), item[0]), reverse=backwards and key == "tool")
    if key == "now":
        found.sort(key=lambda item: recent.tool_rate(item[0], now), reverse=backwards)
    elif key != "tool":
        found.sort(key=lambda item: _SORTS[key](item[1]), reverse=backwards)


def tool_row(
    name: str, tool: ToolMetrics, longest: float, recent: Recent | None = None, now: int = 0
) -> dict[str, Any]:
    """One tool as a row; ``longest`` is the largest total time of any."""
    return {
        "key": name,
        "tool": "all further tools" if name == "__other__" else label(name),
        "calls": count(tool.count),
        "errors": count(tool.error) if tool.error else "",
        "success": percent(tool.success_rate),
        "now": per_second(recent.tool_rate(name, now)) if recent else "",
        "spark": spark(recent.tools.of(name, now)) if recent else "",
        "p50": duration(tool.p50_ms),
        "p95": duration(tool.p95_ms),
        "p99": duration(tool.p99_ms),
        "total": duration(tool.total_duration),
        "share": round(number_of(tool.total_duration) / longest, 3) if longest > 0 else 0.0,
        "last_error": _last_error(tool),
    }


def _last_error(tool: ToolMetrics) -> str:
    return failure_text(tool.last_error.type, tool.last_error.message) if tool.last_error else ""


# ── one tool ────────────────────────────────────────────────────────────────────────────────────────────


def tool_of(
    data: DashboardData, asked: Asked, recent: Recent, buckets: Mapping[int, int], bounds: _Bounds
) -> dict[str, Any]:
    """Everything about the tool ``asked.name``."""
    name = asked.name
    tool = data.metrics.tools.get(name)
    if tool is None:
        return {"tool": None, "name": label(name), "facts": [], "histogram": None, "line": None}
    row = tool_row(name, tool, 0.0, recent, data.timestamp)
    facts = [
        ("calls", row["calls"], ""),
        ("errors", row["errors"] or "0", "bad" if tool.error else ""),
        ("success", row["success"], ""),
        ("calls/s now", row["now"], ""),
        ("p50", row["p50"], ""),
        ("p95", row["p95"], ""),
        ("p99", row["p99"], ""),
        ("mean", duration(tool.avg_duration_ms), ""),
        ("total time", row["total"], ""),
    ]
    return {
        "tool": name,
        "name": row["tool"],
        "facts": [{"key": key, "label": key, "value": value, "tone": tone} for key, value, tone in facts],
        "last_error": row["last_error"],
        "histogram": histogram(buckets, bounds, tool),
        "line": time_line(name, recent, data.timestamp),
    }


def histogram(buckets: Mapping[int, int], bounds: _Bounds, tool: ToolMetrics) -> dict[str, Any] | None:
    """Bars of equal width on a logarithmic scale; None without calls. Positions and heights are from 0 to 1."""
    if not buckets or max(buckets) - min(buckets) > 100_000:
        return None
    wide = max(1, -(-(max(buckets) - min(buckets) + 1) // MAX_BARS))
    first, last = min(buckets) // wide - 1, max(buckets) // wide + 1
    counts = dict.fromkeys(range(first, last + 1), 0)
    for index, number in buckets.items():
        counts[index // wide] += number
    top = max(counts.values())
    low, high = bounds(first * wide)[0], bounds(last * wide + wide - 1)[1]
    bars = []
    for at, number in counts.items():
        begin, end = bounds(at * wide)[0], bounds(at * wide + wide - 1)[1]
        height = max(round(number / top, 4), 0.01) if number else 0
        bars.append([height, f"{duration(begin)} – {duration(end)}: {count(number)} call{'' if number == 1 else 's'}"])
    quantiles = (("p50", tool.p50_ms), ("p95", tool.p95_ms), ("p99", tool.p99_ms))
    marks = [[name, _along(ms, low, high), duration(ms)] for name, ms in quantiles if ms]
    return {"bars": bars, "marks": marks, "low": duration(low), "high": duration(high), "top": count(top)}


def _along(ms: float, low: float, high: float) -> float:
    """Where on a logarithmic axis, from 0 to 1."""
    if not (math.isfinite(ms) and ms > 0 and 0 < low < high):
        return 0.0
    return round(min(max(math.log(ms / low) / math.log(high / low), 0.0), 1.0), 4)


def time_line(name: str, recent: Recent, now: int) -> dict[str, Any]:
    """Calls and errors of the last ten minutes; ``unknown`` is the share of it that nobody watched."""
    counts, errors = recent.lines.of(name, now), recent.errors.of(name, now)
    top = max(counts)
    begin = (now // LINE_MS - LINE_SLOTS + 1) * LINE_MS
    bars = []
    for at, (number, wrong) in enumerate(zip(counts, errors, strict=True)):
        text = f"{_ago(at)}: {count(number)} call{'' if number == 1 else 's'}, {count(wrong)} failed" if number else ""
        bars.append([round(number / top, 3) if top else 0, round(min(wrong / top, 1), 3) if top else 0, text])
    unknown = (recent.since - begin) / (LINE_MS * LINE_SLOTS)
    return {
        "bars": bars,
        "top": count(top),
        "seconds": LINE_MS // 1000,
        "unknown": round(min(max(unknown, 0.0), 1.0), 2),
    }


def _ago(slot: int) -> str:
    """When a slot was: the same for as long as it is in its place."""
    ago = (LINE_SLOTS - 1 - slot) * LINE_MS
    return f"{duration(ago)} ago" if ago else "now"
