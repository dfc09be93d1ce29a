"""The events of one tool's calls: how a call is announced, and how its end becomes a journal line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from pyjama_instrument import _guard
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording.context import Call, Scope, current
from pyjama_instrument.recording.implicit_session import ambient
from pyjama_instrument.recording.outcome import Declared, outcome
from pyjama_instrument.recording.process_state import reason_of
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import policy
from pyjama_instrument.storage.encoding import encode, tool_prefix

if TYPE_CHECKING:
    import inspect

__all__ = ["SLOW_NS", "CallEvents", "signature_of"]

SLOW_NS = 1_000_000
"""Calls that last longer are slow."""


class CallEvents:
    """Records the calls of one tool.

    If the last call was slow, or there was none, the next call is announced when it begins. The flusher announces other
    calls if they last.

    Attributes:
        name: the tool's name.
        capture: which arguments to record; None for none.
        control_flow: exceptions that do not count as failures of the tool.
        signature: the function's, if arguments are captured and it is known here.
        slow: whether to announce the next call when it begins.
        line_prefix: the scope of the latest call, and the constant first part of the journal lines in that scope.
    """

    __slots__ = ("capture", "control_flow", "line_prefix", "name", "signature", "slow")

    def __init__(self, name: str, capture: frozenset[str] | None, control_flow: Declared) -> None:
        self.name = name
        self.capture = capture
        self.control_flow = control_flow
        self.signature: inspect.Signature | None = None
        self.slow = True
        self.line_prefix: tuple[Scope | None, str] = (None, "")

    def begin(self, scope: Scope, span: str) -> Call:
        """A call begins now. Returns it as the scope of the code inside."""
        if self.slow:
            recorder.announce(scope, self.name, span)
        clock = recorder.mono_ns  # a variable is faster to call than an attribute
        recorder.in_flight[span] = call = (scope[0], span, scope[1], self.name, clock())
        return call

    def end(
        self, scope: Scope, span: str, start_ns: int, error: BaseException | None, extra: Any = None
    ) -> tuple[int, int] | None:
        """A call is over. ``extra`` are optional fields of the event.

        Returns the event's time in µs and the duration in ns, or None if there was no event.
        """
        duration_ns = -1
        try:
            duration_ns = recorder.mono_ns() - start_ns
            self.slow = duration_ns >= SLOW_NS
            if not recorder.unforked[0]:
                recorder.notice_fork()
            if recorder.in_flight.pop(span, None) is None:
                return None  # begun before a fork, ended in the child: the parent records it
            ts = recorder.now_us()
            self._write(span, self._line(scope, span, ts, duration_ns, error, extra))
        except RecursionError:  # from here on, nothing that takes a frame
            recorder.in_flight.pop(span, None)
            recorder.unwritten.append((self, scope, span, duration_ns, None if error is None else type(error)))
            return None
        except Exception as fault:
            _guard.swallow(fault, "tool.end")
            return None
        return ts, duration_ns

    def end_ok(self, scope: Scope, span: str, duration_ns: int) -> None:
        """What :meth:`end` does for a call without an error and extra fields, at less cost."""
        try:
            if not recorder.unforked[0]:
                recorder.notice_fork()
            if recorder.in_flight.pop(span, None) is None:
                return  # begun before a fork, ended in the child: the parent records it
            wall = recorder.wall_ns
            ts = wall() // 1000
            known, prefix = self.line_prefix
            if known is not scope:
                prefix = self.line_prefix_for(scope)
            line = f'{prefix}{span}","ts":{ts},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode()
            if recorder.announced or duration_ns >= SLOW_NS:
                self.slow = duration_ns >= SLOW_NS
                self._write(span, line)
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

    def record_deferred(
        self, scope: Scope | None, span: str | None, duration_ns: int, error: type[BaseException] | None
    ) -> None:
        """Record the end of a call that could not be recorded then, because the stack was full.

        ``scope`` and ``span`` are None if the stack was already full when the call began.
        """
        scope, span = scope or self.line_prefix[0] or current.get() or ambient(), span or recorder.ids.span()
        extra: dict[str, Any] = {}
        if error is not None:
            status = "error" if issubclass(error, Exception) else "cancelled"
            extra = {"status": status, "error": {"type": error.__qualname__, "message": ""}}
        self._write(span, self._line(scope, span, recorder.now_us(), duration_ns, None, extra))

    def line_prefix_for(self, scope: Scope) -> str:
        """The journal line of a call in that scope, up to where the span's id goes."""
        session, parent = scope[:2]
        prefix = session.prefixes.get(self.name)
        if prefix is None:
            prefix = session.prefixes[self.name] = tool_prefix("tool.ended", session.agent, session.id, self.name)
        prefix = f'{prefix}"parent":"{parent}","span":"'
        self.line_prefix = scope, prefix
        return prefix

    def fields(
        self, scope: Scope, span: str, ts: int, duration_ns: int, error: BaseException | None, extra: Any
    ) -> Any:
        """The event of a call's end, as a dictionary."""
        status, failure = ("ok", None) if error is None else outcome(error, self.name, self.control_flow)
        status = "cancelled" if error is not None and status == "ok" else status
        session, parent = scope[:2]
        event = {
            "kind": "tool.ended", "agent": session.agent, "session": session.id, "tool": self.name,
            "parent": parent, "span": span, "ts": ts, "duration_ns": duration_ns, "status": status,
        }  # fmt: skip
        if error is not None:
            event["error"] = failure or policy.failure(error, self.name)
        return event | (extra or {})

    def captured(self, function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments to record; none if the arguments do not fit the signature."""
        if not self.capture:
            return {}
        try:
            if self.signature is None:  # the function was unpickled in this process
                self.signature = signature_of(function)
            bound = self.signature.bind(*args, **kwargs).arguments
        except (ConfigError, TypeError):  # the call itself will raise it
            return {}
        chosen = {name: value for name, value in bound.items() if name in self.capture}
        return policy.redact_mapping("arguments", chosen, self.name)

    def _write(self, span: str, line: bytes) -> None:
        if span in recorder.announced:
            recorder.announced.discard(span)
            recorder.lock.wait()  # the flusher may be writing the start of this call now
        recorder.emit(line)

    def _line(
        self, scope: Scope, span: str, ts: int, duration_ns: int, error: BaseException | None, extra: Any
    ) -> bytes:
        if error is not None or extra:
            return encode(self.fields(scope, span, ts, duration_ns, error, extra))
        prefix = self.line_prefix_for(scope)
        return f'{prefix}{span}","ts":{ts},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode("ascii")


def signature_of(function: Any) -> inspect.Signature:
    """The function's signature, which gives captured arguments their names.

    Raises:
        ConfigError: the function has none.
    """
    import inspect

    form: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # annotations may name what is defined later, so they are not evaluated
        from annotationlib import Format

        form["annotation_format"] = Format.STRING
    try:
        return inspect.signature(function, **form)
    except (TypeError, ValueError):
        raise ConfigError("capture needs a signature, and the function has none") from None
