"""The handler of a decorated function's calls: what all of them share."""

from __future__ import annotations

import functools
import os
from types import CoroutineType
from typing import Any

from pyjama_instrument import _guard, unpickle
from pyjama_instrument._hooked_tools import hooked
from pyjama_instrument.recording.call_events import CallEvents
from pyjama_instrument.recording.callable_wrappers import (
    CallObserver,
    Kind,
    Unstarted,
    call_after_begin,
    call_observed,
    finish_sync,
    observe_coroutine,
    with_name_of,
)
from pyjama_instrument.recording.context import Scope, current
from pyjama_instrument.recording.fast_coroutine import recorded_coroutine
from pyjama_instrument.recording.implicit_session import ambient
from pyjama_instrument.recording.outcome import NOTHING, Declared, names_of
from pyjama_instrument.recording.process_state import reason_of
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.slow_path import RecordedCall

__all__ = ["Tool"]

_IMPORTS = (current.get, current.set, current.reset, os, CoroutineType)


class Tool(CallEvents):
    """A decorated function.

    A Tool is pickled by reference: the process that unpickles it gets a Tool of its own with the same settings.

    Attributes:
        kind: the kind of function.
        coroutine_wrapper: of an async function: makes the coroutine that takes the place of the function's coroutine;
            None before the first call.
    """

    __slots__ = ("coroutine_wrapper", "hooked", "imports", "kind")

    # The bodies of wrapper functions may use no global names, so they find these here.
    ambient = staticmethod(ambient)
    reason_of = staticmethod(reason_of)
    swallow = staticmethod(_guard.swallow)
    unstarted = Unstarted

    def __init__(self, name: str, kind: Kind, capture: frozenset[str] | None, control_flow: Declared = NOTHING) -> None:
        super().__init__(name, capture, control_flow)
        self.kind = kind
        self.coroutine_wrapper: Any = None
        # The same for all tools: an instance's slots are faster to read than attributes of the class.
        self.hooked = hooked
        self.imports = _IMPORTS

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {} if self.capture is None else {"capture": tuple(sorted(self.capture))}
        if self.control_flow:
            settings["control_flow"] = names_of(self.control_flow)
        return unpickle.tool_source, (self.name, self.kind, settings)

    def make_coroutine_wrapper(self, function: Any) -> Any:
        """Set ``coroutine_wrapper``. Its coroutines have the name of ``function``, which appears in warnings."""
        self.coroutine_wrapper = with_name_of(recorded_coroutine(self), function)
        return self.coroutine_wrapper

    def begin_call(self, function: Any, args: Any, kwargs: Any) -> tuple[CallObserver | None, Any, Any]:
        """A plain function is about to be called.

        Returns the observer of the call (None if recording is off) and the arguments. Raises what a pre-hook raises.
        """
        if not recorder.enabled:
            return None, args, kwargs
        call = RecordedCall(self, function, args, kwargs)
        if self.has_pre_hooks():
            call.begin_with_pre_hooks()
        else:
            call.begin()
        return call, call.args, call.kwargs

    finish_call = staticmethod(finish_sync)

    def call_deferred(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function that is not a plain one."""
        if not recorder.enabled:
            return function(*args, **kwargs)
        return self.call(function, args, kwargs)

    def call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function of any kind while recording is on."""
        if self.kind == "sync":
            call, args, kwargs = self.begin_call(function, args, kwargs)
            if call is None:
                return function(*args, **kwargs)
            token = call.enter()
            try:  # as in call_sync(), without its frame: the function must be able to recurse as deep as possible
                result = function(*args, **kwargs)
            except BaseException as error:
                call.leave(token)
                call.end(error, None)
                raise
            return finish_sync(call, token, result)
        call = RecordedCall(self, function, args, kwargs)
        if not self.has_pre_hooks():
            return call_observed(self.kind, call.begin, function, args, kwargs)

        def with_hooked_arguments() -> Any:
            return function(*call.args, **call.kwargs)

        return call_after_begin(self.kind, call.begin_with_pre_hooks, with_hooked_arguments, function)

    def has_pre_hooks(self) -> bool:
        """Whether a pre-hook has to run before the call."""
        if not hooked:
            return False
        try:
            from pyjama_instrument import hooks

            return bool(hooks.get_pre_hooks(self.name))
        except Exception as fault:
            _guard.swallow(fault, "tool.hooks")
        return False

    def resume(self, scope: Scope, span: str, start_ns: int, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        """A plain function has returned a coroutine: the call lasts until the coroutine ends."""
        call = RecordedCall(self, None, (), {})
        call.scope, call.span, call.start_ns = scope, span, start_ns
        return observe_coroutine(call, coroutine)


@functools.lru_cache(1024)
def _unpickled(
    name: str, kind: Kind, capture: tuple[str, ...] | None = None, control_flow: tuple[str, ...] = ()
) -> Tool:
    return Tool(name, kind, None if capture is None else frozenset(capture), frozenset(control_flow))


unpickle.makers["tool source"] = _unpickled
