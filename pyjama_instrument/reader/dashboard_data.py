"""Makes the dashboard's data from a document. Reads no files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from pyjama_instrument import hooks
from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    GlobalMetrics,
    Health,
    LogEntry,
    Rates,
    SessionSummary,
    ToolMetrics,
)
from pyjama_instrument.fold.agents import run_totals
from pyjama_instrument.fold.document import new_document
from pyjama_instrument.fold.histogram import percentile_ms

__all__ = ["DashboardBuilder", "session_fields"]

_RATE_SECONDS = 10
_PROCESSES_NAMED = 4
_INVALID = (ValidationError, AttributeError, KeyError, OverflowError, TypeError, ValueError)

_Model = TypeVar("_Model", bound=BaseModel)


class _ModelCache(Generic[_Model]):
    """The entries of one section as models; an entry that has not changed is not validated again."""

    def __init__(self, model: type[_Model], fields: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._model = model
        self._fields = fields
        self._known: dict[str, tuple[dict[str, Any], _Model]] = {}

    def forget(self, names: Iterable[str]) -> None:
        """These entries may have changed."""
        for name in names:
            self._known.pop(name, None)

    def one(self, name: str, entry: dict[str, Any]) -> _Model:
        """The model of one entry."""
        known = self._known.get(name)
        if known is None or (known[0] is not entry and known[0] != entry):
            known = self._known[name] = entry, self._model.model_validate(self._fields(entry))
        return known[1]

    def of(self, section: dict[str, dict[str, Any]]) -> dict[str, _Model]:
        """The section's models, by name."""
        old, self._known = self._known, {}
        for name, entry in section.items():
            known = old.get(name)
            # In another generation of the snapshot, the entry is another object that is usually equal.
            if known is not None and (known[0] is entry or known[0] == entry):
                self._known[name] = entry, known[1]
            else:
                self._known[name] = entry, self._model.model_validate(self._fields(entry))
        return {name: model for name, (_, model) in self._known.items()}


class DashboardBuilder:
    """Makes the dashboard's data from one document again and again."""

    def __init__(self) -> None:
        self._sessions = _ModelCache(SessionSummary, session_fields)
        self._agents = _ModelCache(AgentSummary, _agent_fields)

    def forget(self, changed_entries: Mapping[str, Iterable[str]]) -> None:
        """These entries, by section, may have changed."""
        self._sessions.forget(changed_entries["sessions"])
        self._agents.forget(changed_entries["agents"])

    def session(self, session_id: str, entry: dict[str, Any]) -> SessionSummary | None:
        """One session of the document; None if its entry is invalid."""
        try:
            return self._sessions.one(session_id, entry)
        except _INVALID:
            return None

    def dashboard(self, document: dict[str, Any], notes: list[str]) -> DashboardData:
        """The document as dashboard data. Invalid entries are left out, and a note reports this."""
        try:
            sessions, agents = self._sessions.of(document["sessions"]), self._agents.of(document["agents"])
            return DashboardData.model_validate(
                _document_fields(document, notes) | {"sessions": sessions, "agents": agents}
            )
        except _INVALID:
            return _without_invalid(document, notes)


