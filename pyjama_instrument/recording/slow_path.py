"""One call of a tool the long way: with captured arguments, hooks, and what a generator gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pyjama_instrument import _guard
from pyjama_instrument._hooked_tools import hooked
from pyjama_instrument.recording.context import Scope, current
from pyjama_instrument.recording.implicit_session import ambient
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import policy

if TYPE_CHECKING:
    from pyjama_instrument import hooks

__all__ = ["RESULT", "ToolCall"]

RESULT = "return"


class Tool(Protocol):
    """What a call has to know of the tool."""

    name: str
    capture: frozenset[str] | None

    def begin(self, scope: Scope, span: str) -> int:
        """The call begins; returns its monotonic start."""

    def end(
        self, scope: Scope, span: str, start_ns: int, error: BaseException | None, more: Any
    ) -> tuple[int, int] | None:
        """The call is over; returns the event's time and duration, or None if there was no event."""

    def fields(self, scope: Scope, span: str, ts: int, duration_ns: int, error: BaseException | None, more: Any) -> Any:
        """The event of its end as a dictionary."""

    def captured(self, function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments that were asked for."""


class ToolCall:
    """One call, as an activity of the drivers."""

    __slots__ = (
        "args", "first_item_ns", "function", "items", "kwargs", "late", "more", "scope", "span", "start_ns", "tool"
    )  # fmt: skip

    def __init__(self, tool: Tool, function: Any, args: Any, kwargs: Any) -> None:
        self.tool = tool
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.items: int | None = None
        self.first_item_ns: int | None = None
        self.more: dict[str, Any] = {}
        self.span = ""
        self.late: tuple[Scope | None, ...] = ()

    def begin(self) -> ToolCall:
        """The call begins."""
        scope = None
        try:
            self.scope = scope = current.get() or ambient()
            recorder.notice_fork()
            self.more = self._capture_arguments()
            span = recorder.ids.span()
            self.start_ns = self.tool.begin(self.scope, span)
            self.span = span
        except RecursionError:  # the program has filled the stack: the call is recorded later
            self.late = (scope,)
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

    def leave(self, token: Any) -> None:
        """Make the enclosing span the innermost again."""
        try:
            if token is not None:
                current.reset(token)
        except ValueError:  # finished in another context than it was begun in
            pass

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
            if self.late:  # nothing that takes a frame
                recorder.unwritten += ((self.tool, *self.late, None, 0, None if error is None else type(error)),)
            return
        try:
            self._note_result(error, result)
        except Exception as fault:
            _guard.swallow(fault, "tool.capture")
        times = self.tool.end(self.scope, self.span, self.start_ns, error, self.more)
        if times is not None:
            self._run_post_hooks(*times, error, result)

    def begin_with_pre_hooks(self) -> ToolCall:
        """Let pre-hooks replace the arguments. Raises what they raise, once the call is recorded as cancelled."""
        if self.begin().span:
            try:
                from pyjama_instrument import hooks

                self.args, self.kwargs = hooks.run_pre_hooks(self._as_hooks_see_it())
            except BaseException as error:
                self.more["status"] = "cancelled"
                self.end(error, None)
                raise
        return self

    def _capture_arguments(self) -> dict[str, Any]:
        captured = self.tool.captured(self.function, self.args, self.kwargs)
        return {"arguments": captured} if captured else {}

    def _note_result(self, error: BaseException | None, result: Any) -> None:
        if self.items is not None:
            self.more |= {"items": self.items, "first_item_ns": self.first_item_ns}
        capture = self.tool.capture
        if error is None and result is not None and capture is not None and RESULT in capture:
            self.more["result"] = policy.shown("result", result, self.tool.name)

    def _run_post_hooks(self, ts: int, duration_ns: int, error: BaseException | None, result: Any) -> None:
        try:
            if not hooked:
                return
            from pyjama_instrument import hooks

            if not hooks.get_hooks(self.tool.name):
                return
            from pyjama_instrument.events import ToolEnded  # pydantic is needed only for hooks

            event = ToolEnded.model_validate(self.tool.fields(self.scope, self.span, ts, duration_ns, error, self.more))
            hooks.run_post_hooks(self._as_hooks_see_it(event=event, result=result, error=error))
        except Exception as fault:
            _guard.swallow(fault, "tool.hooks")

    def _as_hooks_see_it(self, **more: Any) -> hooks.ToolCall:
        from pyjama_instrument import hooks

        session = self.scope[0]
        return hooks.ToolCall(self.tool.name, session.agent, session.id, tuple(self.args), dict(self.kwargs), **more)
