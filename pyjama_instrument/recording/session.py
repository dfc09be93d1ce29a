"""Agent sessions: one run of one agent, as a context manager, a decorator, or both.

A session ends as ``completed``, ``failed`` (an exception left the block), ``cancelled`` (the exception cancels, such as
``CancelledError`` or ``KeyboardInterrupt``, or steers) or, if its process dies first, as ``crashed``.
Sessions nest: one started inside another is its child, in the same process or in one that got ``env()``.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from types import FunctionType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from pyjama_instrument import _guard, unpickle
from pyjama_instrument.config import MAX_NAME, check_name, clean_text, home_to_write
from pyjama_instrument.errors import ConfigError, PyjamaError
from pyjama_instrument.recording.callable_wrappers import Kind, drive, finish, kind_of
from pyjama_instrument.recording.context import Scope, SessionState, current
from pyjama_instrument.recording.function_wrapper import driven_body, found_by_name, stand_in, suspending_body
from pyjama_instrument.recording.outcome import outcome
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import policy
from pyjama_instrument.redaction.json_values import jsonable

__all__ = ["Session", "agent_session", "ambient", "current_session"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_NO_SESSION, _NO_SPAN = "0" * 32, "0" * 16  # what W3C Trace Context calls invalid
_MOST_ATTRIBUTES = 100
_PARENT = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32}-[0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class Session:
    """A run that is under way. What ``with agent_session(...)`` gives, and :func:`current_session`."""

    __slots__ = ("_ending", "_state")

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._ending: tuple[str, dict[str, Any] | None] | None = None

    @property
    def id(self) -> str:
        """32 hexadecimal digits; also the W3C trace id."""
        return self._state.id

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self._state.agent

    @property
    def span(self) -> str:
        """The innermost open span of the running code in this session; its root span elsewhere."""
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

    def step(self, name: str) -> Step:
        """A named step, for ``with`` or ``async with``; it ends as ``ok``, ``error`` or ``cancelled``.

        Raises:
            ConfigError: the name is not a string of 1 to 256 characters.
        """
        return Step(self, check_name(name, "step name"))

    def workflow(self, steps: Sequence[str]) -> None:
        """Declare the steps this run means to take, in order; a later call replaces an earlier one.

        Raises:
            ConfigError: not a sequence of step names.
        """
        self._tell("workflow", "workflow.declared", steps=_checked_steps(steps))

    def annotate(self, /, **attributes: Any) -> None:
        """Set attributes such as ``tokens=1234``; a later value of the same name replaces an earlier one.

        Values are made JSON-safe and cut to a bounded size.
        """
        try:
            known = self._state.standing.get("attributes", {}).get("attributes", {})
            news = policy.shown_mapping("attributes", attributes)
            self._tell("attributes", "annotated", span=self._state.span, attributes=news)
            if self._state.standing:
                self._state.standing["attributes"]["attributes"] = _within_bounds(known, news)
        except Exception as fault:
            _guard.swallow(fault, "session.annotate")

    def fail(self, error: BaseException | str) -> None:
        """Have the session end as ``failed`` although no exception leaves the block.

        Raises:
            ConfigError: neither an exception nor a string.
        """
        if not isinstance(error, BaseException | str):
            raise ConfigError(f"error must be an exception or a string, not {type(error).__name__}")
        self._ending = ("failed", None)
        try:
            if isinstance(error, str):
                self._ending = ("failed", {"type": "", "message": policy.message(jsonable(error))})
            else:
                self._ending = ("failed", policy.failure(error))
        except Exception as fault:
            _guard.swallow(fault, "session.fail")

    def cancel(self) -> None:
        """Have the session end as ``cancelled`` although no exception leaves the block."""
        self._ending = ("cancelled", None)

    def env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """An environment for child processes: what they record belongs to this session.

        Args:
            base: what to add to; by default this process's own environment.

        Returns:
            A new dictionary with ``PYJAMA_*`` set, and ``TRACEPARENT`` (W3C Trace Context) unless ``base`` has a valid
            one of another tracer's, which is left as it is. ``TRACESTATE`` is never touched.

        Raises:
            ConfigError: ``base`` is not a mapping.
        """
        if base is not None and not isinstance(base, Mapping):
            raise ConfigError(f"base must be a mapping, not {type(base).__name__}")
        base = os.environ if base is None else base
        parent = f"{self.id}-{self.span}"
        added = {"PYJAMA_PARENT": parent}
        try:
            from urllib.parse import quote

            added["PYJAMA_AGENT"] = quote(self.agent)
            if not _has_trace_of_another(base):
                added["TRACEPARENT"] = f"00-{parent}-01"
            added["PYJAMA_HOME"] = home_to_write()
        except PyjamaError:  # then nothing is recorded here or there, but the child starts
            pass
        except Exception as fault:
            _guard.swallow(fault, "session.env")
        return dict(base) | added

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function`` made to run inside this session, wherever it is called.

        For thread pools and, since the result can be pickled if ``function`` can, for process pools of any start
        method: ``pool.submit(run.bind(work), item)``.

        Raises:
            ConfigError: not a function.
        """
        if not callable(function):
            raise ConfigError(f"bind takes a function, not {type(function).__name__}")
        try:
            return _Bound(function, self.agent, self.id, self.span)
        except Exception as fault:
            _guard.swallow(fault, "session.bind")
        return function

    def _tell(self, key: str, kind: str, **details: Any) -> None:
        """Record an event that describes the session as it stands."""
        try:
            state = self._state
            record = {"kind": kind, "ts": recorder.now_us(), "agent": state.agent, "session": state.id} | details
            if state.standing:
                state.standing[key] = record
            recorder.record(record)
        except Exception as fault:
            _guard.swallow(fault, kind)

    def _end(self, error: BaseException | None) -> None:
        status, info = ("completed", None) if error is None else outcome(error)
        if status == "ok":
            status = "completed"
        elif status == "error":
            status = "failed"
        elif status == "completed" and self._ending is not None:
            status, info = self._ending
        recorder.end_session(self._state, status, info)


