"""Every function of ours that runs beneath a call, found by itself, and each of them made to raise."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

import pyjama_instrument

__all__ = ["TARGETS", "Target", "replaced"]

# Not beneath a call: who looks, who types, who tests.
_APART = re.compile(r"(cli|viewer|testing)(\..*)?|reader(\.reader|\.span_tree)?|document|shared_metrics|__main__")


class Target(NamedTuple):
    """A function, by the module or class that has it."""

    owner: Any
    name: str

    def __str__(self) -> str:
        module = _module_of(self.owner)
        path = f"{module}.{self.owner.__qualname__}" if module else self.owner.__name__
        return f"{path.removeprefix('pyjama_instrument.')}.{self.name}"


def _modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(pyjama_instrument.__path__, "pyjama_instrument."):
        if not _APART.fullmatch(found.name.removeprefix("pyjama_instrument.")):
            yield importlib.import_module(found.name)


def _targets() -> Iterator[Target]:
    for module in _modules():
        for name, value in vars(module).items():
            if _module_of(value) != module.__name__:
                continue
            if isinstance(value, FunctionType):
                yield Target(module, name)
            elif inspect.isclass(value):
                yield from (Target(value, method) for method, body in vars(value).items() if _is_ours(body))


def _module_of(value: Any) -> Any:
    """The module that defines it; the ``__module__`` of a public name is the package."""
    named = getattr(value, "__module__", None)
    if named != "pyjama_instrument":
        return named
    bodies = [value] if isinstance(value, FunctionType) else vars(value).values()
    return next(body.__globals__["__name__"] for body in bodies if isinstance(body, FunctionType))


def _is_ours(body: Any) -> bool:
    body = getattr(body, "__func__", body)
    body = getattr(body, "fget", body)
    return isinstance(body, FunctionType) and "pyjama_instrument" in body.__code__.co_filename


TARGETS = sorted(_targets(), key=str)


@contextlib.contextmanager
def replaced(target: Target, make_error: Callable[[], BaseException]) -> Iterator[None]:
    """For the block, the function raises whoever calls it, under whatever name it was imported."""
    original = vars(target.owner)[target.name]

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise make_error()

    stand_in: Any = fail
    if isinstance(original, staticmethod):
        stand_in = staticmethod(fail)
    elif isinstance(original, property):
        stand_in = property(fail)
    places = [target.owner]
    if inspect.ismodule(target.owner):
        ours = [module for name, module in sys.modules.items() if name.startswith("pyjama_instrument.")]
        places += [module for module in ours if vars(module).get(target.name) is original]
    for place in places:
        setattr(place, target.name, stand_in)
    try:
        yield
    finally:
        for place in places:
            setattr(place, target.name, original)
