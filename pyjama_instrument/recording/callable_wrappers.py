"""Calling the host's function while an observer follows the call, without the function noticing.

There is one wrapper for each kind of function. Values, exceptions (the same objects), cancellation, ``send``,
``throw``, ``close`` and return values pass through unchanged. The observer is entered whenever the host's code runs and
left whenever it hands control back, so the scope of a suspended generator does not leak into its consumer. No value
that passes through is kept.
"""

from __future__ import annotations

import functools
import sys
from types import CoroutineType, FunctionType, coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

__all__ = [
    "KIND_FLAGS",
    "CallObserver",
    "Kind",
    "Unstarted",
    "call_after_begin",
    "call_observed",
    "call_sync",
    "defer",
    "finish_sync",
    "kind_of",
    "observe_coroutine",
    "with_name_of",
]

_OWN_REFERENCES = 2  # the attribute and the argument

# The values of inspect.CO_GENERATOR and so on: importing inspect takes longer than importing this package.
_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
KIND_FLAGS = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR
"""The flags of a code object that decide what a call of its function returns."""

_COROUTINE_MARK = "_is_coroutine_mark"  # set by inspect.markcoroutinefunction

T = TypeVar("T")
Kind: TypeAlias = Literal["sync", "async", "generator", "iterable coroutine", "async generator"]


class CallObserver(Protocol):
    """Follows one call from begin to end. None of its methods raises."""

    def enter(self) -> Any:
        """The host's code is about to run; returns a token for :meth:`leave`."""

    def leave(self, token: Any) -> None:
        """The host's code has handed control back."""

    def item(self) -> None:
        """A generator has yielded a value."""

    def end(self, error: BaseException | None, result: Any) -> None:
        """The call is over."""


Begin: TypeAlias = "Callable[[], CallObserver]"
"""Begins the observation of one call."""


def kind_of(function: Any) -> Kind:
    """What a call of ``function`` returns; looks through ``partial``, class and static methods, callable objects."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, classmethod | staticmethod):
            function = function.__func__
        else:
            break
    if type(function) is FunctionType and _COROUTINE_MARK not in function.__dict__:
        return _kind_of_code(function.__code__.co_flags)
    return _kind_of_object(function)


def _kind_of_code(flags: int) -> Kind:
    if flags & _ASYNC_GENERATOR:
        return "async generator"
    if flags & _GENERATOR:
        return "iterable coroutine" if flags & _ITERABLE_COROUTINE else "generator"
    return "async" if flags & _COROUTINE else "sync"


def _kind_of_object(function: Any) -> Kind:
    import inspect  # slow to import, and most programs decorate only functions

    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004  # its code is wanted
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
        if inspect.isgeneratorfunction(candidate):
            return _kind_of_code(candidate.__code__.co_flags)
        if inspect.iscoroutinefunction(candidate):
            return "async"
    return "sync"


def call_observed(kind: Kind, begin: Begin, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function of any kind. The observation begins when the function's code does, which may be never."""
    if kind == "sync":
        return call_sync(begin, function, args, kwargs)
    target = function(*args, **kwargs)
    try:
        return with_name_of(_OBSERVE[kind](begin, defer(target).take), target)
    except RecursionError:
        if type(target) is CoroutineType:  # or Python would warn that it was never awaited
            target.close()
        raise


def call_after_begin(kind: Kind, begin: Begin, function: Callable[[], Any], name_of: Any) -> Any:
    """Like :func:`call_observed`, but calls ``function`` only after ``begin``. Not for plain functions.

    Args:
        kind: the kind of function.
        begin: begins the observation.
        function: makes the coroutine or generator.
        name_of: the object whose name the returned coroutine or generator gets.
    """
    return with_name_of(_OBSERVE[kind](begin, function), name_of)


