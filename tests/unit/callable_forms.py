"""Every form of callable that can be decorated, each made by a function that takes the decorator."""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

__all__ = ["FORMS", "AsyncObject", "Decorator", "SyncObject", "same"]

Decorator = Callable[[Any], Any]


def _function(decorate: Decorator) -> Any:
    @decorate
    def work(x: int) -> tuple[str, int]:
        return "done", x

    return work


def _coroutine_function(decorate: Decorator) -> Any:
    @decorate
    async def work(x: int) -> tuple[str, int]:
        await asyncio.sleep(0)
        return "done", x

    return work


def _generator_function(decorate: Decorator) -> Any:
    @decorate
    def work(x: int) -> Iterator[int]:
        yield x
        yield x + 1

    return work


def _async_generator_function(decorate: Decorator) -> Any:
    @decorate
    async def work(x: int) -> AsyncIterator[int]:
        yield x
        await asyncio.sleep(0)
        yield x + 1

    return work


def _iterable_coroutine(decorate: Decorator) -> Any:
    @decorate
    @types.coroutine
    def work(x: int) -> Any:
        yield
        return x

    async def run(x: int) -> int:
        return await work(x)  # type: ignore[no-any-return]  # the decorator is Any

    return run


def _plain_function_with_a_coroutine(decorate: Decorator) -> Any:
    async def inner(x: int) -> int:
        return x

    @decorate
    def work(x: int) -> Any:
        return inner(x)

    return work


def _methods(decorate: Decorator) -> type:
    class Methods:
        def __init__(self) -> None:
            self.own = 40

        @decorate
        def method(self, x: int) -> int:
            return self.own + x

        @decorate
        async def coroutine_method(self, x: int) -> int:
            return self.own + x

        @decorate
        def generator_method(self, x: int) -> Iterator[int]:
            yield self.own + x

        @decorate
        async def async_generator_method(self, x: int) -> AsyncIterator[int]:
            yield self.own + x

        @decorate
        @classmethod
        def class_outside(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @classmethod
        @decorate
        def class_inside(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @decorate
        @staticmethod
        def static_outside(x: int) -> int:
            return x

        @staticmethod
        @decorate
        def static_inside(x: int) -> int:
            return x

        @decorate
        @classmethod
        async def async_class_outside(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @decorate
        @staticmethod
        def generator_static_outside(x: int) -> Iterator[int]:
            yield x

        @decorate
        def __call__(self, x: int) -> int:
            return self.own - x

        @property
        @decorate
        def prop(self) -> int:
            return self.own

        @decorate
        @functools.lru_cache(maxsize=4)  # noqa: B019  # the object does not outlive the test
        def cached(self, x: int) -> int:
            return self.own * x

        tail = functools.partialmethod(decorate(lambda self, a, b: (self.own, a, b)), 1)

    return Methods


def _method_through_the_class(decorate: Decorator) -> Any:
    methods = _methods(decorate)
    return functools.partial(methods.method, methods())


class SyncObject:
    def __call__(self, x: int) -> int:
        return x


class AsyncObject:
    async def __call__(self, x: int) -> int:
        return x


class _GeneratorObject:
    def __call__(self, x: int) -> Iterator[int]:
        yield x


class _AsyncGeneratorObject:
    async def __call__(self, x: int) -> AsyncIterator[int]:
        yield x


def same(function: Any) -> Any:
    """The decorator that changes nothing."""
    return function


FORMS: dict[str, Callable[[Decorator], Any]] = {
    "function": _function,
    "coroutine function": _coroutine_function,
    "generator function": _generator_function,
    "async generator function": _async_generator_function,
    "iterable coroutine": _iterable_coroutine,
    "plain function that returns a coroutine": _plain_function_with_a_coroutine,
    "lambda": lambda decorate: decorate(lambda x: x),
    "method": lambda decorate: _methods(decorate)().method,
    "method through the class": _method_through_the_class,
    "method of an instance": lambda decorate: decorate(_methods(same)().method),
    "coroutine method": lambda decorate: _methods(decorate)().coroutine_method,
    "generator method": lambda decorate: _methods(decorate)().generator_method,
    "async generator method": lambda decorate: _methods(decorate)().async_generator_method,
    "class method, decorator outside": lambda decorate: _methods(decorate).class_outside,
    "class method, decorator outside, through an instance": lambda decorate: _methods(decorate)().class_outside,
    "class method, decorator inside": lambda decorate: _methods(decorate).class_inside,
    "class method, decorator inside, through an instance": lambda decorate: _methods(decorate)().class_inside,
    "static method, decorator outside": lambda decorate: _methods(decorate).static_outside,
    "static method, decorator outside, through an instance": lambda decorate: _methods(decorate)().static_outside,
    "static method, decorator inside": lambda decorate: _methods(decorate).static_inside,
    "static method, decorator inside, through an instance": lambda decorate: _methods(decorate)().static_inside,
    "async class method, decorator outside": lambda decorate: _methods(decorate).async_class_outside,
    "generator static method, decorator outside": lambda decorate: _methods(decorate).generator_static_outside,
    "__call__ of a class": lambda decorate: _methods(decorate)(),
    "property": lambda decorate: lambda x: _methods(decorate)().prop + x,
    "cached method": lambda decorate: _methods(decorate)().cached,
    "partial method": lambda decorate: _methods(decorate)().tail,
    "method of a subclass": lambda decorate: type("Sub", (_methods(decorate),), {})().class_outside,
    "callable object": lambda decorate: decorate(SyncObject()),
    "async callable object": lambda decorate: decorate(AsyncObject()),
    "generator callable object": lambda decorate: decorate(_GeneratorObject()),
    "async generator callable object": lambda decorate: decorate(_AsyncGeneratorObject()),
    "partial": lambda decorate: decorate(functools.partial(_function(same))),
    "partial of a partial": lambda decorate: decorate(functools.partial(functools.partial(_function(same)))),
    "async partial": lambda decorate: decorate(functools.partial(_coroutine_function(same))),
    "generator partial": lambda decorate: decorate(functools.partial(_generator_function(same))),
    "async generator partial": lambda decorate: decorate(functools.partial(_async_generator_function(same))),
    "partial of a callable object": lambda decorate: decorate(functools.partial(SyncObject())),
    "partial of an async callable object": lambda decorate: decorate(functools.partial(AsyncObject())),
    "builtin": lambda decorate: decorate(abs),
    "method of a builtin": lambda decorate: decorate((5).__add__),
    "below functools.cache": lambda decorate: functools.cache(decorate(lambda x: x)),
    "above functools.cache": lambda decorate: decorate(functools.cache(lambda x: x)),
    "below functools.singledispatch": lambda decorate: functools.singledispatch(decorate(lambda x: x)),
}
