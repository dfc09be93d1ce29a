"""What the type checkers must see: the same signatures as without the decorators. Checked, never run."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import assert_type

from pyjama_instrument import agent_session, current_session, flush, tool
from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.reader import get_dashboard_data, load_session


@tool
def bare(path: str, *, limit: int = 10) -> list[str]:
    return [path] * limit


@tool()
def called(x: int) -> int:
    return x


@tool("a name")
def named(x: int) -> int:
    return x


@tool(name="a name", capture=("x", "result"))
def with_options(x: int, y: str = "") -> tuple[int, str]:
    return x, y


@tool(control_flow=(KeyError, "package.module.Pause"))
def steered(x: int) -> int:
    return x


@tool(capture=True)
async def coroutine(x: int) -> bytes:
    return bytes(x)


@tool
def generator(n: int) -> Generator[int, str, bool]:
    sent = yield n
    return bool(sent)


@tool
async def async_generator(n: int) -> AsyncIterator[int]:
    yield n


@agent_session("nightly")
def nightly(day: str) -> int:
    return len(day)


@agent_session("nightly")
async def nightly_async(day: str) -> int:
    return len(day)


class Box:
    @tool
    def method(self, x: int) -> str:
        return str(x)

    @classmethod
    @tool
    def made_inside(cls, x: int) -> Box:
        return cls()

    @staticmethod
    @tool
    def static_inside(x: int) -> float:
        return float(x)


def functions_keep_their_signatures() -> None:
    assert_type(bare("p", limit=3), list[str])
    assert_type(called(1), int)
    assert_type(named(1), int)
    assert_type(with_options(1, y="a"), tuple[int, str])
    assert_type(generator(1), Generator[int, str, bool])
    assert_type(async_generator(1), AsyncIterator[int])
    assert_type(nightly("monday"), int)
    by_value: Callable[[int], int] = called
    assert_type(by_value(1), int)


async def coroutines_keep_their_signatures() -> None:
    assert_type(await coroutine(3), bytes)
    assert_type(await nightly_async("monday"), int)
    async for number in async_generator(2):
        assert_type(number, int)


def methods_keep_their_signatures() -> None:
    assert_type(Box().method(1), str)
    assert_type(Box.made_inside(1), Box)
    assert_type(Box.static_inside(1), float)


def partials_and_plain_callables_can_be_wrapped(work: Callable[[int], str]) -> None:
    assert_type(tool(work)(1), str)
    tool("partial")(functools.partial(bare, limit=2))("p")


def sessions_are_typed() -> None:
    with agent_session("a", workflow=["x"], tags={"k": "v"}, spec={"model": "m"}) as run:
        assert_type(run.id, str)
        assert_type(run.env(), dict[str, str])
        assert_type(run.bind(called)(1), int)
        with run.step("x"):
            run.annotate(tokens=1)
    session = current_session()
    if session is not None:
        assert_type(session.agent, str)
    assert_type(flush(), bool)


async def sessions_are_typed_when_async() -> None:
    async with agent_session("a") as run, run.step("x"):
        assert_type(run.span, str)


def what_is_read_is_typed(ids: Iterator[str]) -> None:
    assert_type(get_dashboard_data(), DashboardData)
    assert_type(load_session(next(ids)), SessionTree)
