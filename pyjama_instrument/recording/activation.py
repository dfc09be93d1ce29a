"""Running code inside a run that it does not end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Token
from typing import Any, Generic, ParamSpec, TypeVar

from pyjama_instrument import _guard, unpickle
from pyjama_instrument.recording.callable_wrappers import call_observed, kind_of
from pyjama_instrument.recording.context import Scope, SessionState, current, leave_scope
from pyjama_instrument.recording.recorder import recorder

__all__ = ["Activation", "BoundFunction", "state_of"]

P = ParamSpec("P")
R = TypeVar("R")


class Activation:
    """Makes a scope the current one while the wrapped function runs, and records nothing."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def enter(self) -> Token[Scope | None] | None:
        """Make the scope the current one; returns what :meth:`leave` takes."""
        try:
            return current.set(self.scope)
        except Exception as fault:
            _guard.swallow(fault, "session.enter")
        return None

    leave = staticmethod(leave_scope)

    def item(self) -> None:
        """A generator has yielded a value."""

    def end(self, error: BaseException | None, result: Any) -> None:
        """The call is over."""


class BoundFunction(Generic[P, R]):
    """A function that runs inside a run, wherever it is called. It can be pickled if the function can."""

    def __init__(self, function: Callable[P, R], agent: str, session: str, span: str) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._kind = kind_of(function)
        self._target = (agent, session, span)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function inside the run."""
        return call_observed(self._kind, self._activate, self._function, args, kwargs)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.bound, (self._function, *self._target)

    def _activate(self) -> Activation:
        agent, session, span = self._target
        return Activation((state_of(agent, session, span), span))


def state_of(agent: str, id: str, span: str) -> SessionState:
    """The state of a run that this process or another has started."""
    return recorder.sessions.open.get(id) or SessionState(id=id, agent=agent, span=span)


unpickle.makers["bound"] = BoundFunction
