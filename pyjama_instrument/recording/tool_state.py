"""What all calls of one decorated function share: the ``source`` of its stand-in."""

from __future__ import annotations

import functools
import os
import sys
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from pyjama_instrument import _guard, unpickle
from pyjama_instrument._hooked_tools import hooked
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording.callable_wrappers import (
    Activity,
    Kind,
    Suspended,
    drive,
    drive_later,
    finish,
    renamed,
    resume,
)
from pyjama_instrument.recording.context import Scope, current
from pyjama_instrument.recording.implicit_session import ambient
from pyjama_instrument.recording.outcome import NOTHING, Declared, names_of, outcome
from pyjama_instrument.recording.recorder import reason_of, recorder
from pyjama_instrument.recording.slow_path import ToolCall
from pyjama_instrument.redaction import policy
from pyjama_instrument.storage.codec import encode, tool_prefix

if TYPE_CHECKING:
    import inspect

__all__ = ["SLOW_NS", "Tool", "signature_of"]

SLOW_NS = 1_000_000
"""Calls that last longer are announced as they begin."""

_REST = (current.get, current.set, current.reset, os, CoroutineType)


def _run_later(source: Tool) -> Any:
    """What runs the coroutine of an async function as a call, written out as in :func:`plain_body`."""
    name = source.name
    get_scope, set_scope, reset_scope = current.get, current.set, current.reset

    async def run_later(suspended: Suspended) -> Any:
        try:
            if not recorder.unforked[0]:
                recorder.notice_fork()
            scope = get_scope() or ambient()
            try:
                span = recorder.ids.spans.pop()
            except IndexError:
                span = recorder.more_spans()
            if source.slow:
                recorder.announce(scope, name, span)
            clock = recorder.mono_ns
            start_ns = clock()
            recorder.in_flight[span] = inner = (scope[0], span, scope[1], name, start_ns)
            token = set_scope(inner)
        except RecursionError:  # the program has filled the stack: the call is recorded later
            begun: Any = (None, None)
            try:
                begun = scope, span  # type: ignore[possibly-undefined]  # that is caught
            except NameError:
                pass
        except Exception as fault:
            begun = ()
            _guard.swallow(fault, "tool.begin")
        else:
            try:
                result = await suspended.held
            except BaseException as error:
                suspended.held = None
                _reset(token)
                source.end(scope, span, start_ns, error)
                raise
            duration_ns = clock() - start_ns
            suspended.held = None
            try:
                reset_scope(token)
            except ValueError:  # finished in another context than it was begun in
                pass
            source.end_well(scope, span, duration_ns)
            return result
        if not begun:
            return await suspended.take()
        try:
            result = await suspended.take()
        except BaseException as error:
            recorder.unwritten += ((source, *begun, 0, type(error)),)
            raise
        recorder.unwritten += ((source, *begun, 0, None),)
        return result

    return run_later


def _reset(token: Any) -> None:
    try:
        current.reset(token)
    except ValueError:  # finished in another context than it was begun in
        pass


