"""``agent_session``: one run of one agent, as a context manager, a decorator, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, TracebackType
from typing import Any, TypeVar

from pyjama_instrument import _guard, unpickle
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording.callable_wrappers import Kind, call_observed, finish_sync, kind_of
from pyjama_instrument.recording.entered_runs import (
    ActiveRun,
    enter_run,
    leave_ended_runs,
    leave_run,
    runs_entered_here,
)
from pyjama_instrument.recording.function_wrapper import deferred_body, is_importable, make_wrapper, sync_body
from pyjama_instrument.recording.session import Session, check_steps, start_session, unrecorded_session
from pyjama_instrument.redaction import policy
from pyjama_instrument.redaction.json_values import jsonable

__all__ = ["agent_session"]

F = TypeVar("F", bound=Callable[..., Any])


class agent_session:  # noqa: N801  # reads as a verb at the place of use, like contextlib's managers
    """A run of the agent ``name``: ``with``, ``async with``, or a decorator (each call is a run of its own).

    You can use one object any number of times, also in several threads and tasks at once.

    Args:
        name: the agent's name, 1 to 256 characters.
        workflow: the steps that the run plans, in order.
        tags: key-value pairs to find the run by.
        spec: the agent's configuration, shown with the agent.

    Raises:
        ConfigError: an argument has the wrong type.
    """

    def __init__(
        self,
        name: str,
        *,
        workflow: Sequence[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        self._name = check_name(name, "agent name")
        self._workflow = None if workflow is None else check_steps(workflow)
        self._active: list[ActiveRun] = []
        self._details: dict[policy.Place, Any] = {}
        places: tuple[tuple[policy.Place, Any], ...] = (("tags", tags), ("spec", spec))
        for key, value in places:
            if value is not None:
                if not isinstance(value, Mapping):
                    raise ConfigError(f"{key} must be a mapping, not {type(value).__name__}")
                try:
                    self._details[key] = jsonable(dict(value))
                except Exception as fault:  # a mapping that cannot be read, for instance
                    _guard.swallow(fault, f"session.{key}")

    def __enter__(self) -> Session:
        return self._begin().session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._end(error)
        except Exception as fault:
            _guard.swallow(fault, "session.end")
        except BaseException:  # an interrupt: do what is left to do
            self._end(error)
            raise

    async def __aenter__(self) -> Session:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call is a run.

        Raises:
            ConfigError: not a function.
        """
        return self._decorate(function)  # type: ignore[no-any-return]  # behaves as F

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {"workflow": self._workflow} | {str(place): value for place, value in self._details.items()}
        return unpickle.agent_session, (self._name, settings)

    def _begin(self) -> ActiveRun:
        run = self._start()
        try:
            self._active.append(run)
            enter_run(run)
        except BaseException as error:  # an interrupt: the block does not run, so nothing else ends this run
            self._end(error)
            raise
        return run

    def _start(self) -> ActiveRun:
        try:
            leave_ended_runs()
            return ActiveRun(start_session(self._name, self._workflow, self._details), self._active)
        except Exception as fault:
            _guard.swallow(fault, "session.begin")
        return ActiveRun(unrecorded_session(self._name), self._active)

    def _end(self, error: BaseException | None) -> None:
        """Leave the run and record its end. A second call does what the first left undone."""
        if mine := runs_entered_here(self._active) or self._active:  # else it was entered in another context
            run = mine[-1]
            leave_run(run)
            run.end(error, None)
            self._active.remove(run)

    def _decorate(self, function: Any) -> Any:
        try:
            return self._decorate_checked(function)
        except ConfigError:
            raise
        except Exception as fault:  # an unrecorded function is better than a module that cannot be imported
            _guard.swallow(fault, "agent_session")
            return function

    def _decorate_checked(self, function: Any) -> Any:
        if not callable(function) and not isinstance(function, classmethod | staticmethod):
            raise ConfigError(f"agent_session decorates functions, not {type(function).__name__}")
        if isinstance(function, type):
            raise ConfigError("agent_session decorates functions; decorate the class's methods instead")
        if type(function) in (classmethod, staticmethod):
            return type(function)(self._decorate(function.__func__))
        handler = RunPerCall(self, kind_of(function))
        if type(function) is not FunctionType:
            from pyjama_instrument.recording.callable_proxy import CallableProxy

            return CallableProxy(function, handler.call_proxied, handler, (self, ()))
        body: Any = (sync_body if handler.kind == "sync" else deferred_body)(function, handler)
        made = make_wrapper(function, body)
        if not is_importable(function):
            return made
        from pyjama_instrument.recording.callable_proxy import FunctionProxy

        return FunctionProxy(made, handler, (self, ()))


class RunPerCall:
    """The handler of a decorated function's calls: makes each of them a run."""

    __slots__ = ("kind", "owner")

    def __init__(self, owner: agent_session, kind: Kind) -> None:
        self.owner = owner
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.session_source, (self.owner, self.kind)

    def begin_call(self, function: Any, args: Any, kwargs: Any) -> tuple[ActiveRun, Any, Any]:
        """A plain function is about to be called: starts the run, which observes the call."""
        return self.owner._start(), args, kwargs

    finish_call = staticmethod(finish_sync)

    def call_deferred(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function of any kind."""
        return call_observed(self.kind, self.owner._start, function, args, kwargs)

    def call_proxied(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Call what a :class:`CallableProxy` wraps."""
        return self.call_deferred(wrapped, args, kwargs)


unpickle.makers |= {"agent session": agent_session, "session source": RunPerCall}
