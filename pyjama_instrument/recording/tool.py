"""The ``@tool`` decorator: times every call of a function and records how it ended.

The decorated function behaves as undecorated: same values, same exception objects, same signature, same kind
(plain, async, generator, async generator). If recording fails, it is called all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pyjama_instrument import _guard, unpickle
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording.callable_wrappers import kind_of
from pyjama_instrument.recording.fast_path import async_body, plain_body
from pyjama_instrument.recording.function_wrapper import (
    driven_body,
    found_by_name,
    source_of,
    stand_in,
    suspending_body,
)
from pyjama_instrument.recording.outcome import ControlFlow, Declared, checked, names_of
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.slow_path import RESULT
from pyjama_instrument.recording.tool_state import Tool, signature_of

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
    callable object or a ``functools.partial``. A generator's call lasts from its first item to its end.

    Args:
        function: what to decorate, or the tool's name.
        name: the tool's name; by default the function's qualified name.
        capture: which arguments to record, by parameter name, and ``"return"`` for the result; True for all.
            Nothing is recorded of them otherwise. Values are made JSON-safe and cut to a bounded size.
        control_flow: exception classes, or their dotted names, that steer the program and are no failures of the tool:
            a call that they leave ends as ``cancelled``.

    Returns:
        An object that stands in for the function; types, signature and docstring are the function's own.

    Raises:
        ConfigError: not a function, a bad name, ``capture`` names no parameter of the function, or ``control_flow``
            is not made of exceptions.
    """
    if isinstance(function, str):
        if name is not None:
            raise ConfigError("the tool's name is given twice")
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
        return _checked_and_decorated(function, name, capture, frozenset(control_flow))
    except ConfigError:
        raise
    except Exception as fault:  # better a function that is not recorded than a module that cannot be imported
        _guard.swallow(fault, "tool")
        return function


def _checked_and_decorated(
    function: Any, name: str | None, capture: Sequence[str] | bool, control_flow: Declared
) -> Any:
    if isinstance(function, type):
        raise ConfigError(f"@tool decorates functions: decorate the methods of {function.__name__} instead")
    if type(function) in (classmethod, staticmethod):
        return type(function)(_decorate(function.__func__, name, capture, control_flow))
    if not callable(function) and not isinstance(function, classmethod | staticmethod):
        raise ConfigError(
            f"@tool decorates functions, not {type(function).__name__}: "
            "put @tool below the decorator that made it, right above the function"
        )
    name = name or _default_name(function)
    if not capture and not control_flow and getattr(_source_of(function), "name", None) == name:
        return function  # decorated already: its calls count once
    source = Tool(name, kind_of(function), None, control_flow)
    if capture:
        source.signature = signature_of(function)
        source.capture = _resolved(capture, source.signature)
    again = unpickle.tool, ({"name": name, "capture": capture, "control_flow": names_of(control_flow)},)
    if type(function) is not FunctionType:
        return _proxy(function, source, again)
    made = stand_in(function, _body(function, source))
    if not found_by_name(function):
        return made
    from pyjama_instrument.recording.callable_proxy import NamedFunction

    return NamedFunction(made, source, again)


def _source_of(function: Any) -> Tool | None:
    """What records the calls of a decorated function."""
    ours = type(function).__module__ == "pyjama_instrument.recording.callable_proxy"
    source = function._self_source if ours else source_of(function)
    return source if type(source) is Tool else None


def _body(function: Any, source: Tool) -> FunctionType:
    if source.kind == "sync":
        return plain_body(function, source) if source.capture is None else driven_body(function, source)
    if source.kind == "async" and source.capture is None and type(function) is FunctionType:
        return async_body(function, source)
    return suspending_body(function, source)


def _proxy(function: Any, source: Tool, again: Any) -> Any:
    from pyjama_instrument.recording.callable_proxy import Decorated

    body: Any = _body(function, source)

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if wrapped is function:
            return body(*args, **kwargs)
        return source.call(wrapped, args, kwargs) if recorder.enabled else wrapped(*args, **kwargs)

    return Decorated(function, wrapper, source, again)


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


def _resolved(capture: Sequence[str] | bool, signature: inspect.Signature) -> frozenset[str]:
    known = {*signature.parameters, RESULT}
    if isinstance(capture, bool):
        return frozenset(known - {"self", "cls"})
    asked = {RESULT if key == "result" and key not in known else key for key in capture}
    if unknown := asked - known:
        raise ConfigError(f"capture names no parameter of the function: {', '.join(sorted(unknown))}")
    return frozenset(asked)


unpickle.makers["tool"] = _decorate
