"""Running the host's function inside an activity of ours, without it noticing.

One driver for each kind of function. Values, exceptions (the same objects), cancellation, ``send``, ``throw``,
``close`` and return values pass through unchanged. The activity is entered whenever the host's code runs and left
whenever it hands control back, so a suspended generator does not colour its consumer's context.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

__all__ = ["Activity", "Kind", "kind_of", "run", "run_async", "run_async_generator", "run_generator"]

T = TypeVar("T")
Kind: TypeAlias = Literal["sync", "async", "generator", "async generator"]


class Activity(Protocol):
    """Something that lasts as long as a call. None of its methods raises."""

    def enter(self) -> Any:
        """The host's code runs now; returns a token for :meth:`leave`."""

    def leave(self, token: Any) -> None:
        """The host's code has handed control back."""

    def item(self) -> None:
        """A generator has yielded a value."""

    def end(self, error: BaseException | None, result: Any) -> None:
        """The call is over."""


Begin: TypeAlias = Callable[[], Activity]


def kind_of(function: Any) -> Kind:
    """What a call of ``function`` gives; looks through ``partial``, class and static methods, callable objects."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, classmethod | staticmethod):
            function = function.__func__
        else:
            break
    for candidate in (function, getattr(type(function), "__call__", None)):
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
        if inspect.iscoroutinefunction(candidate):
            return "async"
    return "sync"


def run(begin: Begin, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call a plain function."""
    activity = begin()
    token = activity.enter()
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        activity.leave(token)
        activity.end(error, None)
        raise
    activity.leave(token)
    activity.end(None, result)
    return result


async def run_async(begin: Begin, awaitable: Awaitable[T]) -> T:
    """Await what an async function returned."""
    activity = begin()
    token = activity.enter()
    try:
        result = await awaitable
    except BaseException as error:
        activity.leave(token)
        activity.end(error, None)
        raise
    activity.leave(token)
    activity.end(None, result)
    return result


def run_generator(begin: Begin, generator: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Stand in for a generator."""
    activity = begin()
    method: Callable[[Any], Any] = generator.send
    argument: Any = None
    while True:
        token = activity.enter()
        try:
            item = method(argument)
        except StopIteration as stop:
            activity.leave(token)
            activity.end(None, None)
            value: T = stop.value
            return value
        except BaseException as error:
            activity.leave(token)
            activity.end(error, None)
            raise
        activity.leave(token)
        activity.item()
        try:
            argument = yield item
            method = generator.send
        except BaseException as thrown:  # close() comes as GeneratorExit, and is passed on like any other
            method, argument = generator.throw, thrown


async def run_async_generator(begin: Begin, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    """Stand in for an async generator."""
    activity = begin()
    step: Awaitable[Any] = _first_step(generator)
    while True:
        token = activity.enter()
        try:
            item = await step
        except StopAsyncIteration:
            activity.leave(token)
            activity.end(None, None)
            return
        except BaseException as error:
            activity.leave(token)
            activity.end(error, None)
            raise
        activity.leave(token)
        activity.item()
        try:
            sent = yield item
            step = generator.asend(sent)
        except BaseException as thrown:
            step = generator.athrow(thrown)


def _first_step(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Start the inner generator without letting the event loop know of it.

    The loop closes the generators it knows at shutdown, all at once: it would close the inner one while the outer
    one, which stands in for it, is closing it too.
    """
    known = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*known)
