"""The runs that the running code has entered, innermost last.

A run may be left in another thread or task than it was entered in, and in another order than the runs around it.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from pyjama_instrument import _guard
from pyjama_instrument.recording.activation import Activation
from pyjama_instrument.recording.context import Scope, current
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.session import Session

__all__ = ["ActiveRun", "enter_run", "leave_ended_runs", "leave_run", "runs_entered_here"]


class ActiveRun(Activation):
    """A run that its caller has to end.

    Attributes:
        active: all active runs of the same ``agent_session`` object, this one among them until it has ended.
        token: what restores the scope around the run.
    """

    __slots__ = ("active", "session", "token")

    def __init__(self, session: Session, active: list[ActiveRun]) -> None:
        super().__init__((session._state, session._state.span))
        self.session = session
        self.active = active
        self.token: Token[Scope | None] | None = None

    def end(self, error: BaseException | None, result: Any) -> None:
        """Record the end of the run."""
        try:
            self.session._end(error)
        except RecursionError:  # the program has filled the stack: from here on, nothing that takes a frame
            recorder.unwritten += ((self, None if error is None else type(error)),)
        except Exception as fault:
            _guard.swallow(fault, "session.end")

    def record_deferred(self, error: type[BaseException] | None) -> None:
        """Record an end that could not be recorded because the stack was full."""
        status, failure = "completed", None
        if error is not None:
            status = "failed" if issubclass(error, Exception) else "cancelled"
            failure = {"type": error.__qualname__, "message": ""}
        recorder.sessions.end(self.session._state, status, failure)


_entered: ContextVar[tuple[ActiveRun, ...]] = ContextVar("pyjama_entered", default=())


def enter_run(run: ActiveRun) -> None:
    """Put the running code inside the run."""
    _entered.set((*_entered.get(), run))
    run.token = run.enter()


def leave_run(run: ActiveRun) -> None:
    """Take the running code out of the run; again, if an interrupt came before this was done."""
    entered = _entered.get()
    scope = current.get()
    if run in entered[:-1] and scope is not None and scope[0] is not run.scope[0]:
        # It ends before a run that was entered after it. That one restores the scope around this one now.
        entered[entered.index(run) + 1].token = run.token
    else:
        run.leave(run.token)
    _entered.set(tuple(other for other in entered if other is not run))


def runs_entered_here(active: list[ActiveRun]) -> list[ActiveRun]:
    """Those of the active runs that were entered in this context, innermost last."""
    return [run for run in _entered.get() if run in active]


def leave_ended_runs() -> None:
    """Leave the runs that were entered here and ended in another thread or task."""
    before = entered = _entered.get()
    while entered and entered[-1] not in entered[-1].active:
        run = entered[-1]
        if current.get() is run.scope:
            run.leave(run.token)
        entered = entered[:-1]
    if entered is not before:
        _entered.set(entered)
