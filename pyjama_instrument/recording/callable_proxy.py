"""What stands in for callables that no function can stand in for: wrapt's proxies, pickled and copied as the callable.

Separate, because most programs decorate nothing but functions, and importing wrapt is dear.
"""

from __future__ import annotations

import copy
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable

    Again = tuple[Callable[..., Any], tuple[Any, ...]]

__all__ = ["Decorated", "NamedFunction"]


class _Pickled:
    """Pickled under its name, if that leads to it, and else as what it stands for, to be decorated anew.

    A mixin for wrapt's proxies, which keep attributes of the prefix ``_self_`` to themselves. The class has no
    annotated attributes: they would hide the function's own annotations.
    """

    def _self_undecorated(self) -> Any:
        return self.__wrapped__  # type: ignore[attr-defined]  # the proxy's

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        name = getattr(self, "__qualname__", "")
        return name if _found_by_name(self, name) else _again(self, self._self_undecorated())

    def __copy__(self) -> Any:
        inner = self._self_undecorated()
        copied = copy.copy(inner)
        return self if copied is inner else _decorated_again(self, copied)

    def __deepcopy__(self, memo: Any) -> Any:
        inner = self._self_undecorated()
        copied = copy.deepcopy(inner, memo)
        return self if copied is inner else _decorated_again(self, copied)


if TYPE_CHECKING:
    _FunctionWrapper = wrapt.FunctionWrapper[..., Any]
    _CallableProxy = wrapt.CallableObjectProxy[Any]
else:
    _FunctionWrapper = wrapt.FunctionWrapper  # generic at run time only since wrapt 2.2
    _CallableProxy = wrapt.CallableObjectProxy


class Decorated(_Pickled, _FunctionWrapper):
    """Stands in for a callable that is no function; bound as a true method, if the callable is."""

    def __init__(self, function: Any, wrapper: Any, source: Any, again: Again) -> None:
        # ``again`` is a function and its further arguments, to decorate another thing in the same way.
        super().__init__(function, wrapper)
        self._self_source = source
        self._self_again = again

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        inner = self.__wrapped__
        if not hasattr(type(inner), "__get__"):
            return self
        bound = inner.__get__(instance, owner)
        if bound is inner:
            return self
        if type(bound) is MethodType and bound.__func__ is inner:
            return MethodType(self, bound.__self__)
        return super().__get__(instance, owner)


class NamedFunction(_Pickled, _CallableProxy):
    """Stands in for the stand-in of a function whose name leads to the function itself.

    So does the name of ``traced = tool(work)``, and pickle takes functions by their names alone.
    """

    def __init__(self, stand_in: FunctionType, source: Any, again: Again) -> None:
        super().__init__(stand_in)
        self._self_source = source
        self._self_again = again

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def _self_undecorated(self) -> Any:
        return self.__wrapped__.__wrapped__


def _found_by_name(thing: Any, qualified_name: str) -> bool:
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in qualified_name.split("."):
        found = getattr(found, part, None)
    return found is thing


def _again(decorated: Any, inner: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How to decorate ``inner`` as ``decorated`` is, in the form that pickle wants."""
    function, arguments = decorated._self_again
    return function, (inner, *arguments)


def _decorated_again(decorated: Any, inner: Any) -> Any:
    function, arguments = _again(decorated, inner)
    return function(*arguments)
