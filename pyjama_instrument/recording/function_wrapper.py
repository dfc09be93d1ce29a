"""A real function in the place of the host's: what every other decorator gives, too.

Libraries take functions apart. They pickle them by value, or build another one from ``__code__``, ``__globals__`` and
``__closure__``. Whatever they build from a stand-in has to come through the recorder and must not carry a piece of it
along. So the bodies below use no global name, not even that of a builtin, and whatever their closures refer to is
pickled by reference: ``source``, which knows what a call is recorded as, and the recorder. See decision 0011.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType
from typing import Any

from pyjama_instrument.recording.callable_wrappers import KIND_FLAGS

__all__ = ["driven_body", "found_by_name", "source_of", "stand_in", "suspending_body"]


def stand_in(function: FunctionType, body: FunctionType) -> FunctionType:
    """``body``, which calls ``function``, made to look like it.

    The body runs as a plain function whatever the kind: so wrong arguments raise at the call. What it returns is of
    the kind that its flags tell.
    """
    flags = function.__code__.co_flags & KIND_FLAGS
    made = FunctionType(
        _flagged(body.__code__, flags),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        body.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(made, function)
    return made


@functools.lru_cache(64)
def _flagged(code: Any, flags: int) -> Any:
    return code.replace(co_flags=code.co_flags | flags)


def source_of(function: object) -> Any:
    """What records the calls of a stand-in; None of anything else, also if it copied a stand-in's attributes."""
    if type(function) is not FunctionType or "source" not in function.__code__.co_freevars:
        return None
    try:
        return (function.__closure__ or ())[function.__code__.co_freevars.index("source")].cell_contents
    except ValueError:  # a function of the host's with a variable of this name that has no value yet
        return None


def found_by_name(function: FunctionType) -> bool:
    """Whether the function's name leads to it already. If so, what stands in for it has another name."""
    found: Any = sys.modules.get(function.__module__ or "")
    for part in function.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
        found = getattr(found, "__func__", found)
    return found is function


def driven_body(function: Any, source: Any) -> FunctionType:
    """For plain functions: call it within an activity of the source's."""
    any_error = BaseException

    def call(*args: Any, **kwargs: Any) -> Any:
        activity, args, kwargs = source.begin_call(function, args, kwargs)
        if activity is None:
            return function(*args, **kwargs)
        token = activity.enter()
        try:
            result = function(*args, **kwargs)
        except any_error as error:
            activity.leave(token)
            activity.end(error, None)
            raise
        return source.finish_call(activity, token, result)

    return call  # type: ignore[return-value]  # a function's type is FunctionType


def suspending_body(function: Any, source: Any) -> FunctionType:
    """For functions that give a coroutine or a generator: have the source drive it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return source.drive_call(function, args, kwargs)

    return call  # type: ignore[return-value]  # a function's type is FunctionType
