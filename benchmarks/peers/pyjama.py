"""Ourselves, in every way a function can be decorated."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer, Row, add

__all__ = ["recorded", "start", "tool_line"]

ITEMS = 3
SLOW_NS = 1_100_000


def start(directory: Path, variant: str) -> Peer:
    """``variant`` ``disabled`` has only the plain row, with the environment variable that switches recording off."""
    os.environ["PYJAMA_HOME"] = str(directory / "store")
    if variant == "disabled":
        os.environ["PYJAMA_DISABLED"] = "1"
    import wrapt

    from pyjama_instrument import agent_session, flush, hooks, tool

    def session() -> agent_session:
        return agent_session("benchmark")

    @contextmanager
    def hooked() -> Iterator[None]:
        hooks.register_hook("add", _look)
        try:
            with session():
                yield
        finally:
            hooks.unregister_hook("add", _look)

    sync = Row("sync", tool(add), around=session)
    if variant == "disabled":
        no_op = wrapt.FunctionWrapper(add, lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
        return Peer([sync, Row("no-op wrapt wrapper", no_op)])
    return Peer(
        [
            sync,
            Row("sync, outside a session", tool(add)),
            Row("async", tool(add_async), add_async, "await", session),
            Row("generator, 3 items", tool(count), count, "iterate", session),
            Row("async generator, 3 items", tool(count_async), count_async, "iterate async", session),
            Row("method", _method(tool), _method(_as_it_is), around=session),
            Row("sync, capture=", tool(capture=("a", "b", "return"))(add), around=session),
            Row("sync, with a hook", tool(add), around=hooked),
            Row("sync, with tool.started", tool(spin), spin, "slow", session),
        ],
        drain=flush,
    )


def recorded(directory: Path) -> int:
    """What a reader counts, as the dashboard would show it."""
    from pyjama_instrument.reader import get_dashboard_data

    return get_dashboard_data(directory / "store").metrics.global_.count


def tool_line(directory: Path) -> bytes:
    """The line that a call inside a session leaves in the journal. No recorder is at work afterwards."""
    from pyjama_instrument import agent_session, tool
    from pyjama_instrument.recording.settings import reset_for_testing

    home = directory / f"line-{os.getpid()}"
    reset_for_testing(home)
    with agent_session("benchmark"):
        tool(add)(1, 2)
    reset_for_testing()
    (journal,) = (home / "journal").iterdir()
    return next(line for line in journal.read_bytes().splitlines(keepends=True) if b'"tool.ended"' in line)


def _method(decorator: Callable[..., Any]) -> Callable[..., Any]:
    class Adder:
        @decorator
        def add(self, a: int, b: int) -> int:
            return a + b

    adder = Adder()
    return lambda a, b: adder.add(a, b)  # bound at each call, as in a program


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _look(call: object) -> None:
    pass


async def add_async(a: int, b: int) -> int:
    """A coroutine function."""
    return a + b


def count(a: int, b: int) -> Iterator[int]:
    """A generator of a few items."""
    yield from range(ITEMS)


async def count_async(a: int, b: int) -> AsyncIterator[int]:
    """An asynchronous generator of a few items."""
    for item in range(ITEMS):
        yield item


def spin(a: int, b: int) -> None:
    """Take a millisecond, exactly: what is left over is the cost of recording."""
    end = time.perf_counter_ns() + SLOW_NS
    while time.perf_counter_ns() < end:
        pass
