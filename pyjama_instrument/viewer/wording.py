"""How numbers, durations and names are put into words on the page. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from pyjama_instrument.document import InFlight, SessionSummary
from pyjama_instrument.presentation.formatting import duration

__all__ = [
    "MESSAGE_LIMIT",
    "TONES",
    "clip",
    "count",
    "crash_text",
    "duration",
    "failure_text",
    "json_text",
    "label",
    "listing",
    "longest_first",
    "number_of",
    "per_second",
    "percent",
    "text_of",
]

NONE = "–"
NAME_LIMIT = 200
MESSAGE_LIMIT = 500

TONES = {
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
"""How a status is coloured."""


def clip(text: str, limit: int = NAME_LIMIT) -> str:
    """The text, cut to ``limit`` characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def label(name: str) -> str:
    """A name for one line of the page: white space collapsed, clipped, never empty."""
    return clip(" ".join(name[: 4 * NAME_LIMIT].split())) or "(no name)"


def text_of(value: Any, limit: int) -> str:
    """A recorded value as text: a string as it is, anything else as JSON."""
    return clip(value, limit) if isinstance(value, str) else json_text(value, limit)


def json_text(value: Any, limit: int) -> str:
    """A recorded value as JSON, clipped."""
    try:
        return clip(json.dumps(value, ensure_ascii=False, default=repr), limit)
    except (TypeError, ValueError, RecursionError):
        return clip(repr(value), limit)


def count(number: int) -> str:
    """``1234567`` → ``1,234,567``."""
    return f"{number:,}"


def listing(names: list[str], limit: int = 3) -> str:
    """``a, b and c``; beyond ``limit`` names ``a, b, c and 4 more``."""
    shown = names[:limit]
    if len(names) > limit:
        return f"{', '.join(shown)} and {count(len(names) - limit)} more"
    return " and ".join(part for part in (", ".join(shown[:-1]), shown[-1] if shown else "") if part)


def longest_first(calls: Iterable[InFlight]) -> list[InFlight]:
    """Calls in the order of their beginning."""
    return sorted(calls, key=lambda call: (call.start_time, call.span))


def crash_text(run: SessionSummary) -> str:
    """Where a run died: in which tools, or in which step."""
    calls = longest_first(run.interrupted)
    if calls:
        return f"died in {listing([label(call.tool) for call in calls])}"
    if run.current_step:
        return f"died in step {label(run.current_step)}, between tool calls"
    return "died between tool calls"


def failure_text(kind: str, message: str) -> str:
    """An exception as Python prints it: ``ValueError: no such key``."""
    return clip(": ".join(part for part in (kind.removeprefix("builtins."), message) if part), MESSAGE_LIMIT)


def number_of(value: float) -> float:
    """An amount to sort and divide by: neither infinite nor below zero, whatever a damaged document says."""
    return max(value, 0.0) if math.isfinite(value) else 0.0


def percent(rate: float | None) -> str:
    """A share of one as a percentage; only exactly all is ``100 %`` and only exactly none is ``0 %``."""
    if rate is None or not math.isfinite(rate):
        return NONE
    if rate >= 1:
        return "100 %"
    if rate <= 0:
        return "0 %"
    return f"{min(max(rate * 100, 0.1), 99.9):.1f} %"


def per_second(rate: float | None) -> str:
    """A rate with as many digits as it is worth."""
    if rate is None or not math.isfinite(rate):
        return NONE
    if rate >= 100:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate else "0"
