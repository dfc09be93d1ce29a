"""The ``@tool`` decorator: times every call of a function and records how it ended.

The decorated function behaves like the original: same values, same exception objects, same signature, same kind (plain,
async, generator, async generator). If recording fails, the function is called nevertheless.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pyjama_instrument import _guard, unpickle
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording.call_events import signature_of
from pyjama_instrument.recording.callable_wrappers import kind_of
from pyjama_instrument.recording.fast_path import fast_async_body, fast_sync_body
from pyjama_instrument.recording.function_wrapper import (
    deferred_body,
    handler_of,
    is_importable,
    make_wrapper,
    sync_body,
)
from pyjama_instrument.recording.outcome import ControlFlow, Declared, checked, names_of
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.slow_path import RESULT
from pyjama_instrument.recording.tool_state import Tool

if TYPE_CHECKING:
    import inspect

__all__ = ["tool"]

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    name: str | None = None,
    /,
    *,
    capture: Sequence[str] | bool = (),
    control_flow: Iterable[ControlFlow] | ControlFlow = (),
) -> Callable[[F], F]: ...
@overload
def tool(
    *,
    name: str | None = None,
    capture: Sequence[str] | bool = (),
    control_flow: Iterable[ControlFlow] | ControlFlow = (),
) -> Callable[[F], F]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    capture: Sequence[str] | bool = (),
    control_flow: Iterable[ControlFlow] | ControlFlow = (),
) -> Any:
    """Record every call of the decorated function: when, how long, in which session, how it ended.

    Use it bare (``@tool``), with ``()``, with a name (``@tool("search")``) or with options, on any function: plain,
    ``async``, generator, async generator, method, class or static method (above or below their decorators), a
    callable object or a ``functools.partial``. The call of a generator lasts from the request for its first item to
    its end.

    Args:
        function: what to decorate, or the tool's name.
        name: the tool's name; by default the function's qualified name.
        capture: which arguments to record, by parameter name, and ``"return"`` for the result; True for all.
            By default, no argument is recorded. Values are made JSON-safe and cut to a bounded size.
        control_flow: exception classes, or their dotted names, that do not count as failures of the tool. A call that
            raises one of them ends as ``cancelled``.

    Returns:
        The decorated function, with the types, signature and docstring of ``function``.

    Raises:
        ConfigError: not a function, a bad name, ``capture`` names no parameter of the function, or ``control_flow``
            is not made of exceptions.
    """
    if isinstance(function, str):
        if name is not None:
            raise ConfigError("the tool's name is given twice: as the first argument and as name=")
        function, name = None, function
    if name is not None:
        name = check_name(name, "tool name")
    _check_capture(capture)
    steering = checked(control_flow)
    if function is None:
        return lambda decorated: _decorate(decorated, name, capture, steering)
    return _decorate(function, name, capture, steering)


def _decorate(
    function: Any, name: str | None, capture: Sequence[str] | bool, control_flow: Iterable[ControlFlow] = ()
) -> Any:
    try:
        return _decorate_checked(function, name, capture, frozenset(control_flow))
    except ConfigError:
        raise
    except Exception as fault:  # an unrecorded function is better than a module that cannot be imported
        _guard.swallow(fault, "tool")
        return function


def _decorate_checked(function: Any, name: str | None, capture: Sequence[str] | bool, control_flow: Declared) -> Any:
    if isinstance(function, type):
        raise ConfigError(f"@tool decorates functions: decorate the methods of {function.__name__} instead")
    if type(function) in (classmethod, staticmethod):
        return type(function)(_decorate(function.__func__, name, capture, control_flow))
    if not callable(function) and not isinstance(function, classmethod | staticmethod):
        raise ConfigError(
            f"@tool decorates functions, not {type(function).__name__}: "
            "put @tool directly above the function, below its other decorators"
        )
    name = name or _default_name(function)
    if not capture and not control_flow and getattr(_handler_of(function), "name", None) == name:
        return function  # decorated already, and each call counts once
    handler = Tool(name, kind_of(function), None, control_flow)
    if capture:
        handler.signature = signature_of(function)
        handler.capture = _captured_names(capture, handler.signature)
    redecorate = unpickle.tool, ({"name": name, "capture": capture, "control_flow": names_of(control_flow)},)
    if type(function) is not FunctionType:
        return _proxy(function, handler, redecorate)
    made = make_wrapper(function, _body(function, handler))
    if not is_importable(function):
        return made
    from pyjama_instrument.recording.callable_proxy import FunctionProxy

    return FunctionProxy(made, handler, redecorate)


def _handler_of(function: Any) -> Tool | None:
    """The handler of a decorated function; None if it is not decorated with ``@tool``."""
    is_proxy = type(function).__module__ == "pyjama_instrument.recording.callable_proxy"
    handler = function._self_handler if is_proxy else handler_of(function)
    return handler if type(handler) is Tool else None


def _body(function: Any, handler: Tool) -> FunctionType:
    if handler.kind == "sync":
        return fast_sync_body(function, handler) if handler.capture is None else sync_body(function, handler)
    if handler.kind == "async" and handler.capture is None and type(function) is FunctionType:
        return fast_async_body(function, handler)
    return deferred_body(function, handler)


def _proxy(function: Any, handler: Tool, redecorate: Any) -> Any:
    from pyjama_instrument.recording.callable_proxy import CallableProxy

    body: Any = _body(function, handler)

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if wrapped is function:
            return body(*args, **kwargs)
        return handler.call(wrapped, args, kwargs) if recorder.enabled else wrapped(*args, **kwargs)

    return CallableProxy(function, wrapper, handler, redecorate)


def _default_name(function: Any) -> str:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = getattr(inner, "__func__", inner)
    qualified = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return check_name(str(qualified).rpartition("<locals>.")[2], "tool name")


def _check_capture(capture: object) -> None:
    if isinstance(capture, bool):
        return
    if isinstance(capture, str) or not isinstance(capture, Sequence) or not all(type(key) is str for key in capture):
        raise ConfigError('capture must be True or a sequence of parameter names, such as ("path", "return")')


def _captured_names(capture: Sequence[str] | bool, signature: inspect.Signature) -> frozenset[str]:
    known = {*signature.parameters, RESULT}
    if isinstance(capture, bool):
        return frozenset(known - {"self", "cls"})
    chosen = {RESULT if key == "result" and key not in known else key for key in capture}
    if unknown := chosen - known:
        raise ConfigError(f"capture names no parameter of the function: {', '.join(sorted(unknown))}")
    return frozenset(chosen)


unpickle.makers["tool"] = _decorate
