"""One call of a tool with captured arguments, hooks, or the items of a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyjama_instrument import _guard
from pyjama_instrument._hooked_tools import hooked
from pyjama_instrument.recording.context import Scope, current, leave_scope
from pyjama_instrument.recording.implicit_session import ambient
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import policy

if TYPE_CHECKING:
    from pyjama_instrument import hooks
    from pyjama_instrument.recording.call_events import CallEvents

__all__ = ["RESULT", "RecordedCall"]

RESULT = "return"


class RecordedCall:
    """One call, as an observer of a wrapped function.

    Attributes:
        span: the call's span; empty if its begin could not be recorded.
        unrecorded: the scope, if the call is to be recorded at its end because the stack was full when it began.
        extra: optional fields of the event.
    """

    __slots__ = (
        "args", "events", "extra", "first_item_ns", "function", "items", "kwargs", "scope", "span", "start_ns",
        "unrecorded",
    )  # fmt: skip

    def __init__(self, events: CallEvents, function: Any, args: Any, kwargs: Any) -> None:
        self.events = events
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.items: int | None = None
        self.first_item_ns: int | None = None
        self.extra: dict[str, Any] = {}
        self.span = ""
        self.unrecorded: tuple[Scope | None, ...] = ()

    def begin(self) -> RecordedCall:
        """The call begins."""
        scope = None
        try:
            self.scope = scope = current.get() or ambient()
            recorder.notice_fork()
            self.extra = self._capture_arguments()
            span = recorder.ids.span()
            self.start_ns = self.events.begin(self.scope, span)[4]
            self.span = span
        except RecursionError:  # the program has filled the stack: the call is recorded later
            self.unrecorded = (scope,)
        except Exception as fault:
            _guard.swallow(fault, "tool.begin")
        return self

    def enter(self) -> Any:
        """Make the call the innermost span of the running code; returns what :meth:`leave` takes."""
        try:
            return current.set((self.scope[0], self.span)) if self.span else None
        except Exception as fault:
            _guard.swallow(fault, "tool.enter")
        return None

    leave = staticmethod(leave_scope)

    def item(self) -> None:
        """A generator has yielded a value."""
        try:
            if self.items is None:
                self.items = 0
                self.first_item_ns = recorder.mono_ns() - self.start_ns if self.span else None
            self.items += 1
        except Exception as fault:
            _guard.swallow(fault, "tool.item")

    def end(self, error: BaseException | None, result: Any) -> None:
        """The call has ended; record it and run post-hooks."""
        if not self.span:
            if self.unrecorded:  # nothing that takes a frame
                kind = None if error is None else type(error)
                recorder.unwritten += ((self.events, *self.unrecorded, None, 0, kind),)
            return
        try:
            self._note_result(error, result)
        except Exception as fault:
            _guard.swallow(fault, "tool.capture")
        times = self.events.end(self.scope, self.span, self.start_ns, error, self.extra)
        if times is not None:
            self._run_post_hooks(*times, error, result)

    def begin_with_pre_hooks(self) -> RecordedCall:
        """The call begins; pre-hooks may replace its arguments. Raises what they raise, after recording the call."""
        if self.begin().span:
            try:
                from pyjama_instrument import hooks

                self.args, self.kwargs = hooks.run_pre_hooks(self._hook_argument())
            except BaseException as error:
                self.extra["status"] = "cancelled"
                self.end(error, None)
                raise
        return self

    def _capture_arguments(self) -> dict[str, Any]:
        captured = self.events.captured(self.function, self.args, self.kwargs)
        return {"arguments": captured} if captured else {}

    def _note_result(self, error: BaseException | None, result: Any) -> None:
        if self.items is not None:
            self.extra |= {"items": self.items, "first_item_ns": self.first_item_ns}
        capture = self.events.capture
        if error is None and result is not None and capture is not None and RESULT in capture:
            self.extra["result"] = policy.redact_value("result", result, self.events.name)

    def _run_post_hooks(self, ts: int, duration_ns: int, error: BaseException | None, result: Any) -> None:
        try:
            if not hooked:
                return
            from pyjama_instrument import hooks

            if not hooks.get_hooks(self.events.name):
                return
            from pyjama_instrument.events import ToolEnded  # only hooks need pydantic

            fields = self.events.fields(self.scope, self.span, ts, duration_ns, error, self.extra)
            event = ToolEnded.model_validate(fields)
            hooks.run_post_hooks(self._hook_argument(event=event, result=result, error=error))
        except Exception as fault:
            _guard.swallow(fault, "tool.hooks")

    def _hook_argument(self, **more: Any) -> hooks.ToolCall:
        from pyjama_instrument import hooks

        session = self.scope[0]
        return hooks.ToolCall(self.events.name, session.agent, session.id, tuple(self.args), dict(self.kwargs), **more)
