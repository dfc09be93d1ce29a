"""The coroutine that records a call of an async function, without captured arguments and hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyjama_instrument import _guard
from pyjama_instrument.recording.context import current, leave_scope
from pyjama_instrument.recording.implicit_session import ambient
from pyjama_instrument.recording.recorder import recorder

if TYPE_CHECKING:
    from pyjama_instrument.recording.call_events import CallEvents
    from pyjama_instrument.recording.callable_wrappers import Unstarted

__all__ = ["recorded_coroutine"]


def recorded_coroutine(events: CallEvents) -> Any:
    """A coroutine function that awaits the coroutine it is given, and records that as a call.

    This is the hot path of async functions, and past 50 lines: ``events.begin`` is written out, because a function call
    would cost more. What it uses often is in local variables.
    """
    get_scope, set_scope, reset_scope = current.get, current.set, current.reset
    name = events.name

    async def recorded(unstarted: Unstarted) -> Any:
        scope = span = None
        begun = False
        try:
            if not recorder.unforked[0]:
                recorder.notice_fork()
            scope = get_scope() or ambient()
            try:
                span = recorder.ids.spans.pop()
            except IndexError:
                span = recorder.more_spans()
            if events.slow:
                recorder.announce(scope, name, span)
            clock = recorder.mono_ns  # a variable is faster to call than an attribute
            start_ns = clock()
            recorder.in_flight[span] = call = (scope[0], span, scope[1], name, start_ns)
            token = set_scope(call)
        except RecursionError:  # the program has filled the stack: the call is recorded later
            begun = True
            try:  # no call: there may be no room for one
                del recorder.in_flight[span]  # type: ignore[arg-type]  # None is not in it
            except KeyError:  # it failed before that
                pass
        except Exception as fault:
            _guard.swallow(fault, "tool.begin")
        else:
            try:
                result = await unstarted.target
            except BaseException as error:
                unstarted.target = None
                leave_scope(token)
                events.end(scope, span, start_ns, error)
                raise
            duration_ns = clock() - start_ns
            unstarted.target = None
            try:
                reset_scope(token)
            except ValueError:  # it ends in another context than it began in
                pass
            events.end_ok(scope, span, duration_ns)
            return result
        if not begun:
            return await unstarted.take()
        try:
            result = await unstarted.take()
        except BaseException as error:
            recorder.unwritten += ((events, scope, span, 0, type(error)),)
            raise
        recorder.unwritten += ((events, scope, span, 0, None),)
        return result

    return recorded