class Tool:
    """A decorated function: its name, what to capture, and whether its last call was slow.

    A tool whose last call was slow, or that was never called, announces its calls at once; others are announced by
    the flusher if they last. It is pickled by reference: what a worker gets is a tool of its own, of the same name.

    Attributes:
        head: the constant first part of the journal line in the scope that was seen last.
        run_later: makes the coroutine that stands in for one of the function's, under the function's name.
    """

    __slots__ = ("capture", "control_flow", "head", "hooked", "kind", "name", "rest", "run_later", "signature", "slow")

    ambient = staticmethod(ambient)
    reason_of = staticmethod(reason_of)
    swallow = staticmethod(_guard.swallow)
    suspended = Suspended

    def __init__(self, name: str, kind: Kind, capture: frozenset[str] | None, control_flow: Declared = NOTHING) -> None:
        self.name = name
        self.control_flow = control_flow
        self.kind = kind
        self.capture = capture
        self.signature: inspect.Signature | None = None
        self.slow = True
        self.head: tuple[Scope | None, str] = (None, "")
        self.run_later: Any = None
        # What is the same for all tools, in a place where it is found more quickly than in the class.
        self.hooked = hooked
        self.rest = _REST

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {} if self.capture is None else {"capture": tuple(sorted(self.capture))}
        if self.control_flow:
            settings["control_flow"] = names_of(self.control_flow)
        return unpickle.tool_source, (self.name, self.kind, settings)

    def make_run_later(self, function: Any) -> Any:
        """Have coroutines that stand in for those of ``function`` under its name, for warnings."""
        self.run_later = renamed(_run_later(self), function)
        return self.run_later

    def head_for(self, scope: Scope) -> str:
        """The line of a call in that scope, up to where the span's id goes."""
        session, parent = scope[:2]
        prefix = session.prefixes.get(self.name)
        if prefix is None:
            prefix = session.prefixes[self.name] = tool_prefix("tool.ended", session.agent, session.id, self.name)
        head = f'{prefix}"parent":"{parent}","span":"'
        self.head = scope, head
        return head

    # -- calls

    def begin_call(self, function: Any, args: Any, kwargs: Any) -> tuple[Activity | None, Any, Any]:
        """A plain function is called: what to call it in, and with which arguments. Raises what a pre-hook raises."""
        if not recorder.enabled:
            return None, args, kwargs
        call = ToolCall(self, function, args, kwargs)
        if self.has_pre_hooks():
            call.begin_with_pre_hooks()
        else:
            call.begin()
        return call, call.args, call.kwargs

    finish_call = staticmethod(finish)

    def drive_call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """A function of another kind is called."""
        if not recorder.enabled:
            return function(*args, **kwargs)
        return self.call(function, args, kwargs)

    def call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """A function of any kind is called, while recording is on."""
        if self.kind == "sync":
            call, args, kwargs = self.begin_call(function, args, kwargs)
            if call is None:
                return function(*args, **kwargs)
            token = call.enter()
            try:  # as in run(), without its frame: the function is to recurse as deep as it can
                result = function(*args, **kwargs)
            except BaseException as error:
                call.leave(token)
                call.end(error, None)
                raise
            return finish(call, token, result)
        call = ToolCall(self, function, args, kwargs)
        if not self.has_pre_hooks():
            return drive(self.kind, call.begin, function, args, kwargs)
        # The pre-hooks may change the arguments, so the function is called after them.
        return drive_later(self.kind, call.begin_with_pre_hooks, lambda: function(*call.args, **call.kwargs), function)

    def has_pre_hooks(self) -> bool:
        """Whether something has to run before the call."""
        if not hooked:
            return False
        try:
            from pyjama_instrument import hooks

            return bool(hooks.get_pre_hooks(self.name))
        except Exception as fault:
            _guard.swallow(fault, "tool.hooks")
        return False

    def resume(self, scope: Scope, span: str, start_ns: int, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        """Go on with the coroutine that a plain function has handed out, as a part of its call."""
        call = ToolCall(self, None, (), {})
        call.scope, call.span, call.start_ns = scope, span, start_ns
        return resume(call, coroutine)

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
        duration_ns = -1
        try:
            duration_ns = recorder.mono_ns() - start_ns
            self.slow = duration_ns >= SLOW_NS
            if not recorder.unforked[0]:
                recorder.notice_fork()
            if recorder.in_flight.pop(span, None) is None:
                return None  # begun before a fork, ended in the child: the call is the parent's
            ts = recorder.now_us()
            self.write(span, self.line(scope, span, ts, duration_ns, error, more))
        except RecursionError:  # from here on, nothing that takes a frame
            recorder.in_flight.pop(span, None)
            recorder.unwritten.append((self, scope, span, duration_ns, None if error is None else type(error)))
            return None
        except Exception as fault:
            _guard.swallow(fault, "tool.end")
            return None
        return ts, duration_ns

    def write_late(
        self, scope: Scope | None, span: str | None, duration_ns: int, error: type[BaseException] | None
    ) -> None:
        """Record the end of a call for which the stack had no room when it ended, or already when it began."""
        scope, span = scope or self.head[0] or current.get() or ambient(), span or recorder.ids.span()
        more: dict[str, Any] = {}
        if error is not None:
            status = "error" if issubclass(error, Exception) else "cancelled"
            more = {"status": status, "error": {"type": error.__qualname__, "message": ""}}
        self.write(span, self.line(scope, span, recorder.now_us(), duration_ns, None, more))

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
            if recorder.announced or duration_ns >= SLOW_NS:
                self.slow = duration_ns >= SLOW_NS
                self.write(span, line)
                return
            try:
                if (written := os.write(recorder.fd, line)) == len(line):
                    recorder.dirty = True
                else:
                    recorder.not_written(line, "short-write", written)
            except OSError as error:
                recorder.not_written(line, reason_of(error))
        except RecursionError:
            recorder.unwritten.append((self, scope, span, duration_ns, None))
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
        status, failure = ("ok", None) if error is None else outcome(error, self.name, self.control_flow)
        status = "cancelled" if error is not None and status == "ok" else status
        session, parent = scope[:2]
        event = {
            "kind": "tool.ended", "agent": session.agent, "session": session.id, "tool": self.name,
            "parent": parent, "span": span, "ts": ts, "duration_ns": duration_ns, "status": status,
        }  # fmt: skip
        if error is not None:
            event["error"] = failure or policy.failure(error, self.name)
        return event | (more or {})

    def captured(self, function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments that were asked for, as far as they fit the signature."""
        if not self.capture:
            return {}
        try:
            if self.signature is None:  # in a process that was sent the function
                self.signature = signature_of(function)
            bound = self.signature.bind(*args, **kwargs).arguments
        except (ConfigError, TypeError):  # the call itself will raise it
            return {}
        asked = {name: value for name, value in bound.items() if name in self.capture}
        return policy.shown_mapping("arguments", asked, self.name)


@functools.lru_cache(1024)
def _sent(name: str, kind: Kind, capture: tuple[str, ...] | None = None, control_flow: tuple[str, ...] = ()) -> Tool:
    return Tool(name, kind, None if capture is None else frozenset(capture), frozenset(control_flow))


unpickle.makers["tool source"] = _sent


def signature_of(function: Any) -> inspect.Signature:
    """What is captured goes by the names in it.

    Raises:
        ConfigError: the function has none.
    """
    import inspect

    form: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # annotations may name what is defined later: they are not evaluated
        from annotationlib import Format

        form["annotation_format"] = Format.STRING
    try:
        return inspect.signature(function, **form)
    except (TypeError, ValueError):
        raise ConfigError("capture needs a signature, and the function has none") from None
