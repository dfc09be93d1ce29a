"""Running the host's function inside an activity of ours, without it noticing.

One driver for each kind of function. Values, exceptions (the same objects), cancellation, ``send``, ``throw``,
``close`` and return values pass through unchanged. The activity is entered whenever the host's code runs and left
whenever it hands control back, so a suspended generator does not colour its consumer's context. Nothing that passes
through is held on to.
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
    "Activity",
    "Kind",
    "Suspended",
    "drive",
    "drive_later",
    "finish",
    "kind_of",
    "renamed",
    "resume",
    "run",
    "suspend",
]

_OURS_ALONE = 2  # the attribute and the argument

# What inspect calls CO_GENERATOR and so on: importing it takes longer than all of ours.
_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
KIND_FLAGS = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR
"""The flags of a code object that say what a call of its function gives."""

_COROUTINE_MARK = "_is_coroutine_mark"  # what inspect.markcoroutinefunction leaves

T = TypeVar("T")
Kind: TypeAlias = Literal["sync", "async", "generator", "iterable coroutine", "async generator"]


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


Begin: TypeAlias = "Callable[[], Activity]"


def kind_of(function: Any) -> Kind:
    """What a call of ``function`` gives; looks through ``partial``, class and static methods, callable objects."""
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
    import inspect  # dear, and most programs decorate nothing but functions

    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004  # its code is wanted
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
        if inspect.isgeneratorfunction(candidate):
            return _kind_of_code(candidate.__code__.co_flags)
        if inspect.iscoroutinefunction(candidate):
            return "async"
    return "sync"


def drive(kind: Kind, begin: Begin, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function of any kind. The activity begins when its code does, which may be never."""
    if kind == "sync":
        return run(begin, function, args, kwargs)
    held = function(*args, **kwargs)
    try:
        return renamed(_DRIVERS[kind](begin, suspend(held).take), held)
    except RecursionError:
        if type(held) is CoroutineType:  # or Python would warn that nobody awaits it
            held.close()
        raise


def drive_later(kind: Kind, begin: Begin, function: Callable[[], Any], name_of: Any) -> Any:
    """The same, but ``function`` is called only when the activity has begun; never for a plain function."""
    return renamed(_DRIVERS[kind](begin, function), name_of)


def resume(activity: Activity, started: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """Go on with a coroutine that a plain function has handed out: the call is its life.

    One that is let go of without having run was cancelled, unless the host has kept it and will run it elsewhere.
    """
    begun = _Begun()
    begun.held, begun.activity = started, activity
    return cast("Coroutine[Any, Any, T]", renamed(_run_async(begun.take_activity, begun.take), started))


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
    return finish(activity, token, result)


def finish(activity: Activity, token: Any, result: T) -> T:
    """A plain function has returned ``result``. If that is a coroutine, the call is its life."""
    activity.leave(token)
    if type(result) is CoroutineType:
        return cast("T", resume(activity, cast("Coroutine[Any, Any, Any]", result)))
    activity.end(None, result)
    return result


async def _run_async(begin: Begin, make: Callable[[], Any]) -> Any:
    activity = begin()
    token = activity.enter()
    try:
        result = await make()
    except BaseException as error:
        activity.leave(token)
        activity.end(error, None)
        raise
    activity.leave(token)
    activity.end(None, result)
    return result


def _run_generator(begin: Begin, make: Callable[[], Generator[Any, Any, Any]]) -> Generator[Any, Any, Any]:
    activity = begin()
    generator = make()
    method: Callable[[Any], Any] = generator.send
    argument: Any = None
    passing: list[Any] = []  # the item on its way: a variable would keep it alive while we are suspended
    while True:
        token = activity.enter()
        try:
            passing.append(method(argument))
        except StopIteration as stop:
            activity.leave(token)
            activity.end(None, None)
            return stop.value
        except BaseException as error:
            argument = None  # it may be this very exception, which refers to this very frame
            activity.leave(token)
            activity.end(error, None)
            raise
        activity.leave(token)
        activity.item()
        argument = None
        try:
            argument = yield passing.pop()
            method = generator.send
        except BaseException as thrown:  # close() comes as GeneratorExit, and is passed on like any other
            method, argument = generator.throw, thrown


@coroutine
def _run_iterable_coroutine(begin: Begin, make: Callable[[], Generator[Any, Any, Any]]) -> Generator[Any, Any, Any]:
    return (yield from _run_generator(begin, make))


async def _run_async_generator(begin: Begin, make: Callable[[], AsyncGenerator[Any, Any]]) -> AsyncGenerator[Any, Any]:
    activity = begin()
    generator = make()
    step: Any = _first_step(generator)
    passing: list[Any] = []
    while True:
        token = activity.enter()
        try:
            passing.append(await step)
        except StopAsyncIteration:
            activity.leave(token)
            activity.end(None, None)
            return
        except BaseException as error:
            step = None
            activity.leave(token)
            activity.end(error, None)
            raise
        activity.leave(token)
        activity.item()
        step = None
        try:
            step = generator.asend((yield passing.pop()))
        except BaseException as thrown:
            step = generator.athrow(thrown)


def _first_step(generator: AsyncGenerator[Any, Any]) -> Any:
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


_DRIVERS: dict[Kind, Callable[[Begin, Callable[[], Any]], Any]] = {
    "async": _run_async,
    "generator": _run_generator,
    "iterable coroutine": _run_iterable_coroutine,
    "async generator": _run_async_generator,
}


class Suspended:
    """What a function has returned and its stand-in will run.

    If nobody awaits a coroutine, Python warns; here it is the stand-in that is to warn, and only that.

    Attributes:
        held: what is to be run; None as soon as somebody runs it.
    """

    __slots__ = ("held",)  # set from outside: an ``__init__`` would double the cost of making one

    held: Any

    def take(self) -> Any:
        """What is to be run; from now on it is the taker's."""
        held, self.held = self.held, None
        return held

    def is_last(self) -> bool:
        """Whether nobody else has what is held."""
        return sys.getrefcount(self.held) <= _OURS_ALONE

    def __del__(self) -> None:
        if type(self.held) is CoroutineType and self.is_last():
            self.held.close()


class _Begun(Suspended):
    """The same of a call that has begun already."""

    __slots__ = ("activity",)

    activity: Activity

    def take_activity(self) -> Activity:
        """The call goes on."""
        return self.activity

    def __del__(self) -> None:
        if self.held is not None:
            self.activity.end(GeneratorExit() if self.is_last() else None, None)
        super().__del__()


def suspend(held: Any) -> Suspended:
    """Keep what a function has returned until its stand-in runs it."""
    suspended = Suspended()
    suspended.held = held
    return suspended


def renamed(stand_in: Any, original: Any) -> Any:
    """The coroutine or generator, or the function that makes it, under the host's own name, for warnings."""
    try:
        stand_in.__name__ = getattr(original, "__name__", stand_in.__name__)
        stand_in.__qualname__ = getattr(original, "__qualname__", stand_in.__qualname__)
    except Exception:  # a callable object's name may be anything, or be found by code that fails
        pass
    return stand_in
