"""Proxies for callables that no function can replace. They are pickled and copied as the callable is.

This is a module of its own because most programs decorate only functions, and wrapt is slow to import.
"""

from __future__ import annotations

import copy
import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable

    Redecorate = tuple[Callable[..., Any], tuple[Any, ...]]

__all__ = ["CallableProxy", "FunctionProxy"]


class _Picklable:
    """Pickled by its name if the name leads to it, else as the undecorated callable, which is then decorated again.

    This is a mixin for wrapt's proxies. They keep attributes with the prefix ``_self_`` for themselves. The class has
    no annotated attributes, because they would hide the function's own annotations.
    """

    def _self_undecorated(self) -> Any:
        return self.__wrapped__  # type: ignore[attr-defined]  # an attribute of the proxy

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        name = getattr(self, "__qualname__", "")
        return name if _is_importable(self, name) else _reduced(self, self._self_undecorated())

    def __copy__(self) -> Any:
        inner = self._self_undecorated()
        copied = copy.copy(inner)
        return self if copied is inner else _redecorated(self, copied)

    def __deepcopy__(self, memo: Any) -> Any:
        inner = self._self_undecorated()
        copied = copy.deepcopy(inner, memo)
        return self if copied is inner else _redecorated(self, copied)


if TYPE_CHECKING:
    _WraptWrapper = wrapt.FunctionWrapper[..., Any]
    _WraptProxy = wrapt.CallableObjectProxy[Any]
else:
    _WraptWrapper = wrapt.FunctionWrapper  # generic at run time only since wrapt 2.2
    _WraptProxy = wrapt.CallableObjectProxy


class CallableProxy(_Picklable, _WraptWrapper):
    """Proxy of a callable that is not a function. It is bound as a real method if the callable is."""

    def __init__(self, function: Any, wrapper: Any, handler: Any, redecorate: Redecorate) -> None:
        # ``redecorate``: a function, and its arguments after the first, to decorate another callable in the same way.
        super().__init__(function, wrapper)
        self._self_handler = handler
        self._self_redecorate = redecorate

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


class FunctionProxy(_Picklable, _WraptProxy):
    """Proxy of the wrapper of a function whose name leads to the function itself.

    ``traced = tool(work)`` is an example. Pickle saves functions by name only, and would refuse the wrapper.
    """

    def __init__(self, wrapper: FunctionType, handler: Any, redecorate: Redecorate) -> None:
        super().__init__(wrapper)
        self._self_handler = handler
        self._self_redecorate = redecorate

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def _self_undecorated(self) -> Any:
        return self.__wrapped__.__wrapped__


def _is_importable(thing: Any, qualified_name: str) -> bool:
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in qualified_name.split("."):
        found = getattr(found, part, None)
    return found is thing


def _reduced(decorated: Any, inner: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How to decorate ``inner`` as ``decorated`` is, in the form that ``__reduce__`` returns."""
    function, arguments = decorated._self_redecorate
    return function, (inner, *arguments)


def _redecorated(decorated: Any, inner: Any) -> Any:
    function, arguments = _reduced(decorated, inner)
    return function(*arguments)
