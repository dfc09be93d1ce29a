"""Named steps of a run."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from pyjama_instrument import _guard
from pyjama_instrument.recording.context import Scope, SessionState, current, leave_scope
from pyjama_instrument.recording.outcome import outcome
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.session_events import record_and_keep, session_event

__all__ = ["Step"]


class _Run(Protocol):
    @property
    def span(self) -> str: ...


RunT = TypeVar("RunT", bound=_Run)


class Step(Generic[RunT]):
    """A step of a run. Enter it once, with ``with`` or ``async with``; the value is the run."""

    __slots__ = ("_epoch", "_name", "_parent", "_run", "_span", "_started_ns", "_state", "_token")

    def __init__(self, run: RunT, state: SessionState, name: str) -> None:
        self._run = run
        self._state = state
        self._name = name
        self._span = ""
        self._token: Token[Scope | None] | None = None

    def __enter__(self) -> RunT:
        try:
            recorder.notice_fork()
            self._epoch = recorder.epoch
            self._parent = self._run.span
            self._started_ns = recorder.mono_ns()
            self._span = recorder.ids.span()
            self._token = current.set((self._state, self._span))
            started = session_event(self._state, "step.started", step=self._name, parent=self._parent, span=self._span)
            record_and_keep(self._state, self._span, started)
        except Exception as fault:
            _guard.swallow(fault, "step.begin")
        return self._run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leave_scope(self._token)
        try:
            recorder.notice_fork()
            if self._span and self._epoch == recorder.epoch:  # in a forked child, the step is the parent's
                self._record_end(error)
        except Exception as fault:
            _guard.swallow(fault, "step.end")

    async def __aenter__(self) -> RunT:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _record_end(self, error: BaseException | None) -> None:
        self._state.open_records.pop(self._span, None)
        status, failure = ("ok", None) if error is None else outcome(error)
        event = session_event(
            self._state, "step.ended", step=self._name, parent=self._parent, span=self._span,
            duration_ns=recorder.mono_ns() - self._started_ns, status=status,
        )  # fmt: skip
        recorder.record(event | ({"error": failure} if failure else {}))
