"""What every page shows around its own content: title, store, notices. Pure."""

from __future__ import annotations

from typing import Any

from pyjama_instrument.document import DashboardData, Health, RunCounts
from pyjama_instrument.viewer.labels import MESSAGE_LIMIT, clip, count, format_count

__all__ = ["page_frame"]


def page_frame(data: DashboardData, store: str | None) -> dict[str, Any]:
    """The fields that the views of all pages have in common."""
    return {
        "now": data.timestamp,
        "title": _title(data.runs),
        "store": store,
        "notes": _notes(data.health),
        "empty": not (data.sessions or data.agents or data.metrics.tools or data.recent_logs),
    }


def _title(runs: RunCounts) -> str:
    numbers = {"running": runs.running, "crashed": runs.crashed, "failed": runs.failed}
    parts = [f"{format_count(number)} {word}" for word, number in numbers.items() if number]
    return " · ".join([*parts, "pyjama"])


def _notes(health: Health) -> list[dict[str, str]]:
    notes = [{"tone": "warn", "text": clip(note, MESSAGE_LIMIT)} for note in health.notes[:10]]
    for cause, number in sorted(health.dropped.items()):
        if number:
            text = f"{count(number, 'event')} could not be written ({clip(cause, 60)}): counts are too low."
            notes.append({"tone": "warn", "text": text})
    if health.torn:
        skipped = f"{count(health.torn, 'half-written record')} skipped"
        text = f"{skipped}: a process died while writing, or a file was truncated."
        notes.append({"tone": "info", "text": text})
    for what, number in sorted(health.overflow.items()):
        if number:
            text = f"{format_count(number)} more {clip(what, 60)} exceed the limit and are counted together."
            notes.append({"tone": "info", "text": text})
    return notes
