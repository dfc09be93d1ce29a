"""Sessions of this process that are open: their start, their end, and the implicit one of calls outside any other."""

from __future__ import annotations

from typing import Any

from pyjama_instrument.recording.background_thread import BackgroundThread
from pyjama_instrument.recording.context import Scope, SessionState
from pyjama_instrument.recording.event_writer import EventWriter
from pyjama_instrument.recording.outcome import outcome, what_ended_the_program
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.recording.worker_process import is_worker

__all__ = ["OpenSessions"]


class OpenSessions:
    """Records the start and the end of sessions.

    Attributes:
        open: sessions that this process has started and not ended, by id.
    """

    def __init__(self, state: ProcessState, writer: EventWriter, background: BackgroundThread) -> None:
        self._state = state
        self._writer = writer
        self._background = background

    def reset(self) -> None:
        """No session was started yet."""
        self.open: dict[str, SessionState] = {}
        self._state.ambient = None
        self._ambient: dict[str, Scope] = {}

    def set_ambient(self, scope: Scope) -> Scope:
        """Let calls outside any session belong to ``scope``, unless another thread has set one; returns the one set."""
        self._state.ambient = known = self._ambient.setdefault("ambient", scope)
        return known

    def unset_ambient(self, scope: Scope) -> None:
        """Undo :meth:`set_ambient`."""
        if self._state.ambient is scope:
            self._state.ambient = None
            self._ambient.clear()

    def new(self, agent: str) -> SessionState:
        """A session of this process that begins now; :meth:`start` records it."""
        state = self._state
        return SessionState(id=state.ids.trace(), agent=agent, span=state.ids.span(), started_ns=state.mono_ns())

    def describe_implicit(self, session: SessionState) -> None:
        """What :meth:`start` records of a session that the program did not ask for."""
        self.describe(session, implicit=True, **({"worker": True} if is_worker(self._state.forked) else {}))

    def describe(self, session: SessionState, **details: Any) -> None:
        """Keep what is to be recorded when a session of this process begins."""
        base = {"kind": "session.started", "agent": session.agent, "session": session.id, "span": session.span}
        session.open_records["start"] = base | {"ts": self._state.now_us()} | details

    def start(self, session: SessionState, **details: Any) -> None:
        """Record that a session of this process began."""
        if "start" not in session.open_records:
            self.describe(session, **details)
        self._record_start(session)
        if session.ending is not None:
            self.end(session, *session.ending)
        elif self._state.exiting and session.open_records["start"].get("implicit"):
            self.end(session, "completed")  # a daemon thread started it after the others were ended

    def _record_start(self, session: SessionState) -> None:
        session.start_recorded = self._state.enabled
        self._writer.record(session.open_records["start"])
        self.open[session.id] = session  # only now: a journal opened meanwhile records again what is in here

    def record_again(self) -> None:
        """Describe the open sessions in a new journal after the old one was removed."""
        for session in list(self.open.values()):
            for record in list(session.open_records.values()):
                self._writer.record(record)

    def end(self, session: SessionState, status: str, error: dict[str, Any] | None = None) -> None:
        """Record that a session ended; nothing happens if this process did not start it, or has ended it before."""
        if self.open.pop(session.id, None) is None:
            session.ending = status, error  # another thread may be starting it: that one ends it, or this one
            if self.open.pop(session.id, None) is None:
                return
        ended = {"kind": "session.ended", "agent": session.agent, "session": session.id, "span": session.span}
        duration_ns = max(0, self._state.mono_ns() - session.started_ns)
        details: dict[str, Any] = {"ts": self._state.now_us(), "duration_ns": duration_ns, "status": status}
        if session.start_recorded or self._state.enabled:
            self._writer.record_always(ended | details | ({"error": error} if error else {}))
        self._background.wake()

    def end_implicit(self) -> None:
        """End the implicit sessions with the program, as it ends."""
        ambient = self._ambient.get("ambient")
        if ambient is not None and ambient[0].open_records and ambient[0].id not in self.open:
            self._record_start(ambient[0])  # a daemon thread, which may never run again, was about to do it
        status, error = "completed", None
        if (failure := what_ended_the_program()) is not None:
            how, error = outcome(failure)
            status = "cancelled" if how == "cancelled" else "failed"
        for session in list(self.open.values()):
            if session.open_records["start"].get("implicit"):
                self.end(session, status, error)
