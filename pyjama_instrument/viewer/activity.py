"""The activity page as data: what happened, newest first, filtered. Pure.

Most rows are journal records, which may hold anything. Crashes are rows too, although a crashed run records none.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pyjama_instrument.document import DashboardData, SessionSummary
from pyjama_instrument.viewer.labels import clip, crash_text, duration, error_text, label, status_tone
from pyjama_instrument.viewer.query_parameters import QueryParameters

__all__ = ["MAX_ROWS", "ActivityEntry", "crash_entries", "filter_names", "merge_entries", "record_filter", "to_entries"]

MAX_ROWS = 200
MAX_NAMES = 500

_FAILED = frozenset({"error", "failed", "crashed"})
_SUCCEEDED = frozenset({"ok", "completed", "success"})
_KINDS = {
    "tool.ended": "call",
    "step.started": "step",
    "step.ended": "step",
    "session.started": "run",
    "session.ended": "run",
    "activity": "note",
}


class ActivityEntry(NamedTuple):
    """A row with its time (µs) and its key, by which the entries are sorted."""

    ts: int
    key: str
    row: dict[str, Any]


def record_filter(query: QueryParameters) -> Callable[[dict[str, Any]], bool]:
    """A function that decides whether the page shows a record."""
    words = query.words

    def wanted(record: dict[str, Any]) -> bool:
        if record.get("kind") not in _KINDS:
            return False
        if (query.agent and record.get("agent") != query.agent) or (query.tool and record.get("tool") != query.tool):
            return False
        if query.status and not _has_status(query.status, _status(record)):
            return False
        if not words:
            return True
        text = _search_text(record).casefold()
        return all(word in text for word in words)

    return wanted


def _has_status(wanted: str, status: str) -> bool:
    if wanted == "wrong":
        return status in _FAILED
    return status in _SUCCEEDED if wanted == "ok" else status == wanted


def _status(record: dict[str, Any]) -> str:
    if str(record.get("kind", "")).endswith(".started"):
        return "started"
    return str(record.get("status", ""))


def _search_text(record: dict[str, Any]) -> str:
    error = record.get("error")
    message = f"{error.get('type')} {error.get('message')}" if isinstance(error, dict) else ""
    return " ".join(str(record.get(key, "")) for key in ("agent", "tool", "step", "status", "session")) + f" {message}"


def to_entries(found: Iterable[tuple[int, str, dict[str, Any]]]) -> list[ActivityEntry]:
    """The entries of records that come with their times (µs) and keys."""
    return [ActivityEntry(ts, key, _row(ts, key, record)) for ts, key, record in found]


def _row(ts: int, key: str, record: dict[str, Any]) -> dict[str, Any]:
    error, status, nanoseconds = record.get("error"), _status(record), record.get("duration_ns")
    kind = _KINDS.get(str(record.get("kind")), "note")
    what = record.get("tool") or record.get("step") or ("run" if kind == "run" else "")
    session = record.get("session")
    return {
        "key": key,
        "at": ts // 1000,
        "kind": kind,
        "what": label(str(what)) if what else "",
        "tool": str(what) if kind == "call" else None,
        "agent": label(str(record.get("agent", ""))),
        "session": session if isinstance(session, str) and session else None,
        "status": clip(status, 40),
        "tone": status_tone(status),
        "took": duration(nanoseconds / 1e6) if isinstance(nanoseconds, int) and status != "started" else "",
        "error": error_text(str(error.get("type", "")), str(error.get("message", "")))
        if isinstance(error, dict)
        else "",
    }


def crash_entries(data: DashboardData, query: QueryParameters) -> list[ActivityEntry]:
    """The crashes of the listed runs. Their time is when the run last recorded anything."""
    if query.status not in ("", "wrong", "crashed"):
        return []
    return [
        _crash(key, session)
        for key, session in data.sessions.items()
        if session.status == "crashed" and _is_wanted(session, query)
    ]


def _is_wanted(session: SessionSummary, query: QueryParameters) -> bool:
    tools = [call.tool for call in session.interrupted]
    if (query.agent and session.agent_id != query.agent) or (query.tool and query.tool not in tools):
        return False
    text = " ".join([session.agent_id, "crashed", *tools]).casefold()
    return all(word in text for word in query.words)


def _crash(session_id: str, session: SessionSummary) -> ActivityEntry:
    ms = session.end_time or session.last_seen or 0
    tools = [call.tool for call in session.interrupted]
    key = f"crash {session_id}"
    row = {
        "key": key,
        "at": ms,
        "kind": "run",
        "what": label(tools[0]) if tools else "run",
        "tool": tools[0] if tools else None,
        "agent": label(session.agent_id),
        "session": session_id,
        "status": "crashed",
        "tone": "dead",
        "took": "",
        "error": crash_text(session),
    }
    return ActivityEntry(ms * 1000 + 999, key, row)


def merge_entries(*lists: Sequence[ActivityEntry], limit: int = MAX_ROWS) -> list[ActivityEntry]:
    """The newest entries of all lists, newest first and without duplicates."""
    by_key = {entry.key: entry for entries in lists for entry in entries}
    return heapq.nlargest(limit, by_key.values(), key=lambda entry: entry[:2])


def filter_names(data: DashboardData) -> dict[str, list[str]]:
    """The names to filter by, sorted: the agents seen last and the tools with the most calls."""
    agents = sorted(data.agents, key=lambda name: -(data.agents[name].last_seen or 0))
    tools = sorted(data.metrics.tools, key=lambda name: -data.metrics.tools[name].count)
    return {"agents": sorted(agents[:MAX_NAMES]), "tools": sorted(tools[:MAX_NAMES])}
