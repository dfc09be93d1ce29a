"""The activity page as data: what has happened, newest first, filtered. Pure.

Rows are made of journal records, whatever these hold, and of the crashes, which nobody could record.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pyjama_instrument.document import DashboardData, SessionSummary
from pyjama_instrument.viewer.asked import Asked
from pyjama_instrument.viewer.wording import TONES, clip, crash_text, duration, failure_text, label

__all__ = ["MAX_ROWS", "Entry", "crashes", "entries_of", "merged", "names_of", "wanted_by"]

MAX_ROWS = 200
MAX_NAMES = 500

_WRONG = frozenset({"error", "failed", "crashed"})
_GOOD = frozenset({"ok", "completed", "success"})
_KINDS = {
    "tool.ended": "call",
    "step.started": "step",
    "step.ended": "step",
    "session.started": "run",
    "session.ended": "run",
    "activity": "note",
}


class Entry(NamedTuple):
    """A row, and its place in time."""

    ts: int
    key: str
    row: dict[str, Any]


def wanted_by(asked: Asked) -> Callable[[dict[str, Any]], bool]:
    """Which records the page shows."""
    words = asked.words

    def wanted(record: dict[str, Any]) -> bool:
        if record.get("kind") not in _KINDS:
            return False
        if (asked.agent and record.get("agent") != asked.agent) or (asked.tool and record.get("tool") != asked.tool):
            return False
        if asked.status and not _has_status(asked.status, _status(record)):
            return False
        if not words:
            return True
        text = _searched(record).casefold()
        return all(word in text for word in words)

    return wanted


def _has_status(asked: str, status: str) -> bool:
    if asked == "wrong":
        return status in _WRONG
    return status in _GOOD if asked == "ok" else status == asked


def _status(record: dict[str, Any]) -> str:
    if str(record.get("kind", "")).endswith(".started"):
        return "started"
    return str(record.get("status", ""))


def _searched(record: dict[str, Any]) -> str:
    error = record.get("error")
    message = f"{error.get('type')} {error.get('message')}" if isinstance(error, dict) else ""
    return " ".join(str(record.get(key, "")) for key in ("agent", "tool", "step", "status", "session")) + f" {message}"


def entries_of(found: Iterable[tuple[int, str, dict[str, Any]]]) -> list[Entry]:
    """The rows of records, given with their times (µs) and keys."""
    return [Entry(ts, key, _row(ts, key, record)) for ts, key, record in found]


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
        "tone": TONES.get(status, "idle"),
        "took": duration(nanoseconds / 1e6) if isinstance(nanoseconds, int) and status != "started" else "",
        "error": failure_text(str(error.get("type", "")), str(error.get("message", "")))
        if isinstance(error, dict)
        else "",
    }


def crashes(data: DashboardData, asked: Asked) -> list[Entry]:
    """The crashes among the sessions, as rows; their time is the last sign of life."""
    if asked.status not in ("", "wrong", "crashed"):
        return []
    return [
        _crash(key, session)
        for key, session in data.sessions.items()
        if session.status == "crashed" and _is_wanted(session, asked)
    ]


def _is_wanted(session: SessionSummary, asked: Asked) -> bool:
    tools = [call.tool for call in session.interrupted]
    if (asked.agent and session.agent_id != asked.agent) or (asked.tool and asked.tool not in tools):
        return False
    text = " ".join([session.agent_id, "crashed", *tools]).casefold()
    return all(word in text for word in asked.words)


def _crash(session_id: str, session: SessionSummary) -> Entry:
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
    return Entry(ms * 1000 + 999, key, row)


def merged(*lists: Sequence[Entry], limit: int = MAX_ROWS) -> list[Entry]:
    """The newest of them all, each once, newest first."""
    by_key = {entry.key: entry for entries in lists for entry in entries}
    return heapq.nlargest(limit, by_key.values(), key=lambda entry: entry[:2])


def names_of(data: DashboardData) -> dict[str, list[str]]:
    """What may be filtered by: the names of agents and tools, the busiest first."""
    agents = sorted(data.agents, key=lambda name: -(data.agents[name].last_seen or 0))
    tools = sorted(data.metrics.tools, key=lambda name: -data.metrics.tools[name].count)
    return {"agents": sorted(agents[:MAX_NAMES]), "tools": sorted(tools[:MAX_NAMES])}
