"""The text of numbers, names, errors and recorded values on the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pyjama_instrument.document import InFlight, SessionSummary
from pyjama_instrument.presentation.formatting import NONE, count, duration, join_names, json_or_repr

__all__ = [
    "MESSAGE_LIMIT",
    "UNKNOWN_END",
    "by_start_time",
    "clip",
    "count",
    "crash_text",
    "duration",
    "error_text",
    "finite_or_zero",
    "format_count",
    "format_percent",
    "format_rate",
    "join_names",
    "json_or_repr",
    "label",
    "problem_text",
    "process_text",
    "status_tone",
    "value_text",
]

NAME_LIMIT = 200
MESSAGE_LIMIT = 500

UNKNOWN_END = frozenset({"crashed", "ended"})
"""Statuses of runs that recorded no end: the last event is the closest known time."""

_TONES = {
    "running": "live",
    "completed": "ok",
    "ok": "ok",
    "done": "ok",
    "success": "ok",
    "failed": "bad",
    "error": "bad",
    "crashed": "dead",
    "cancelled": "warn",
    "ended": "idle",
}
"""The colour of each status, as a name that the style sheet knows."""


def status_tone(status: str) -> str:
    """The colour of a status."""
    return _TONES.get(status, "idle")


def clip(text: str, limit: int = NAME_LIMIT) -> str:
    """The text, cut to ``limit`` characters. If it was longer, it ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def label(name: str) -> str:
    """A name on one line: white space collapsed, cut to a maximum length, never empty."""
    return clip(" ".join(name[: 4 * NAME_LIMIT].split())) or "(no name)"


def value_text(value: Any, limit: int) -> str:
    """A recorded value as text, clipped: a string unchanged, anything else as JSON."""
    return clip(value, limit) if isinstance(value, str) else clip(json_or_repr(value), limit)


def format_count(number: int) -> str:
    """``1234567`` → ``1,234,567``."""
    return f"{number:,}"


def process_text(run: SessionSummary, *, show_host: bool = True) -> str:
    """The process of a run, such as ``pid 77 on laptop``; empty if it is not known."""
    parts = [f"pid {run.pid}" if run.pid else "", f"on {clip(run.host, 60)}" if run.host and show_host else ""]
    return " ".join(part for part in parts if part)


def by_start_time(calls: Iterable[InFlight]) -> list[InFlight]:
    """The calls in the order in which they started."""
    return sorted(calls, key=lambda call: (call.start_time, call.span))


def crash_text(run: SessionSummary) -> str:
    """Where a run crashed: in which tools, or in which step."""
    calls = by_start_time(run.interrupted)
    if calls:
        return f"process died in {join_names([label(call.tool) for call in calls])}"
    if run.current_step:
        return f"process died in step {label(run.current_step)}, between tool calls"
    return "process died between tool calls"


def problem_text(run: SessionSummary) -> str:
    """What is wrong with a run, in one line; empty if nothing is."""
    if run.status == "crashed":
        return crash_text(run)
    if run.error is None:
        return "failed; no error was recorded" if run.status == "failed" else ""
    return error_text(run.error.type, run.error.message) or run.status


def error_text(kind: str, message: str) -> str:
    """An error as Python prints it: ``ValueError: no such key``."""
    return clip(": ".join(part for part in (kind.removeprefix("builtins."), message) if part), MESSAGE_LIMIT)


def finite_or_zero(value: float) -> float:
    """The value if it is finite and positive, otherwise zero: a damaged document may hold any number."""
    return max(value, 0.0) if math.isfinite(value) else 0.0


def format_percent(rate: float | None) -> str:
    """A rate from 0 to 1 as a percentage. Only exactly 1 is ``100 %``, and only exactly 0 is ``0 %``."""
    if rate is None or not math.isfinite(rate):
        return NONE
    if rate >= 1:
        return "100 %"
    if rate <= 0:
        return "0 %"
    return f"{min(max(rate * 100, 0.1), 99.9):.1f} %"


def format_rate(rate: float | None) -> str:
    """Calls per second: one decimal below 100, none above."""
    if rate is None or not math.isfinite(rate):
        return NONE
    if rate >= 100:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate else "0"
