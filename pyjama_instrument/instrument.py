"""The ``@tool`` decorator: times every call of a function and records how it ended.

The decorated function behaves as undecorated: same values, same exception objects, same signature, same kind
(plain, async, generator, async generator). If recording fails, it is called all the same.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from types import CoroutineType, FunctionType
from typing import Any, TypeVar, overload

from pyjama_instrument import _guard, hooks, redaction
from pyjama_instrument._context import Scope, current
from pyjama_instrument._drive import Decorated, Kind, Suspended, drive, drive_later, kind_of, renamed, resume, run
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.hooks import hooked
from pyjama_instrument.recorder import reason_of, recorder
from pyjama_instrument.session import ambient, outcome
from pyjama_instrument.storage._codec import encode, tool_prefix

__all__ = ["tool"]

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")

_SLOW_NS = 1_000_000
_RESULT = "return"


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(name: str | None = None, /, *, capture: Sequence[str] | bool = ()) -> Callable[[F], F]: ...
@overload
def tool(*, name: str | None = None, capture: Sequence[str] | bool = ()) -> Callable[[F], F]: ...
def tool(function: Any = None, /, *, name: str | None = None, capture: Sequence[str] | bool = ()) -> Any:
    """Record every call of the decorated function: when, how long, in which session, how it ended.

    Use it bare (``@tool``), with ``()``, with a name (``@tool("search")``) or with options, on any function: plain,
    ``async``, generator, async generator, method, class or static method (above or below their decorators), a
    callable object or a ``functools.partial``. A generator's call lasts from its first item to its end.

    Args:
        function: what to decorate, or the tool's name.
        name: the tool's name; by default the function's qualified name.
        capture: which arguments to record, by parameter name, and ``"return"`` for the result; True for all.
            Nothing is recorded of them otherwise. Values are made JSON-safe and cut to a bounded size.

    Returns:
        An object that stands in for the function; types, signature and docstring are the function's own.

    Raises:
        ConfigError: not a function, a bad name, or ``capture`` names no parameter of the function.
    """
    if isinstance(function, str):
        if name is not None:
            raise ConfigError("the tool's name is given twice")
        function, name = None, function
    if name is not None:
        name = check_name(name, "tool name")
    _check_capture(capture)
    if function is None:
        return lambda decorated: _decorate(decorated, name, capture)
    return _decorate(function, name, capture)


def _decorate(function: Any, name: str | None, capture: Sequence[str] | bool) -> Any:
    try:
        return _checked_and_decorated(function, name, capture)
    except ConfigError:
        raise
    except Exception as fault:  # better a function that is not recorded than a module that cannot be imported
        _guard.swallow(fault, "tool")
        return function


def _checked_and_decorated(function: Any, name: str | None, capture: Sequence[str] | bool) -> Any:
    if isinstance(function, type):
        raise ConfigError(f"@tool decorates functions: decorate the methods of {function.__name__} instead")
    if type(function) in (classmethod, staticmethod):
        return type(function)(_decorate(function.__func__, name, capture))
    if not callable(function) and not isinstance(function, classmethod | staticmethod):
        raise ConfigError(f"@tool decorates functions, not {type(function).__name__}")
    name = name or _default_name(function)
    if not capture and type(function) is Decorated and getattr(function, "_self_tool", None) == name:
        return function  # decorated already: its calls count once
    return _decorated(function, _Tool(function, name, capture), (_decorate, (name, capture)))


def _decorated(function: Any, this: _Tool, again: Any) -> Decorated:
    kind = kind_of(function)
    if this.capture is None and kind == "sync":
        wrapper = _short_way(this)
    elif this.capture is None and kind == "async":
        wrapper = _short_way_async(this, function)
    else:
        wrapper = _long_way(this, kind)
    decorated = Decorated(function, wrapper, again)
    decorated._self_tool = this.name  # type: ignore[attr-defined]  # wrapt keeps attributes of this prefix
    return decorated


def _long_way(this: _Tool, kind: Kind) -> Callable[..., Any]:
    """How a call of any kind of function is recorded, with capture and hooks."""

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if not recorder.enabled:
            return wrapped(*args, **kwargs)
        return _call(this, kind, wrapped, args, kwargs)

    return wrapper


def _short_way(this: _Tool) -> Callable[..., Any]:
    """How a call of a plain function is recorded, without capture or hooks.

    Every step is written out here, because function calls would cost more than what they do. It amounts to
    ``this.begin``, the call, and ``this.end``.
    """
    name = this.name
    get_scope, set_scope, reset_scope = current.get, current.set, current.reset

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        own = recorder  # a local name is the cheapest to look up
        if not own.enabled:
            return wrapped(*args, **kwargs)
        if hooked:
            return _call(this, "sync", wrapped, args, kwargs)
        try:
            if not own.unforked[0]:
                own.notice_fork()
            scope = get_scope() or ambient()
            try:
                span = own.ids.spans.pop()
            except IndexError:
                span = own.more_spans()
            if this.slow:
                own.announce(scope, name, span)
            clock = own.mono_ns  # by a name of its own: Python is quicker to call that than a recorder's attribute
            start_ns = clock()
            own.in_flight[span] = inner = (scope[0], span, scope[1], name, start_ns)
            token = set_scope(inner)
        except Exception as fault:
            _guard.swallow(fault, "tool.begin")
        else:
            try:
                result = wrapped(*args, **kwargs) if kwargs else wrapped(*args)
            except BaseException as error:
                reset_scope(token)
                this.end(scope, span, start_ns, error)
                raise
            duration_ns = clock() - start_ns
            reset_scope(token)
            if type(result) is CoroutineType:  # a plain function that hands out a coroutine: the call is its life
                return _resume(this, scope, span, start_ns, result)
            try:
                if not own.unforked[0]:
                    own.notice_fork()
                try:
                    del own.in_flight[span]
                except KeyError:  # begun before a fork, ended in the child: the call is the parent's
                    return result
                wall = own.wall_ns
                ts = wall() // 1000
                known, head = this.head
                if known is not scope:
                    head = this.head_for(scope)
                line = f'{head}{span}","ts":{ts},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode()
                if own.announced or duration_ns >= _SLOW_NS:
                    this.slow = duration_ns >= _SLOW_NS
                    this.write(span, line)
                    return result
                try:
                    if (written := os.write(own.fd, line)) == len(line):
                        own.dirty = True
                    else:
                        own.not_written(line, "short-write", written)
                except OSError as error:
                    own.not_written(line, reason_of(error))
            except Exception as fault:
                _guard.swallow(fault, "tool.end")
            return result
        # Only here: the function must not find a fault of ours as what is being handled.
        return wrapped(*args, **kwargs)

    return wrapper


def _short_way_async(this: _Tool, function: Any) -> Callable[..., Any]:
    """The same for an async function."""
    name = this.name
    get_scope, set_scope, reset_scope = current.get, current.set, current.reset

    async def stand_in(suspended: Suspended) -> Any:
        try:
            if not recorder.unforked[0]:
                recorder.notice_fork()
            scope = get_scope() or ambient()
            try:
                span = recorder.ids.spans.pop()
            except IndexError:
                span = recorder.more_spans()
            if this.slow:
                recorder.announce(scope, name, span)
            clock = recorder.mono_ns  # by a name of its own: Python is quicker to call that than a recorder's attribute
            start_ns = clock()
            recorder.in_flight[span] = inner = (scope[0], span, scope[1], name, start_ns)
            token = set_scope(inner)
        except Exception as fault:
            _guard.swallow(fault, "tool.begin")
        else:
            try:
                result = await suspended.held
            except BaseException as error:
                suspended.held = None
                _reset(reset_scope, token)
                this.end(scope, span, start_ns, error)
                raise
            duration_ns = clock() - start_ns
            suspended.held = None
            try:
                reset_scope(token)
            except ValueError:  # finished in another context than it was begun in
                pass
            this.end_well(scope, span, duration_ns)
            return result
        return await suspended.take()

    known_by_name = type(function) is FunctionType
    if known_by_name:  # then its coroutines have its name, and the stand-ins have theirs from the start
        stand_in = renamed(stand_in, function)

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if not recorder.enabled:
            return wrapped(*args, **kwargs)
        if hooked:
            return _call(this, "async", wrapped, args, kwargs)
        coroutine = wrapped(*args, **kwargs) if kwargs else wrapped(*args)
        suspended = Suspended()
        suspended.held = coroutine
        return stand_in(suspended) if known_by_name else renamed(stand_in(suspended), coroutine)

    return wrapper


def _reset(reset_scope: Callable[[Any], None], token: Any) -> None:
    try:
        reset_scope(token)
    except ValueError:  # finished in another context than it was begun in
        pass


class _Tool:
    """A decorated function: its name, what to capture, and whether its last call was slow.

    A tool whose last call was slow, or that was never called, announces its calls at once; others are announced by
    the flusher if they last. ``head`` is the constant first part of the journal line in the scope that was seen last.
    """

    __slots__ = ("capture", "head", "name", "signature", "slow")

    def __init__(self, function: Any, name: str, capture: Sequence[str] | bool) -> None:
        self.name = name
        self.slow = True
        self.head: tuple[Scope | None, str] = (None, "")
        self.capture: frozenset[str] | None = None
        self.signature: inspect.Signature | None = None
        if capture:
            self.signature = _signature(function)
            self.capture = _resolved(capture, self.signature)

    def head_for(self, scope: Scope) -> str:
        """The line of a call in that scope, up to where the span's id goes."""
        session, parent = scope[:2]
        prefix = session.prefixes.get(self.name)
        if prefix is None:
            prefix = session.prefixes[self.name] = tool_prefix("tool.ended", session.agent, session.id, self.name)
        head = f'{prefix}"parent":"{parent}","span":"'
        self.head = scope, head
        return head

    def begin(self, scope: Scope, span: str) -> int:
        """A call begins; returns its monotonic start."""
        if self.slow:
            recorder.announce(scope, self.name, span)
        start_ns = recorder.mono_ns()
        recorder.in_flight[span] = (scope[0], span, scope[1], self.name, start_ns)
        return start_ns

    def end(
        self, scope: Scope, span: str, start_ns: int, error: BaseException | None, more: Any = None
    ) -> tuple[int, int] | None:
        """A call is over. ``more`` are optional fields of the event.

        Returns the event's time and duration, or None if there was no event.
        """
        try:
            duration_ns = recorder.mono_ns() - start_ns
            self.slow = duration_ns >= _SLOW_NS
            recorder.notice_fork()
            if recorder.in_flight.pop(span, None) is None:
                return None  # begun before a fork, ended in the child: the call is the parent's
            ts = recorder.now_us()
            self.write(span, self.line(scope, span, ts, duration_ns, error, more))
        except Exception as fault:
            _guard.swallow(fault, "tool.end")
            return None
        return ts, duration_ns

    def end_well(self, scope: Scope, span: str, duration_ns: int) -> None:
        """What :meth:`end` does for a call that has nothing to tell but that it went well, at less cost."""
        try:
            if not recorder.unforked[0]:
                recorder.notice_fork()
            if recorder.in_flight.pop(span, None) is None:
                return  # begun before a fork, ended in the child: the call is the parent's
            wall = recorder.wall_ns
            ts = wall() // 1000
            known, head = self.head
            if known is not scope:
                head = self.head_for(scope)
            line = f'{head}{span}","ts":{ts},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode()
            if recorder.announced or duration_ns >= _SLOW_NS:
                self.slow = duration_ns >= _SLOW_NS
                self.write(span, line)
                return
            try:
                if (written := os.write(recorder.fd, line)) == len(line):
                    recorder.dirty = True
                else:
                    recorder.not_written(line, "short-write", written)
            except OSError as error:
                recorder.not_written(line, reason_of(error))
        except Exception as fault:
            _guard.swallow(fault, "tool.end")

    def write(self, span: str, line: bytes) -> None:
        """Record the end of a call that is no longer in flight."""
        if span in recorder.announced:
            recorder.announced.discard(span)
            recorder.turn.wait()  # the flusher may be writing this call's start just now
        recorder.emit(line)

    def line(self, scope: Scope, span: str, ts: int, duration_ns: int, error: BaseException | None, more: Any) -> bytes:
        """The journal line of ``tool.ended``."""
        if error is not None or more:
            return encode(self.fields(scope, span, ts, duration_ns, error, more))
        return f'{self.head_for(scope)}{span}","ts":{ts},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode("ascii")

    def fields(self, scope: Scope, span: str, ts: int, duration_ns: int, error: BaseException | None, more: Any) -> Any:
        """The event as a dictionary."""
        status, failure = ("ok", None) if error is None else outcome(error, self.name)
        status = "cancelled" if error is not None and status == "ok" else status
        session, parent = scope[:2]
        event = {
            "kind": "tool.ended", "agent": session.agent, "session": session.id, "tool": self.name,
            "parent": parent, "span": span, "ts": ts, "duration_ns": duration_ns, "status": status,
        }  # fmt: skip
        if error is not None:
            event["error"] = failure or redaction.failure(error, self.name)
        return event | (more or {})

    def captured(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments that were asked for, as far as they fit the signature."""
        if self.capture is None or self.signature is None:
            return {}
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError:  # the call itself will raise it
            return {}
        asked = {name: value for name, value in bound.items() if name in self.capture}
        return redaction.shown_mapping("arguments", asked, self.name)


class _Call:
    """One call, the long way: as an activity of the drivers, with capture and hooks."""

    __slots__ = ("args", "first_item_ns", "items", "kwargs", "more", "scope", "span", "start_ns", "this")

    def __init__(self, this: _Tool, args: Any, kwargs: Any) -> None:
        self.this = this
        self.args = args
        self.kwargs = kwargs
        self.items: int | None = None
        self.first_item_ns: int | None = None
        self.more: dict[str, Any] = {}
        self.span = ""

    def begin(self) -> _Call:
        try:
            recorder.notice_fork()
            self.scope = current.get() or ambient()
            self.more = self._capture_arguments()
            span = recorder.ids.span()
            self.start_ns = self.this.begin(self.scope, span)
            self.span = span
        except Exception as fault:
            _guard.swallow(fault, "tool.begin")
        return self

    def enter(self) -> Any:
        try:
            return current.set((self.scope[0], self.span)) if self.span else None
        except Exception as fault:
            _guard.swallow(fault, "tool.enter")
        return None

    def leave(self, token: Any) -> None:
        try:
            if token is not None:
                current.reset(token)
        except ValueError:  # finished in another context than it was begun in
            pass

    def item(self) -> None:
        try:
            if self.items is None:
                self.items = 0
                self.first_item_ns = recorder.mono_ns() - self.start_ns if self.span else None
            self.items += 1
        except Exception as fault:
            _guard.swallow(fault, "tool.item")

    def end(self, error: BaseException | None, result: Any) -> None:
        if not self.span:
            return
        try:
            self._note_result(error, result)
        except Exception as fault:
            _guard.swallow(fault, "tool.capture")
        times = self.this.end(self.scope, self.span, self.start_ns, error, self.more)
        if times is not None:
            self._run_post_hooks(*times, error, result)

    def begin_with_pre_hooks(self) -> _Call:
        """Let pre-hooks replace the arguments. Raises what they raise, once the call is recorded as cancelled."""
        if self.begin().span:
            try:
                self.args, self.kwargs = hooks.run_pre_hooks(self._as_hooks_see_it())
            except BaseException as error:
                self.more["status"] = "cancelled"
                self.end(error, None)
                raise
        return self

    def _capture_arguments(self) -> dict[str, Any]:
        captured = self.this.captured(self.args, self.kwargs)
        return {"arguments": captured} if captured else {}

    def _note_result(self, error: BaseException | None, result: Any) -> None:
        if self.items is not None:
            self.more |= {"items": self.items, "first_item_ns": self.first_item_ns}
        capture = self.this.capture
        if error is None and result is not None and capture is not None and _RESULT in capture:
            self.more["result"] = redaction.shown("result", result, self.this.name)

    def _run_post_hooks(self, ts: int, duration_ns: int, error: BaseException | None, result: Any) -> None:
        try:
            if not hooks.get_hooks(self.this.name):
                return
            from pyjama_instrument.events import ToolEnded  # pydantic is needed only for hooks

            event = ToolEnded.model_validate(self.this.fields(self.scope, self.span, ts, duration_ns, error, self.more))
            hooks.run_post_hooks(self._as_hooks_see_it(event=event, result=result, error=error))
        except Exception as fault:
            _guard.swallow(fault, "tool.hooks")

    def _as_hooks_see_it(self, **more: Any) -> hooks.ToolCall:
        session = self.scope[0]
        return hooks.ToolCall(self.this.name, session.agent, session.id, tuple(self.args), dict(self.kwargs), **more)


def _call(this: _Tool, kind: Kind, wrapped: Any, args: Any, kwargs: Any) -> Any:
    """The long way, for any kind of function."""
    call = _Call(this, args, kwargs)
    if not _has_pre_hooks(this):
        return drive(kind, call.begin, wrapped, args, kwargs)
    if kind == "sync":
        call.begin_with_pre_hooks()
        return run(lambda: call, wrapped, call.args, call.kwargs)
    # The pre-hooks may change the arguments, so the function is called after them.
    return drive_later(kind, call.begin_with_pre_hooks, lambda: wrapped(*call.args, **call.kwargs), wrapped)


def _has_pre_hooks(this: _Tool) -> bool:
    try:
        return bool(hooks.get_pre_hooks(this.name))
    except Exception as fault:
        _guard.swallow(fault, "tool.hooks")
    return False


def _resume(this: _Tool, scope: Scope, span: str, start_ns: int, coroutine: CoroutineType[Any, Any, Any]) -> Any:
    call = _Call(this, (), {})
    call.scope, call.span, call.start_ns = scope, span, start_ns
    return resume(call, coroutine)


def _default_name(function: Any) -> str:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = getattr(inner, "__func__", inner)
    qualified = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return check_name(str(qualified).rpartition("<locals>.")[2], "tool name")


def _check_capture(capture: object) -> None:
    if isinstance(capture, bool):
        return
    if isinstance(capture, str) or not isinstance(capture, Sequence) or not all(type(key) is str for key in capture):
        raise ConfigError('capture must be True or a sequence of parameter names, such as ("path", "return")')


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigError(f"capture needs a signature, and {_default_name(function)} has none") from None


def _resolved(capture: Sequence[str] | bool, signature: inspect.Signature) -> frozenset[str]:
    known = {*signature.parameters, _RESULT}
    if isinstance(capture, bool):
        return frozenset(known - {"self", "cls"})
    asked = {_RESULT if key == "result" and key not in known else key for key in capture}
    if unknown := asked - known:
        raise ConfigError(f"capture names no parameter of the function: {', '.join(sorted(unknown))}")
    return frozenset(asked)