class Step:
    """A step of a session; enter it once, with ``with`` or ``async with``."""

    __slots__ = ("_epoch", "_name", "_parent", "_session", "_span", "_started_ns", "_token")

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._span = ""
        self._token: Token[Scope | None] | None = None

    def __enter__(self) -> Session:
        try:
            state = self._session._state
            recorder.notice_fork()
            self._epoch = recorder.epoch
            self._parent = self._session.span
            self._started_ns = recorder.mono_ns()
            self._span = recorder.ids.span()
            self._token = current.set((state, self._span))
            self._session._tell(self._span, "step.started", step=self._name, parent=self._parent, span=self._span)
        except Exception as fault:
            _guard.swallow(fault, "step.begin")
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leave(self._token)
        try:
            recorder.notice_fork()
            if self._span and self._epoch == recorder.epoch:  # in a forked child, the step is the parent's
                self._end(error)
        except Exception as fault:
            _guard.swallow(fault, "step.end")

    def _end(self, error: BaseException | None) -> None:
        state = self._session._state
        state.standing.pop(self._span, None)
        status, info = ("ok", None) if error is None else outcome(error)
        record = {
            "kind": "step.ended", "ts": recorder.now_us(), "agent": state.agent, "session": state.id,
            "step": self._name, "parent": self._parent, "span": self._span,
            "duration_ns": recorder.mono_ns() - self._started_ns, "status": status,
        }  # fmt: skip
        recorder.record(record | ({"error": info} if info else {}))

    async def __aenter__(self) -> Session:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class agent_session:  # noqa: N801  # reads as a verb at the place of use, like contextlib's managers
    """A run of the agent ``name``: ``with``, ``async with``, or a decorator (each call is a run of its own).

    One object may be used any number of times, also at once in several threads and tasks.

    Args:
        name: the agent's name, 1 to 256 characters.
        workflow: the steps the run means to take, in order.
        tags: key-value pairs to find the run by.
        spec: the agent's configuration, shown with the agent.

    Raises:
        ConfigError: an argument is of the wrong kind.
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
        self._workflow = None if workflow is None else _checked_steps(workflow)
        self._under_way: list[_Run] = []
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
        except BaseException:  # interrupted in the middle: what is not done yet is done now
            self._end(error)
            raise

    def _end(self, error: BaseException | None) -> None:
        """Leave the session and record its end. Doing it again does what is left to do."""
        entered = _entered.get()
        here = [run_ for run_ in entered if run_.owner is self and run_ in self._under_way]
        if mine := here or self._under_way:  # it may have been entered in another context
            run_ = mine[-1]
            scope = current.get()
            if run_ in entered[:-1] and scope is not None and scope[0] is not run_.scope[0]:
                # It ends before one that was entered after it: that one leads further back now.
                entered[entered.index(run_) + 1].token = run_.token
            else:
                run_.leave(run_.token)
            _entered.set(tuple(other for other in entered if other is not run_))
            run_.end(error, None)
            self._under_way.remove(run_)

    async def __aenter__(self) -> Session:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call is a session.

        Raises:
            ConfigError: not a function.
        """
        return self._decorate(function)  # type: ignore[no-any-return]  # behaves as F

    def _decorate(self, function: Any) -> Any:
        try:
            return self._checked_and_decorated(function)
        except ConfigError:
            raise
        except Exception as fault:  # better a function that is not recorded than a module that cannot be imported
            _guard.swallow(fault, "agent_session")
            return function

    def _checked_and_decorated(self, function: Any) -> Any:
        if not callable(function) and not isinstance(function, classmethod | staticmethod):
            raise ConfigError(f"agent_session decorates functions, not {type(function).__name__}")
        if isinstance(function, type):
            raise ConfigError("agent_session decorates functions; decorate the class's methods instead")
        if type(function) in (classmethod, staticmethod):
            return type(function)(self._decorate(function.__func__))
        source = SessionSource(self, kind_of(function))
        body: Any = (driven_body if source.kind == "sync" else suspending_body)(function, source)
        if type(function) is FunctionType:
            made = stand_in(function, body)
            if not found_by_name(function):
                return made
            from pyjama_instrument.recording.callable_proxy import NamedFunction

            return NamedFunction(made, source, (self, ()))
        from pyjama_instrument.recording.callable_proxy import Decorated

        def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return source.drive_call(wrapped, args, kwargs)

        return Decorated(function, wrapper, source, (self, ()))

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {"workflow": self._workflow} | {str(place): value for place, value in self._details.items()}
        return unpickle.agent_session, (self._name, settings)

    def _begin(self) -> _Run:
        run_ = self._start()
        try:
            self._under_way.append(run_)
            _entered.set((*_entered.get(), run_))
            run_.token = run_.enter()
        except BaseException as error:  # interrupted: the block will not run, and nobody will come to end it
            self._end(error)
            raise
        return run_

    def _start(self) -> _Run:
        try:
            return self._started()
        except Exception as fault:
            _guard.swallow(fault, "session.begin")
        # The block runs all the same, in a session that nobody has heard of.
        return _Run(self, Session(SessionState(id=_NO_SESSION, agent=self._name, span=_NO_SPAN)))

    def _started(self) -> _Run:
        _leave_what_has_ended()
        outer = current.get() or recorder.ambient or _inherited()
        if outer is not None and outer is recorder.ambient and outer[0].standing:
            outer = None  # the implicit session is for calls that have no other: it is nobody's parent
        state = recorder.new_session(self._name)
        details: dict[str, Any] = {
            place: policy.allowed_mapping(place, value) for place, value in self._details.items()
        }
        if outer is not None:
            details |= {"parent_session": outer[0].id, "parent": outer[1]}
        recorder.start_session(state, **details)
        session = Session(state)
        if self._workflow is not None:
            session.workflow(self._workflow)
        return _Run(self, session)


