"""The events of a run that is under way."""

from __future__ import annotations

from typing import Any

from pyjama_instrument.recording.context import SessionState
from pyjama_instrument.recording.recorder import recorder

__all__ = ["record_and_keep", "session_event"]


def session_event(state: SessionState, kind: str, **fields: Any) -> dict[str, Any]:
    """An event of the run that happens now."""
    return {"kind": kind, "ts": recorder.now_us(), "agent": state.agent, "session": state.id, **fields}


def record_and_keep(state: SessionState, key: str, event: dict[str, Any]) -> None:
    """Record an event, and keep it under ``key`` to write it again if the store is wiped while the run is open."""
    if state.open_records:
        state.open_records[key] = event
    recorder.record(event)
