"""Bodies of wrapper functions whose calls are only timed. Every call pays for what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyjama_instrument.recording.recorder import recorder

if TYPE_CHECKING:
    from types import FunctionType

    from pyjama_instrument.recording.recorder import Recorder
    from pyjama_instrument.recording.tool_state import Tool

__all__ = ["fast_async_body", "fast_sync_body"]

_BRIEF_NS = 10_000  # no system forks faster, so a call this brief ends in the process in which it began


def fast_sync_body(function: Any, handler: Tool, recorder: Recorder = recorder) -> FunctionType:
    """A body that records the calls of a plain function, without captured arguments and hooks.

    This is the hot path, and past 50 lines: every step is written out, because function calls would
    cost more than what they do. It amounts to ``handler.begin``, the call, and ``handler.end``. It takes one Python
    frame and no C stack, so the function can recurse as deep as with any other decorator. The body may use no global
    name: see ``function_wrapper``. So its closure has everything, also the recorder.
    """
    name, brief_ns = handler.name, _BRIEF_NS
    any_error, fault_type, stack_full, unbound = BaseException, Exception, RecursionError, NameError
    no_span_left, not_in_flight, failed, length, kind_of = IndexError, KeyError, OSError, len, type

    def call(*args: Any, **kwargs: Any) -> Any:
        if not recorder.unforked[1]:  # recording is off, there are hooks, or this process has just been forked
            return handler.call(function, args, kwargs) if recorder.enabled else function(*args, **kwargs)
        get_scope, set_scope, reset_scope, system, coroutine_type = handler.imports
        try:
            scope = get_scope() or recorder.ambient or handler.ambient()
            try:
                span = recorder.ids.spans.pop()
            except no_span_left:
                span = recorder.more_spans()
            if handler.slow:
                recorder.announce(scope, name, span)
            clock = recorder.mono_ns  # a variable is faster to call than an attribute
            start_ns = clock()
            recorder.in_flight[span] = inner = (scope[0], span, scope[1], name, start_ns)
            token = set_scope(inner)
        except stack_full:  # from here on, nothing that takes a frame, and as few calls as possible
            begun: Any = (None, None)
            try:
                begun = scope, span  # type: ignore[possibly-undefined]  # that is caught
                del recorder.in_flight[span]  # type: ignore[possibly-undefined]
            except (unbound, not_in_flight):  # it failed before that
                pass
        except fault_type as fault:
            begun = ()
            handler.swallow(fault, "tool.begin")
        else:
            try:
                result = function(*args, **kwargs) if kwargs else function(*args)
            except any_error as error:
                reset_scope(token)
                try:
                    handler.end(scope, span, start_ns, error)
                except stack_full:
                    recorder.in_flight.pop(span, None)
                    recorder.unwritten.append((handler, scope, span, clock() - start_ns, kind_of(error)))
                raise
            duration_ns = clock() - start_ns
            reset_scope(token)
            if kind_of(result) is coroutine_type:  # the call lasts until the coroutine ends
                return handler.resume(scope, span, start_ns, result)
            try:
                if duration_ns >= brief_ns or recorder.announced:
                    handler.end_ok(scope, span, duration_ns)
                    return result
                try:
                    del recorder.in_flight[span]
                except not_in_flight:  # begun before a fork, ended in the child: the parent records it
                    return result
                known, prefix = handler.line_prefix
                if known is not scope:
                    prefix = handler.line_prefix_for(scope)
                wall = recorder.wall_ns
                line = f'{prefix}{span}","ts":{wall() // 1000},"duration_ns":{duration_ns},"status":"ok"}}\n'.encode()
                try:
                    if (written := system.write(recorder.fd, line)) == length(line):
                        recorder.dirty = True
                    else:
                        recorder.not_written(line, "short-write", written)
                except failed as error:
                    recorder.not_written(line, handler.reason_of(error))
            except stack_full:
                recorder.in_flight.pop(span, None)
                recorder.unwritten.append((handler, scope, span, duration_ns, None))
            except fault_type as fault:
                handler.swallow(fault, "tool.end")
            return result
        # Not inside an except clause: the function must not see a fault of this package as the handled exception.
        if not begun:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except any_error as error:
            recorder.unwritten += ((handler, *begun, 0, kind_of(error)),)
            raise
        recorder.unwritten += ((handler, *begun, 0, None),)
        return result

    return call  # type: ignore[return-value]  # a function's type is FunctionType


def fast_async_body(function: Any, handler: Tool, recorder: Recorder = recorder) -> FunctionType:
    """The same for an async function: the call is recorded by the coroutine that the body returns."""
    stack_full, kind_of = RecursionError, type

    def call(*args: Any, **kwargs: Any) -> Any:
        if not recorder.enabled:
            return function(*args, **kwargs)
        if handler.hooked:
            return handler.call(function, args, kwargs)
        coroutine = function(*args, **kwargs) if kwargs else function(*args)
        try:
            unstarted = handler.unstarted()
            unstarted.target = coroutine
            coroutine_wrapper = handler.coroutine_wrapper or handler.make_coroutine_wrapper(function)
            return coroutine_wrapper(unstarted)
        except stack_full:
            if kind_of(coroutine) is handler.imports[-1]:  # or Python would warn that it was never awaited
                coroutine.close()
            raise

    return call  # type: ignore[return-value]  # a function's type is FunctionType