class SessionSource:
    """Makes each call of a decorated function a run; what its stand-in refers to."""

    __slots__ = ("kind", "owner")

    def __init__(self, owner: agent_session, kind: Kind) -> None:
        self.owner = owner
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.session_source, (self.owner, self.kind)

    def begin_call(self, function: Any, args: Any, kwargs: Any) -> tuple[_Run, Any, Any]:
        """A plain function is called."""
        return self.owner._start(), args, kwargs

    finish_call = staticmethod(finish)

    def drive_call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """A function of any kind is called."""
        return drive(self.kind, self.owner._start, function, args, kwargs)


class _Visit:
    """Being in a session that somebody else ends, as an activity of the drivers."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def enter(self) -> Token[Scope | None] | None:
        try:
            return current.set(self.scope)
        except Exception as fault:
            _guard.swallow(fault, "session.enter")
        return None

    def leave(self, token: Token[Scope | None] | None) -> None:
        _leave(token)

    def item(self) -> None:
        pass

    def end(self, error: BaseException | None, result: Any) -> None:
        pass


class _Run(_Visit):
    """A session under way."""

    __slots__ = ("owner", "session", "token")

    def __init__(self, owner: agent_session, session: Session) -> None:
        super().__init__((session._state, session._state.span))
        self.owner = owner
        self.session = session
        self.token: Token[Scope | None] | None = None

    def is_under_way(self) -> bool:
        return self in self.owner._under_way

    def end(self, error: BaseException | None, result: Any) -> None:
        try:
            self.session._end(error)
        except RecursionError:  # the program has filled the stack: nothing that takes a frame
            recorder.unwritten += ((self, None if error is None else type(error)),)
        except Exception as fault:
            _guard.swallow(fault, "session.end")

    def write_late(self, error: type[BaseException] | None) -> None:
        """Record the end for which the stack had no room."""
        status, info = "completed", None
        if error is not None:
            status = "failed" if issubclass(error, Exception) else "cancelled"
            info = {"type": error.__qualname__, "message": ""}
        recorder.end_session(self.session._state, status, info)


_entered: ContextVar[tuple[_Run, ...]] = ContextVar("pyjama_entered", default=())


def _leave_what_has_ended() -> None:
    """A run that was entered here and left in another thread or task is left here, too."""
    before = entered = _entered.get()
    while entered and not entered[-1].is_under_way():
        run_ = entered[-1]
        if current.get() is run_.scope:
            run_.leave(run_.token)
        entered = entered[:-1]
    if entered is not before:
        _entered.set(entered)


class _Bound(Generic[P, R]):
    """A function tied to a session, picklable."""

    def __init__(self, function: Callable[P, R], agent: str, session: str, span: str) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._kind = kind_of(function)
        self._to = (agent, session, span)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return drive(self._kind, self._begin, self._function, args, kwargs)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.bound, (self._function, *self._to)

    def _begin(self) -> _Visit:
        agent, session, span = self._to
        return _Visit((_state_of(agent, session, span), span))


def session_of(agent: str, id: str, span: str) -> Session:
    """A run that is under way, begun by this process or another."""
    return Session(_state_of(agent, id, span))


def _state_of(agent: str, id: str, span: str) -> SessionState:
    return recorder.open_sessions.get(id) or SessionState(id=id, agent=agent, span=span)


def current_session() -> Session | None:
    """The session the running code is in; None outside any.

    In a process that was given :meth:`Session.env`, that is the session it was given, unless the code has entered
    another.
    """
    scope = current.get() or recorder.ambient or _inherited()
    if scope is None or (scope is recorder.ambient and scope[0].standing):
        return None
    return Session(scope[0])


def ambient() -> Scope:
    """What a tool called outside any session belongs to.

    That is the session inherited from the parent process or, without one, an implicit session named after the
    program, which lasts as long as the process.
    """
    known = recorder.ambient
    if known is not None and recorder.unforked[0]:
        return known
    recorder.notice_fork()
    inherited = _inherited()
    if inherited is not None:
        return recorder.claim(inherited)
    return _implicit()


def _within_bounds(known: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
    """The attributes to tell again, no more of them than the store keeps."""
    room = max(0, _MOST_ATTRIBUTES - len(known))
    new = [name for name in news if name not in known][:room]
    return known | {name: value for name, value in news.items() if name in known or name in new}


def _leave(token: Token[Scope | None] | None) -> None:
    try:
        if token is not None:
            current.reset(token)
    except (ValueError, RuntimeError):  # finished in another context than it was begun in, or for a second time
        pass


def _inherited() -> Scope | None:
    if "PYJAMA_PARENT" not in os.environ:
        return None
    try:
        from urllib.parse import unquote  # dear, and few programs are children
    except ImportError:  # the process has lost the right to read its own files
        return None
    match = _PARENT.fullmatch(os.environ["PYJAMA_PARENT"])
    agent = clean_text(unquote(os.environ.get("PYJAMA_AGENT", "")))[:MAX_NAME]
    if match is None or not agent.strip():
        return None
    return SessionState(id=match[1], agent=agent, span=match[2]), match[2]


def _has_trace_of_another(environment: Mapping[str, str]) -> bool:
    """Whether ``TRACEPARENT`` is valid and not our own, of a run around this one."""
    match = _TRACEPARENT.fullmatch(str(environment.get("TRACEPARENT", "")).strip())
    if match is None:
        return False
    version, parent, further_fields = match.groups()
    trace, span = parent.split("-")
    if version == "ff" or (version == "00" and further_fields) or trace == _NO_SESSION or span == _NO_SPAN:
        return False
    return parent not in (environment.get("PYJAMA_PARENT"), os.environ.get("PYJAMA_PARENT"))


def _implicit() -> Scope:
    state = recorder.new_session(_program())
    mine = state, state.span
    recorder.describe_implicit(state)
    known = recorder.claim(mine)
    if known is mine:
        try:
            recorder.start_session(state)
        except BaseException:
            recorder.give_up(mine)
            raise
    return known


def _program() -> str:
    """What people call the running program."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else os.path.basename(sys.argv[0] if sys.argv else "")
    name = clean_text(name.removesuffix(".py"))[:MAX_NAME]
    return name if name.strip() and name != "-c" else "python"


def _checked_steps(steps: object) -> list[str]:
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise ConfigError(f"workflow must be a sequence of step names, not {type(steps).__name__}")
    return [check_name(step, "step name") for step in steps]


unpickle.makers |= {
    "agent session": agent_session,
    "bound": _Bound,
    "session": session_of,
    "session source": SessionSource,
}