def observe_coroutine(observer: CallObserver, started: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """Observe a coroutine that a plain function has returned, as a part of the function's call.

    If the coroutine is discarded without having run, the call was cancelled, unless the host keeps a reference to the
    coroutine, to run it elsewhere.
    """
    begun = _BegunCall()
    begun.target, begun.observer = started, observer
    return cast("Coroutine[Any, Any, T]", with_name_of(_observe_async(begun.take_observer, begun.take), started))


def call_sync(begin: Begin, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call a plain function."""
    observer = begin()
    token = observer.enter()
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        observer.leave(token)
        observer.end(error, None)
        raise
    return finish_sync(observer, token, result)


def finish_sync(observer: CallObserver, token: Any, result: T) -> T:
    """A plain function has returned ``result``. If that is a coroutine, the call lasts until it ends."""
    observer.leave(token)
    if type(result) is CoroutineType:
        return cast("T", observe_coroutine(observer, cast("Coroutine[Any, Any, Any]", result)))
    observer.end(None, result)
    return result


async def _observe_async(begin: Begin, make: Callable[[], Any]) -> Any:
    observer = begin()
    token = observer.enter()
    try:
        result = await make()
    except BaseException as error:
        observer.leave(token)
        observer.end(error, None)
        raise
    observer.leave(token)
    observer.end(None, result)
    return result


def _observe_generator(begin: Begin, make: Callable[[], Generator[Any, Any, Any]]) -> Generator[Any, Any, Any]:
    observer = begin()
    generator = make()
    method: Callable[[Any], Any] = generator.send
    argument: Any = None
    yielded: list[Any] = []  # holds the item only until it is yielded: a variable would keep it alive while suspended
    while True:
        token = observer.enter()
        try:
            yielded.append(method(argument))
        except StopIteration as stop:
            observer.leave(token)
            observer.end(None, None)
            return stop.value
        except BaseException as error:
            argument = None  # it may be the same exception, which refers to this frame
            observer.leave(token)
            observer.end(error, None)
            raise
        observer.leave(token)
        observer.item()
        argument = None
        try:
            argument = yield yielded.pop()
            method = generator.send
        except BaseException as thrown:  # close() arrives as GeneratorExit and is passed on like any other
            method, argument = generator.throw, thrown


@coroutine
def _observe_iterable_coroutine(begin: Begin, make: Callable[[], Generator[Any, Any, Any]]) -> Generator[Any, Any, Any]:
    return (yield from _observe_generator(begin, make))


async def _observe_async_generator(
    begin: Begin, make: Callable[[], AsyncGenerator[Any, Any]]
) -> AsyncGenerator[Any, Any]:
    observer = begin()
    generator = make()
    step: Any = _first_step(generator)
    yielded: list[Any] = []
    while True:
        token = observer.enter()
        try:
            yielded.append(await step)
        except StopAsyncIteration:
            observer.leave(token)
            observer.end(None, None)
            return
        except BaseException as error:
            step = None
            observer.leave(token)
            observer.end(error, None)
            raise
        observer.leave(token)
        observer.item()
        step = None
        try:
            step = generator.asend((yield yielded.pop()))
        except BaseException as thrown:
            step = generator.athrow(thrown)


def _first_step(generator: AsyncGenerator[Any, Any]) -> Any:
    """Start the inner generator without registering it with the event loop.

    At shutdown, the loop closes all generators registered with it at once. It would close the inner one while the
    outer one, its wrapper, is closing it too.
    """
    known = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*known)


_OBSERVE: dict[Kind, Callable[[Begin, Callable[[], Any]], Any]] = {
    "async": _observe_async,
    "generator": _observe_generator,
    "iterable coroutine": _observe_iterable_coroutine,
    "async generator": _observe_async_generator,
}


class Unstarted:
    """A coroutine or generator that its wrapper has not started.

    If a coroutine is never awaited, Python warns. Only the wrapper is to cause this warning, not its target too.

    Attributes:
        target: the coroutine or generator; None as soon as it runs.
    """

    __slots__ = ("target",)  # set from outside: an ``__init__`` would double the cost of an instance

    target: Any

    def take(self) -> Any:
        """Hand over the target, to run it."""
        target, self.target = self.target, None
        return target

    def is_last_reference(self) -> bool:
        """Whether no other reference to the target exists."""
        return sys.getrefcount(self.target) <= _OWN_REFERENCES

    def __del__(self) -> None:
        if type(self.target) is CoroutineType and self.is_last_reference():
            self.target.close()


class _BegunCall(Unstarted):
    """An unstarted coroutine whose call has begun already."""

    __slots__ = ("observer",)

    observer: CallObserver

    def take_observer(self) -> CallObserver:
        """The observer of the call."""
        return self.observer

    def __del__(self) -> None:
        if self.target is not None:
            self.observer.end(GeneratorExit() if self.is_last_reference() else None, None)
        super().__del__()


def defer(target: Any) -> Unstarted:
    """Hold what a function has returned until its wrapper runs it."""
    unstarted = Unstarted()
    unstarted.target = target
    return unstarted


def with_name_of(made: Any, original: Any) -> Any:
    """``made``, a coroutine, generator or function, under the name of ``original``, which appears in warnings."""
    try:
        made.__name__ = getattr(original, "__name__", made.__name__)
        made.__qualname__ = getattr(original, "__qualname__", made.__qualname__)
    except Exception:  # the name of a callable object may be anything, and reading it may run code that fails
        pass
    return made
