"""Stand-ins for functions whose calls are only timed: each step written out, because it is what every call pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyjama_instrument.recording.recorder import recorder

if TYPE_CHECKING:
    from types import FunctionType

    from pyjama_instrument.recording.tool_state import Tool

__all__ = ["async_body", "plain_body"]

_BRIEF_NS = 10_000  # no system forks in less, so that a call this brief ends in the process it began in


def plain_body(function: Any, source: Tool) -> FunctionType:
    """How a call of a plain function is recorded, without capture or hooks.

    Every step is written out here, because function calls would cost more than what they do. It amounts to
    ``source.begin``, the call, and ``source.end``. It has one frame of Python's, and none of C's: so the function
    recurses as deep as below any decorator. For what it may refer to see ``_stand_in``.
    """
    own, name, brief_ns = recorder, source.name, _BRIEF_NS
    any_error, fault_type, too_deep, unbound = BaseException, Exception, RecursionError, NameError
    none_left, not_ours, failed, length, kind_of = IndexError, KeyError, OSError, len, type

    def call(*args: Any, **kwargs: Any) -> Any:
        if not own.unforked[1]:  # recording is off, there are hooks, or this process has just been forked
            return source.call(function, args, kwargs) if own.enabled else function(*args, **kwargs)
        get_scope, set_scope, reset_scope, system, coroutine_type = source.rest
        try:
            scope = get_scope() or own.ambient or source.ambient()
            try:
                span = own.ids.spans.pop()
            except none_left:
                span = own.more_spans()
            if source.slow:
                own.announce(scope, name, span)
            clock = own.mono_ns  # by a name of its own: Python is quicker to call that than a recorder's attribute
            start_ns = clock()
            own.in_flight[span] = inner = (scope[0], span, scope[1], name, start_ns)
            token = set_scope(inner)
        except too_deep:  # from here on, nothing that takes a frame, or is a call if that can be helped
            begun: Any = (None, None)
            try:
                begun = scope, span  # type: ignore[possibly-undefined]  # that is caught
                del own.in_flight[span]  # type: ignore[possibly-undefined]
            except (unbound, not_ours):  # it got less far than that
                pass
        except fault_type as fault:
            begun = ()
            source.swallow(fault, "tool.begin")
        else:
            try:
                result = function(*args, **kwargs) if kwargs else function(*args)
            except any_error as error:
                reset_scope(token)
                try:
                    source.end(scope, span, start_ns, error)
                except too_deep:
                    own.in_flight.pop(span, None)
                    own.unwritten.append((source, scope, span, clock() - start_ns, kind_of(error)))
                raise
            duration_ns = clock() - start_ns
            reset_scope(token)
            if kind_of(result) is coroutine_type:  # a plain function that hands out a coroutine: the call is its life
                return source.resume(scope, span, start_ns, result)
            try:
                if duration_ns >= brief_ns or own.announced:
                    source.end_well(scope, span, duration_ns)
                    return result
                try:
                    del own.in_flight[span]
                except not_ours:  # begun before a fork, ended in the child: the call is the parent's
                    return result
                known, head = source.head
                if known is not scope:
                    head = source.head_for(scope)
                wall = own.wall_ns
                line = f'{head}{span}","ts":{wall() // 1000},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode()
                try:
                    if (written := system.write(own.fd, line)) == length(line):
                        own.dirty = True
                    else:
                        own.not_written(line, "short-write", written)
                except failed as error:
                    own.not_written(line, source.reason_of(error))
            except too_deep:
                own.in_flight.pop(span, None)
                own.unwritten.append((source, scope, span, duration_ns, None))
            except fault_type as fault:
                source.swallow(fault, "tool.end")
            return result
        # Only here: the function must not find a fault of ours as what is being handled.
        if not begun:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except any_error as error:
            own.unwritten += ((source, *begun, 0, kind_of(error)),)
            raise
        own.unwritten += ((source, *begun, 0, None),)
        return result

    return call  # type: ignore[return-value]  # a function's type is FunctionType


def async_body(function: Any, source: Tool) -> FunctionType:
    """The same for an async function."""
    own, too_deep, kind_of = recorder, RecursionError, type

    def call(*args: Any, **kwargs: Any) -> Any:
        if not own.enabled:
            return function(*args, **kwargs)
        if source.hooked:
            return source.call(function, args, kwargs)
        coroutine = function(*args, **kwargs) if kwargs else function(*args)
        try:
            suspended = source.suspended()
            suspended.held = coroutine
            run_later = source.run_later or source.make_run_later(function)
            return run_later(suspended)
        except too_deep:
            if kind_of(coroutine) is source.rest[-1]:  # or Python would warn that nobody awaits it
                coroutine.close()
            raise

    return call  # type: ignore[return-value]  # a function's type is FunctionType
