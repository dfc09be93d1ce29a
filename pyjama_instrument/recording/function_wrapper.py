"""A real function in the place of the host's, as other decorators return one.

Libraries take functions apart. They pickle them by value, or build another one from ``__code__``, ``__globals__`` and
``__closure__``. A function that they build from a wrapper must record its calls too, and must not contain a part of
this package. So the bodies below use no global name, not even that of a builtin. Whatever their closures refer to is
pickled by reference: ``handler``, which decides how a call is recorded, and the recorder. See decision 0011.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType
from typing import Any

from pyjama_instrument.recording.callable_wrappers import KIND_FLAGS

__all__ = ["deferred_body", "handler_of", "is_importable", "make_wrapper", "sync_body"]


def make_wrapper(function: FunctionType, body: FunctionType) -> FunctionType:
    """``body``, which calls ``function``, made to look like ``function``.

    The body is a plain function for every kind of function, so wrong arguments raise at the call. Its flags define
    what kind of object it returns.
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


def handler_of(function: object) -> Any:
    """The handler of a wrapper; None for any other function, also if it copied a wrapper's attributes."""
    if type(function) is not FunctionType or "handler" not in function.__code__.co_freevars:
        return None
    try:
        return (function.__closure__ or ())[function.__code__.co_freevars.index("handler")].cell_contents
    except ValueError:  # a function of the host, with a variable of this name that has no value yet
        return None


def is_importable(function: FunctionType) -> bool:
    """Whether the function's module and name lead to it. If so, they cannot lead to its wrapper."""
    found: Any = sys.modules.get(function.__module__ or "")
    for part in function.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
        found = getattr(found, "__func__", found)
    return found is function


def sync_body(function: Any, handler: Any) -> FunctionType:
    """For plain functions: call the function while an observer of the handler follows the call."""
    any_error = BaseException

    def call(*args: Any, **kwargs: Any) -> Any:
        observer, args, kwargs = handler.begin_call(function, args, kwargs)
        if observer is None:
            return function(*args, **kwargs)
        token = observer.enter()
        try:
            result = function(*args, **kwargs)
        except any_error as error:
            observer.leave(token)
            observer.end(error, None)
            raise
        return handler.finish_call(observer, token, result)

    return call  # type: ignore[return-value]  # a function's type is FunctionType


def deferred_body(function: Any, handler: Any) -> FunctionType:
    """For functions that return a coroutine or a generator: leave the call to the handler."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return handler.call_deferred(function, args, kwargs)

    return call  # type: ignore[return-value]  # a function's type is FunctionType
