"""Writes ``tool.started``: at once for tools that were slow before, later for a call that takes long."""

from __future__ import annotations

from pyjama_instrument.recording.background_thread import BackgroundThread
from pyjama_instrument.recording.context import Call, Scope, SessionState
from pyjama_instrument.recording.event_writer import EventWriter
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.storage.encoding import tool_prefix

__all__ = ["CallAnnouncements"]

_ANNOUNCE_AFTER_NS = 250_000_000


class CallAnnouncements:
    """Announces calls that have begun."""

    def __init__(self, state: ProcessState, writer: EventWriter, background: BackgroundThread) -> None:
        self._state = state
        self._writer = writer
        self._background = background

    def announce(self, scope: Scope, tool: str, span: str) -> None:
        """Record at once that a call begins."""
        self._writer.emit(self.line(scope[0], tool, scope[1], span, self._state.now_us()))
        self._state.announced.add(span)
        try:
            self._background.revive()
        except RecursionError:  # the host's stack is full: the next call will do it, and this one has begun
            pass

    def announce_slow_calls(self) -> None:
        """Record the start of calls that have been running for a quarter of a second."""
        state = self._state
        horizon = state.mono_ns() - _ANNOUNCE_AFTER_NS
        for span, call in state.in_flight.copy().items():  # a copy is made in one step
            if call[4] < horizon and span not in state.announced:
                state.lock.run(self._announce_late, span, call)

    def announce_again(self) -> None:
        """Record the start of the announced calls in a new journal."""
        for span in list(self._state.announced):
            if call := self._state.in_flight.get(span):
                self._write_start(span, call)

    def _announce_late(self, span: str, call: Call) -> None:
        self._state.announced.add(span)  # from now on, the thread that ends the call waits for this one
        if span in self._state.in_flight:
            self._write_start(span, call)
        else:
            self._state.announced.discard(span)

    def _write_start(self, span: str, call: Call) -> None:
        session, _, parent, tool, start_ns = call
        ago_us = (self._state.mono_ns() - start_ns) // 1000
        self._writer.emit(self.line(session, tool, parent, span, self._state.now_us() - ago_us))

    def line(self, session: SessionState, tool: str, parent: str, span: str, ts: int) -> bytes:
        """The line of a call that began at ``ts``."""
        prefix = tool_prefix("tool.started", session.agent, session.id, tool)
        return f'{prefix}"parent":"{parent}","span":"{span}","ts":{ts}}}\n'.encode("ascii")
