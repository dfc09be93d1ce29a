"""The tools pages as data: a table to sort and search, and the page of one tool. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pyjama_instrument.document import DashboardData, ToolMetrics
from pyjama_instrument.viewer.call_rates import TIMELINE_SLOT_MS, TIMELINE_SLOTS, CallRates, sparkline
from pyjama_instrument.viewer.labels import (
    count,
    duration,
    error_text,
    finite_or_zero,
    format_count,
    format_percent,
    format_rate,
    label,
)
from pyjama_instrument.viewer.query_parameters import QueryParameters

__all__ = ["MAX_ROWS", "histogram", "timeline", "tool_page", "tool_row", "tool_table"]

MAX_ROWS = 200
MAX_BARS = 60

_Bounds = Callable[[int], tuple[float, float]]

_SORTS: dict[str, Callable[[ToolMetrics], float]] = {
    "calls": lambda tool: tool.count,
    "errors": lambda tool: tool.error,
    "success": lambda tool: tool.success_rate if tool.success_rate is not None else 2.0,
    "p50": lambda tool: finite_or_zero(tool.p50_ms or 0.0),
    "p95": lambda tool: finite_or_zero(tool.p95_ms or 0.0),
    "p99": lambda tool: finite_or_zero(tool.p99_ms or 0.0),
    "total": lambda tool: finite_or_zero(tool.total_duration),
}
DEFAULT_SORT = "-total"


def tool_table(data: DashboardData, query: QueryParameters, rates: CallRates) -> dict[str, Any]:
    """The table: the tools that match the query, in its sort order."""
    found = [
        (name, tool)
        for name, tool in data.metrics.tools.items()
        if all(word in f"{name} {_last_error(tool)}".casefold() for word in query.words)
        and (query.status != "wrong" or tool.error)
    ]
    sort = _sort(query.sort)
    _sort_tools(found, sort, rates, data.timestamp)
    limit = max(MAX_ROWS, query.row_limit)
    longest = max((finite_or_zero(tool.total_duration) for _, tool in found), default=0.0)
    return {
        "rows": [tool_row(name, tool, longest, rates, data.timestamp) for name, tool in found[:limit]],
        "more": max(len(found) - limit, 0),
        "found": format_count(len(found)),
        "all": format_count(len(data.metrics.tools)),
        "sort": sort,
    }


def _sort(wanted: str) -> str:
    return wanted if wanted.removeprefix("-") in {*_SORTS, "tool", "now"} else DEFAULT_SORT


def _sort_tools(found: list[tuple[str, ToolMetrics]], sort: str, rates: CallRates, now: int) -> None:
    """Sort in place. Tools with equal values are in the order of their names, in both directions."""
    key, backwards = sort.removeprefix("-"), sort.startswith("-")
    found.sort(key=lambda item: (item[0].casefold(), item[0]), reverse=backwards and key == "tool")
    if key == "now":
        found.sort(key=lambda item: rates.tool_rate(item[0], now), reverse=backwards)
    elif key != "tool":
        found.sort(key=lambda item: _SORTS[key](item[1]), reverse=backwards)


def tool_row(
    name: str, tool: ToolMetrics, longest: float, rates: CallRates | None = None, now: int = 0
) -> dict[str, Any]:
    """One tool as a row; ``longest`` is the largest total time of all tools."""
    return {
        "key": name,
        "tool": "other tools" if name == "__other__" else label(name),
        "calls": format_count(tool.count),
        "errors": format_count(tool.error) if tool.error else "",
        "success": format_percent(tool.success_rate),
        "now": format_rate(rates.tool_rate(name, now)) if rates else "",
        "sparkline": sparkline(rates.tools.counts(name, now)) if rates else "",
        "p50": duration(tool.p50_ms),
        "p95": duration(tool.p95_ms),
        "p99": duration(tool.p99_ms),
        "total": duration(tool.total_duration),
        "share": round(finite_or_zero(tool.total_duration) / longest, 3) if longest > 0 else 0.0,
        "last_error": _last_error(tool),
    }


def _last_error(tool: ToolMetrics) -> str:
    return error_text(tool.last_error.type, tool.last_error.message) if tool.last_error else ""


# ── one tool ────────────────────────────────────────────────────────────────────────────────────────────


def tool_page(
    data: DashboardData, query: QueryParameters, rates: CallRates, buckets: Mapping[int, int], bounds: _Bounds
) -> dict[str, Any]:
    """Everything about the tool ``query.name``, except its latest calls."""
    name = query.name
    tool = data.metrics.tools.get(name)
    if tool is None:
        return {"tool": None, "name": label(name), "facts": [], "histogram": None, "timeline": None}
    row = tool_row(name, tool, 0.0, rates, data.timestamp)
    facts = [
        ("calls", row["calls"], ""),
        ("errors", row["errors"] or "0", "bad" if tool.error else ""),
        ("success rate", row["success"], ""),
        ("calls/s", row["now"], ""),
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
        "timeline": timeline(name, rates, data.timestamp),
    }


def histogram(buckets: Mapping[int, int], bounds: _Bounds, tool: ToolMetrics) -> dict[str, Any] | None:
    """Bars of equal width on a logarithmic scale; None without calls. Positions and heights are from 0 to 1."""
    if not buckets or max(buckets) - min(buckets) > 100_000:
        return None
    width = max(1, -(-(max(buckets) - min(buckets) + 1) // MAX_BARS))  # buckets per bar
    first, last = min(buckets) // width - 1, max(buckets) // width + 1
    counts = dict.fromkeys(range(first, last + 1), 0)
    for index, number in buckets.items():
        counts[index // width] += number
    top = max(counts.values())
    low, high = bounds(first * width)[0], bounds(last * width + width - 1)[1]
    bars = []
    for at, number in counts.items():
        begin, end = bounds(at * width)[0], bounds(at * width + width - 1)[1]
        height = max(round(number / top, 4), 0.01) if number else 0
        bars.append([height, f"{duration(begin)} – {duration(end)}: {count(number, 'call')}"])
    quantiles = (("p50", tool.p50_ms), ("p95", tool.p95_ms), ("p99", tool.p99_ms))
    marks = [[name, _log_position(ms, low, high), duration(ms)] for name, ms in quantiles if ms]
    return {"bars": bars, "marks": marks, "low": duration(low), "high": duration(high), "top": format_count(top)}


def _log_position(ms: float, low: float, high: float) -> float:
    """The position on a logarithmic axis from ``low`` to ``high``, from 0 to 1."""
    if not (math.isfinite(ms) and ms > 0 and 0 < low < high):
        return 0.0
    return round(min(max(math.log(ms / low) / math.log(high / low), 0.0), 1.0), 4)


def timeline(name: str, rates: CallRates, now: int) -> dict[str, Any]:
    """Calls and errors of the last ten minutes; ``unknown`` is the share of them for which no counts are known."""
    counts, errors = rates.timelines.counts(name, now), rates.errors.counts(name, now)
    top = max(counts)
    begin = (now // TIMELINE_SLOT_MS - TIMELINE_SLOTS + 1) * TIMELINE_SLOT_MS
    bars = []
    for at, (number, failed) in enumerate(zip(counts, errors, strict=True)):
        text = f"{_ago(at)}: {count(number, 'call')}, {format_count(failed)} failed" if number else ""
        bars.append([round(number / top, 3) if top else 0, round(min(failed / top, 1), 3) if top else 0, text])
    unknown = (rates.since - begin) / (TIMELINE_SLOT_MS * TIMELINE_SLOTS)
    return {
        "bars": bars,
        "top": format_count(top),
        "seconds": TIMELINE_SLOT_MS // 1000,
        "unknown": round(min(max(unknown, 0.0), 1.0), 2),
    }


def _ago(slot: int) -> str:
    """How long ago a slot was, by its position: the text changes only when the slot moves."""
    ago = (TIMELINE_SLOTS - 1 - slot) * TIMELINE_SLOT_MS
    return f"{duration(ago)} ago" if ago else "now"
