"""A run that is under way: the object that ``with agent_session(...)`` and ``current_session()`` return.

A run ends as ``completed``, ``failed`` (an exception left the block) or ``cancelled`` (the exception was a
cancellation, such as ``CancelledError`` or ``KeyboardInterrupt``, or control flow). If its process dies first, it is
``crashed``.
Runs nest: a run started inside another is its child, in the same process or in one that got ``env()``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from pyjama_instrument import _guard, unpickle
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording.activation import BoundFunction, state_of
from pyjama_instrument.recording.context import SessionState, current
from pyjama_instrument.recording.implicit_session import enclosing_scope
from pyjama_instrument.recording.outcome import outcome
from pyjama_instrument.recording.propagation import INVALID_SPAN, INVALID_TRACE, child_environment
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.session_events import record_and_keep, session_event
from pyjama_instrument.recording.step import Step
from pyjama_instrument.redaction import policy
from pyjama_instrument.redaction.json_values import jsonable

__all__ = ["Session", "check_steps", "current_session", "start_session", "unrecorded_session"]

P = ParamSpec("P")
R = TypeVar("R")

_MOST_ATTRIBUTES = 100


class Session:
    """A run that is under way: what ``with agent_session(...)`` and :func:`current_session` return."""

    __slots__ = ("_state",)

    def __init__(self, state: SessionState) -> None:
        self._state = state

    @property
    def id(self) -> str:
        """The run's id: 32 hexadecimal digits. It is also the W3C trace id."""
        return self._state.id

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self._state.agent

    @property
    def span(self) -> str:
        """The id of the innermost open span of the running code in this run, else of the run's root span."""
        scope = current.get()
        return scope[1] if scope is not None and scope[0].id == self.id else self._state.span

    def __repr__(self) -> str:
        return f"<Session {self.agent!r} {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.session, (self.agent, self.id, self._state.span)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def step(self, name: str) -> Step[Session]:
        """A named step, for ``with`` or ``async with``. It ends as ``ok``, ``error`` or ``cancelled``.

        Raises:
            ConfigError: the name is not a string of 1 to 256 characters.
        """
        return Step(self, self._state, check_name(name, "step name"))

    def workflow(self, steps: Sequence[str]) -> None:
        """Declare the steps that this run plans, in order. A later call replaces an earlier one.

        Raises:
            ConfigError: not a sequence of step names.
        """
        self._record("workflow", "workflow.declared", steps=check_steps(steps))

    def annotate(self, /, **attributes: Any) -> None:
        """Set attributes such as ``tokens=1234``. A later value of the same name replaces an earlier one.

        Values are made JSON-safe and cut to a bounded size.
        """
        try:
            known = self._state.open_records.get("attributes", {}).get("attributes", {})
            new = policy.redact_mapping("attributes", attributes)
            self._record("attributes", "annotated", span=self._state.span, attributes=new)
            if self._state.open_records:
                self._state.open_records["attributes"]["attributes"] = _merge_attributes(known, new)
        except Exception as fault:
            _guard.swallow(fault, "session.annotate")

    def fail(self, error: BaseException | str) -> None:
        """Make the run end as ``failed`` although no exception leaves the block.

        Raises:
            ConfigError: neither an exception nor a string.
        """
        if not isinstance(error, BaseException | str):
            raise ConfigError(f"error must be an exception or a string, not {type(error).__name__}")
        self._state.declared_end = ("failed", None)
        try:
            if isinstance(error, str):
                self._state.declared_end = ("failed", {"type": "", "message": policy.message(jsonable(error))})
            else:
                self._state.declared_end = ("failed", policy.failure(error))
        except Exception as fault:
            _guard.swallow(fault, "session.fail")

    def cancel(self) -> None:
        """Make the run end as ``cancelled`` although no exception leaves the block."""
        self._state.declared_end = ("cancelled", None)

    def env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """An environment for child processes: what they record belongs to this run.

        Args:
            base: the variables to start from; by default this process's own environment.

        Returns:
            A new dictionary with ``PYJAMA_*`` set, and ``TRACEPARENT`` (W3C Trace Context). If ``base`` has a valid
            ``TRACEPARENT`` of another tracer, it stays. ``TRACESTATE`` never changes.

        Raises:
            ConfigError: ``base`` is not a mapping.
        """
        if base is not None and not isinstance(base, Mapping):
            raise ConfigError(f"base must be a mapping, not {type(base).__name__}")
        return child_environment(os.environ if base is None else base, self.agent, self.id, self.span)

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function``, made to run inside this run wherever it is called.

        Use it for thread pools: ``pool.submit(run.bind(work), item)``. It works for process pools of any start method
        too, because the result can be pickled if ``function`` can.

        Raises:
            ConfigError: not a function.
        """
        if not callable(function):
            raise ConfigError(f"bind takes a function, not {type(function).__name__}")
        try:
            return BoundFunction(function, self.agent, self.id, self.span)
        except Exception as fault:
            _guard.swallow(fault, "session.bind")
        return function

    def _record(self, key: str, kind: str, **fields: Any) -> None:
        try:
            record_and_keep(self._state, key, session_event(self._state, kind, **fields))
        except Exception as fault:
            _guard.swallow(fault, kind)

    def _end(self, error: BaseException | None) -> None:
        status, failure = ("completed", None) if error is None else outcome(error)
        if status == "ok":
            status = "completed"
        elif status == "error":
            status = "failed"
        elif status == "completed" and self._state.declared_end is not None:
            status, failure = self._state.declared_end
        recorder.sessions.end(self._state, status, failure)


def current_session() -> Session | None:
    """The run that the running code is in; None outside any.

    In a process that got :meth:`Session.env`, it is the run of the parent process, unless the code has entered another.
    """
    scope = enclosing_scope()
    return None if scope is None else Session(scope[0])


def start_session(agent: str, workflow: Sequence[str] | None, details: Mapping[policy.Place, Any]) -> Session:
    """Start a run, as a child of the run that the running code is in. The code does not enter it.

    Args:
        agent: the agent's name.
        workflow: the planned steps.
        details: tags and spec, as JSON-safe data.
    """
    parent = enclosing_scope()
    state = recorder.sessions.new(agent)
    fields: dict[str, Any] = {place: policy.redact_json_mapping(place, value) for place, value in details.items()}
    if parent is not None:
        fields |= {"parent_session": parent[0].id, "parent": parent[1]}
    recorder.sessions.start(state, **fields)
    session = Session(state)
    if workflow is not None:
        session.workflow(workflow)
    return session


def unrecorded_session(agent: str) -> Session:
    """A session that is not recorded, for code that must run although recording has failed."""
    return Session(SessionState(id=INVALID_TRACE, agent=agent, span=INVALID_SPAN))


def check_steps(steps: object) -> list[str]:
    """The names of a workflow's steps.

    Raises:
        ConfigError: not a sequence of step names.
    """
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise ConfigError(f"workflow must be a sequence of step names, not {type(steps).__name__}")
    return [check_name(step, "step name") for step in steps]


def _merge_attributes(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The attributes to write again if the store is wiped: no more of them than a reader keeps."""
    room = max(0, _MOST_ATTRIBUTES - len(known))
    added = [name for name in new if name not in known][:room]
    return known | {name: value for name, value in new.items() if name in known or name in added}


def _unpickled(agent: str, id: str, span: str) -> Session:
    return Session(state_of(agent, id, span))


unpickle.makers["session"] = _unpickled
