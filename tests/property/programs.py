"""Functions of every kind, generated as little programs, and running one while noting all that can be seen of it.

What can be seen from inside (what was sent, thrown, when cleanup ran) and from outside (what was returned, raised,
yielded) goes into one log, so that two runs can be compared.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pyjama_instrument import agent_session, hooks, tool

__all__ = [
    "ACTIONS",
    "DECORATED",
    "DECORATORS",
    "PROGRAMS",
    "Action",
    "Log",
    "Op",
    "driven_async_generator",
    "driven_coroutine",
    "driven_generator",
    "hooked",
    "obeys_close",
    "observed",
    "undecorated",
]

Log = list[Any]
Action = tuple[str, Any]


class Custom(Exception):
    pass


_ERRORS: list[type[BaseException]] = [
    ValueError,
    Custom,
    KeyError,
    StopIteration,
    StopAsyncIteration,
    RuntimeError,
    GeneratorExit,
    KeyboardInterrupt,
]


@dataclass(frozen=True)
class Op:
    """One statement of a generated function."""

    does: str
    value: int = 0
    error: type[BaseException] = ValueError
    inside: tuple[Op, ...] = field(default=())


_values = st.integers(0, 9)
_errors = st.sampled_from(_ERRORS)
_simple = st.one_of(
    st.builds(Op, st.sampled_from(["yield", "yield", "yield", "return"]), _values),
    st.builds(Op, st.just("raise"), error=_errors),
)
_ops = st.recursive(
    _simple,
    lambda inner: st.builds(
        Op,
        st.sampled_from(["recurse", "swallow", "reraise", "replace", "finally"]),
        _values,
        _errors,
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=6,
)
PROGRAMS = st.lists(_ops, max_size=4).map(tuple)
ACTIONS = st.lists(
    st.one_of(
        st.just(("next", None)),
        st.tuples(st.just("send"), _values),
        st.tuples(st.just("throw"), _errors),
        st.just(("close", None)),
    ),
    max_size=8,
)


DECORATORS: dict[str, Callable[[Any], Any]] = {
    "tool": tool,
    "capturing": tool(capture=True),
    "session": agent_session("a"),
    "tool twice": lambda function: tool("outer")(tool("inner")(function)),
    "session in tool": lambda function: tool(agent_session("a")(function)),
    "hooks": tool("with hooks"),
}
DECORATED = st.sampled_from(list(DECORATORS))


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    """The tool "with hooks" has some for the block."""
    hooks.register_hook("with hooks", lambda _: None)
    hooks.register_pre_hook("with hooks", lambda call: (call.args, call.kwargs))
    yield
    hooks.clear_hooks()


def _shown(error: BaseException | None) -> Any:
    """An exception with all that hangs on it, in a form that can be compared."""
    if error is None:
        return None
    return type(error).__name__, str(error), _shown(error.__cause__), _shown(error.__context__)


# -- plain functions


def _plain(decorate: Callable[[Any], Any], log: Log) -> Callable[[tuple[Op, ...]], Any]:
    @decorate
    def work(program: tuple[Op, ...]) -> Any:
        for op in program:
            match op.does:
                case "yield":
                    log.append(op.value)
                case "return":
                    return op.value
                case "raise":
                    raise op.error("raised")
                case "recurse":
                    log.append(("result", work(op.inside)))
                case "finally":
                    try:
                        work(op.inside)
                    finally:
                        log.append("cleaned up")
                case _:
                    try:
                        work(op.inside)
                    except op.error as error:
                        log.append(_shown(error))
                        if op.does == "reraise":
                            raise
                        if op.does == "replace":
                            raise Custom("replaced") from error
        return None

    return work  # type: ignore[no-any-return]  # the decorator is Any


def observed(decorate: Callable[[Any], Any], program: tuple[Op, ...]) -> Log:
    log: Log = []
    try:
        log.append(("returned", _plain(decorate, log)(program)))
    except BaseException as error:
        log.append(_shown(error))
    return log


def undecorated(function: Any) -> Any:
    return function


# -- generators


def _generator(decorate: Callable[[Any], Any], log: Log) -> Callable[[tuple[Op, ...]], Generator[Any, Any, Any]]:
    @decorate
    def work(program: tuple[Op, ...]) -> Generator[Any, Any, Any]:
        for op in program:
            match op.does:
                case "yield":
                    log.append(("got", (yield op.value)))
                case "return":
                    return op.value
                case "raise":
                    raise op.error("raised")
                case "recurse":
                    log.append(("result", (yield from work(op.inside))))
                case "finally":
                    try:
                        yield from work(op.inside)
                    finally:
                        log.append("cleaned up")
                case _:
                    try:
                        yield from work(op.inside)
                    except op.error as error:
                        log.append(_shown(error))
                        if op.does == "reraise":
                            raise
                        if op.does == "replace":
                            raise Custom("replaced") from error
                        yield "swallowed"

    return work  # type: ignore[no-any-return]  # the decorator is Any


def _step(log: Log, act: Callable[[], Any], thrown: BaseException | None) -> None:
    try:
        log.append(("came", act()))
    except BaseException as error:
        log.append((_shown(error), "the one thrown" if error is thrown else "another"))


def driven_generator(decorate: Callable[[Any], Any], program: tuple[Op, ...], actions: list[Action]) -> Log:
    log: Log = []
    generator = _generator(decorate, log)(program)
    for action, argument in actions:
        thrown = argument("thrown") if action == "throw" else None
        acts: dict[str, Callable[[], Any]] = {
            "next": functools.partial(next, generator),
            "send": functools.partial(generator.send, argument),
            "throw": functools.partial(generator.throw, thrown),  # type: ignore[arg-type]  # used for throw only
            "close": generator.close,
        }
        _step(log, acts[action], thrown)
    _exhaust(log, generator.close)
    return log


def _exhaust(log: Log, close: Callable[[], Any]) -> None:
    """Close until it is closed: a generator may yield when it is told to end, but these do so finitely often."""
    for _ in range(30):
        before = len(log)
        with contextlib.suppress(RuntimeError):
            _step(log, close, None)
        if log[before:] == [("came", None)]:
            return


# -- coroutines


@types.coroutine
def _trap(value: Any) -> Generator[Any, Any, Any]:
    return (yield value)


def _coroutine(decorate: Callable[[Any], Any], log: Log) -> Callable[[tuple[Op, ...]], Coroutine[Any, Any, Any]]:
    @decorate
    async def work(program: tuple[Op, ...]) -> Any:
        for op in program:
            match op.does:
                case "yield":
                    log.append(("got", await _trap(op.value)))
                case "return":
                    return op.value
                case "raise":
                    raise op.error("raised")
                case "recurse":
                    log.append(("result", await work(op.inside)))
                case "finally":
                    try:
                        await work(op.inside)
                    finally:
                        log.append("cleaned up")
                case _:
                    try:
                        await work(op.inside)
                    except op.error as error:
                        log.append(_shown(error))
                        if op.does == "reraise":
                            raise
                        if op.does == "replace":
                            raise Custom("replaced") from error
                        await _trap("swallowed")
        return None

    return work  # type: ignore[no-any-return]  # the decorator is Any


def driven_coroutine(decorate: Callable[[Any], Any], program: tuple[Op, ...], actions: list[Action]) -> Log:
    log: Log = []
    coroutine = _coroutine(decorate, log)(program)
    _step(log, functools.partial(coroutine.send, None), None)
    for action, argument in actions:
        thrown = argument("thrown") if action == "throw" else None
        acts: dict[str, Callable[[], Any]] = {
            "next": functools.partial(coroutine.send, None),
            "send": functools.partial(coroutine.send, argument),
            "throw": functools.partial(coroutine.throw, thrown),  # type: ignore[arg-type]  # used for throw only
            "close": coroutine.close,
        }
        _step(log, acts[action], thrown)
    _exhaust(log, coroutine.close)
    return [_exits_alike(entry) for entry in log] if ("throw", GeneratorExit) in actions else log


def _exits_alike(shown: Any) -> Any:
    """Without what hangs on a GeneratorExit: ``await`` passes it on as close(), so who is awaited sees another one."""
    if not isinstance(shown, tuple):
        return shown
    return shown[:1] if shown[:1] == ("GeneratorExit",) else tuple(map(_exits_alike, shown))


def obeys_close(program: tuple[Op, ...]) -> bool:
    """Whether nothing goes on after a close(): what becomes of a coroutine that does depends on how deep it is."""
    return all(
        obeys_close(op.inside) and not (op.does == "swallow" and op.error in _errors_of_close(op.inside))
        for op in program
    )


def _errors_of_close(program: tuple[Op, ...]) -> set[type[BaseException]]:
    """What a close() may raise in the program."""
    errors: set[type[BaseException]] = {GeneratorExit}
    for op in program:
        inside = _errors_of_close(op.inside)
        errors |= inside | ({Custom} if op.does == "replace" and op.error in inside else set())
    return errors


# -- async generators


def _async_generator(decorate: Callable[[Any], Any], log: Log) -> Callable[[tuple[Op, ...]], AsyncGenerator[Any, Any]]:
    @decorate
    async def work(program: tuple[Op, ...]) -> AsyncGenerator[Any, Any]:
        for op in program:
            match op.does:
                case "yield":
                    await _trap("awaiting")
                    log.append(("got", (yield op.value)))
                case "return":
                    return
                case "raise":
                    raise op.error("raised")
                case "recurse":
                    async with contextlib.aclosing(work(op.inside)) as items:
                        async for item in items:
                            log.append(("sent on", (yield item)))
                case "finally":
                    try:
                        async with contextlib.aclosing(work(op.inside)) as items:
                            async for item in items:
                                yield item
                    finally:
                        await _trap("cleaning up")
                        log.append("cleaned up")
                case _:
                    try:
                        async with contextlib.aclosing(work(op.inside)) as items:
                            async for item in items:
                                yield item
                    except op.error as error:
                        log.append(_shown(error))
                        if op.does == "reraise":
                            raise
                        if op.does == "replace":
                            raise Custom("replaced") from error
                        yield "swallowed"

    return work  # type: ignore[no-any-return]  # the decorator is Any


def _awaited(log: Log, awaitable: Any) -> Any:
    """Run an awaitable to its end without a loop."""
    while True:
        try:
            log.append(("trapped", awaitable.send(None)))
        except StopIteration as stop:
            return stop.value


def driven_async_generator(decorate: Callable[[Any], Any], program: tuple[Op, ...], actions: list[Action]) -> Log:
    log: Log = []
    generator = _async_generator(decorate, log)(program)
    for action, argument in actions:
        thrown = argument("thrown") if action == "throw" else None
        acts: dict[str, Callable[[], Any]] = {
            "next": lambda: _awaited(log, generator.__anext__()),
            "send": lambda argument=argument: _awaited(log, generator.asend(argument)),
            "throw": lambda thrown=thrown: _awaited(log, generator.athrow(thrown)),
            "close": lambda: _awaited(log, generator.aclose()),
        }
        _step(log, acts[action], thrown)
    _exhaust_async(log, generator)
    return log


def _exhaust_async(log: Log, generator: AsyncGenerator[Any, Any]) -> None:
    for _ in range(30):
        before = len(log)
        _step(log, lambda: _awaited(log, generator.aclose()), None)
        if log[before:] == [("came", None)]:
            return