def _document_fields(document: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    agents = document["agents"]
    health = document["health"]
    return {
        "runs": run_totals(document),
        "specs": document["specs"],
        "metrics": {
            "global": _global(document, now_ms),
            "tools": {name: _rates(entry) for name, entry in document["tools"].items()},
            "agents": {name: _rates(entry["calls"]) for name, entry in agents.items() if "calls" in entry},
        },
        "recent-logs": document["recent-logs"],
        "hooks": {"registered": hooks.registered()},
        "health": health | {"notes": [*notes, *_health_notes(health)]},
        "timestamp": now_ms,
    }


# The models of the entries of each section.
_ENTRIES: dict[str, list[tuple[type[BaseModel], Callable[[Any], Any]]]] = {
    "agents": [
        (AgentSummary, lambda entry: _agent_fields(entry)),
        (Rates, lambda entry: _rates(entry.get("calls", {}))),
    ],
    "sessions": [(SessionSummary, lambda entry: session_fields(entry))],
    "tools": [(ToolMetrics, lambda entry: _rates(entry))],
}


def _without_invalid(document: dict[str, Any], notes: list[str]) -> DashboardData:
    """The document as dashboard data without the entries that are invalid."""
    sound, left_out = dict(document), 0
    for section, forms in _ENTRIES.items():
        sound[section] = {
            key: entry
            for key, entry in document[section].items()
            if all(_is_valid(model, shown, entry) for model, shown in forms)
        }
        left_out += len(document[section]) - len(sound[section])
    sound["recent-logs"] = [
        entry for entry in document["recent-logs"] if _is_valid(LogEntry, lambda entry: entry, entry)
    ]
    left_out += len(document["recent-logs"]) - len(sound["recent-logs"])
    for section, model in (("global", GlobalMetrics), ("health", Health)):
        if not _is_valid(model, _rates if section == "global" else lambda entry: entry, document[section]):
            sound[section] = new_document()[section]
            left_out += 1
    notes = [*notes, f"{left_out} damaged entries of metrics.json are not shown"]
    sessions = {sid: session_fields(session) for sid, session in sound["sessions"].items()}
    agents = {name: _agent_fields(agent) for name, agent in sound["agents"].items()}
    return DashboardData.model_validate(_document_fields(sound, notes) | {"sessions": sessions, "agents": agents})


def _is_valid(model: type[BaseModel], shown: Callable[[Any], Any], entry: Any) -> bool:
    try:
        model.model_validate(shown(entry))
    except _INVALID:
        return False
    return True


def _agent_fields(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "calls"}


def session_fields(session: dict[str, Any]) -> dict[str, Any]:
    """The fields of :class:`SessionSummary` from a session of the document."""
    in_flight = [{"span": span} | call for span, call in session["in-flight"].items()]
    return session | {"in-flight": in_flight}


def _rates(counts: dict[str, Any]) -> dict[str, Any]:
    count, total_ms = counts.get("count", 0), counts.get("total-duration", 0.0)
    buckets = counts.get("latency", {}).get("buckets", {})
    shown = {key: value for key, value in counts.items() if key not in ("latency", "durations")}
    for key, fraction in (("p50-ms", 0.5), ("p95-ms", 0.95), ("p99-ms", 0.99)):
        near = percentile_ms(buckets, fraction)
        if near is not None:  # one call took exactly the total, and no call took longer than the total
            near = total_ms if count == 1 else min(near, total_ms)
        shown[key] = near
    if count:
        shown["success-rate"] = counts.get("success", 0) / count
        shown["avg-duration-ms"] = total_ms / count
    return shown


def _global(document: dict[str, Any], now_ms: int) -> dict[str, Any]:
    shown = _rates(document["global"])
    total_ms = shown.get("total-duration", 0.0)
    shown["throughput"] = shown.get("count", 0) / (total_ms / 1000) if total_ms else None
    newest = now_ms // 1000
    rate = document["rate"]
    calls = sum(rate.get(str(second), 0) for second in range(newest - _RATE_SECONDS, newest))
    shown["calls-per-second"] = calls / _RATE_SECONDS
    return shown


def _names_of_divided(marker: Any) -> str:
    """The processes whose locks some others do not see."""
    if not isinstance(marker, dict) or not isinstance(marker.get("writers"), dict):
        return ""
    known = [writer for writer in marker["writers"].values() if isinstance(writer, dict)][-_PROCESSES_NAMED:]
    return ", ".join(f"process {writer.get('pid', '?')} on {writer.get('host', '?')}" for writer in known)


def _health_notes(health: dict[str, Any]) -> list[str]:
    notes = []
    if health.get("locks") == "untrusted":
        notes.append(
            "file locks have no effect on the store's file system: crashes cannot be seen, and nothing is retired or "
            "deleted. Set PYJAMA_HOME to a directory on a local disk"
        )
    elif processes := _names_of_divided(health.get("lock-domains")):
        notes.append(
            f"processes that write here do not see each other's locks: {processes} and others. A missing lock does "
            "not mean crashed here, and nothing is retired. Use one volume of one kernel, or a PYJAMA_HOME for each "
            "side (docs/howto/containers.md), then run  pyjama clear"
        )
    if torn := health.get("torn"):
        notes.append(f"{torn} damaged records were skipped")
    for reason, count in health.get("dropped", {}).items():
        notes.append(f"{count} events could not be recorded ({reason})")
    for what, count in health.get("overflow", {}).items():
        notes.append(f"{count} events of {what} beyond the limit are counted under __other__")
    return notes
