"""``agent_session`` as a decorator, and one object used by many at once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyjama_instrument import Session, agent_session, current_session, tool
from tests.unit import sample_tools
from tests.unit.callable_forms import FORMS, same
from tests.unit.recorded import (
    call,
    drained,
    session,
    session_end,
    session_ends,
    sessions,
)


@pytest.mark.parametrize("form", FORMS)
def test_a_decorated_callable_of_any_form_gives_what_it_gave_before(form: str) -> None:
    assert drained(FORMS[form](agent_session("a"))(7)) == drained(FORMS[form](same)(7))


@pytest.mark.parametrize("form", FORMS)
def test_each_call_of_any_form_of_callable_is_one_session(form: str) -> None:
    drained(FORMS[form](agent_session("a"))(7))
    assert session_end("a").status == "completed"
    assert session_end("a").session == session("a").session


@pytest.mark.parametrize("form", FORMS)
def test_the_decorated_callable_looks_as_before(form: str) -> None:
    decorated, plain = FORMS[form](agent_session("a")), FORMS[form](same)
    assert inspect.signature(decorated) == inspect.signature(plain)
    for check in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert check(decorated) == check(plain)
    assert getattr(decorated, "__name__", None) == getattr(plain, "__name__", None)
    assert getattr(decorated, "__doc__", None) == getattr(plain, "__doc__", None)


def test_a_decorated_function_runs_inside_its_session() -> None:
    sample_tools.nightly(1)
    assert call("double").session == session("nightly").session


def test_a_decorated_generator_runs_inside_its_session_and_its_consumer_does_not() -> None:
    @agent_session("a")
    def work() -> Iterator[Session | None]:
        yield current_session()
        yield current_session()

    seen = [(inside, current_session()) for inside in work()]
    assert [inside.agent for inside, _ in seen if inside] == ["a", "a"]
    assert [outside for _, outside in seen] == [None, None]
    assert len(sessions()) == 1


def test_a_decorated_async_generator_runs_inside_its_session_and_its_consumer_does_not() -> None:
    @agent_session("a")
    async def work() -> AsyncIterator[Session | None]:
        yield current_session()
        await asyncio.sleep(0)
        yield current_session()

    async def main() -> list[tuple[Session | None, Session | None]]:
        return [(inside, current_session()) async for inside in work()]

    seen = asyncio.run(main())
    assert [inside.agent for inside, _ in seen if inside] == ["a", "a"]
    assert [outside for _, outside in seen] == [None, None]


def test_a_tool_may_be_a_session_and_a_session_a_tool() -> None:
    tool("outer")(agent_session("inner session")(lambda: sample_tools.double(1)))()
    agent_session("outer session")(tool("inner")(lambda: None))()
    assert session("inner session").parent == call("outer").span
    assert call("double").session == session("inner session").session
    assert call("inner").session == session("outer session").session


def test_a_decorated_function_can_call_itself() -> None:
    @agent_session("a")
    def countdown(n: int) -> int:
        return 0 if n == 0 else 1 + countdown(n - 1)

    assert countdown(2) == 2
    outer, middle, inner = sessions()
    assert (outer.parent_session, middle.parent_session, inner.parent_session) == (
        None,
        outer.session,
        middle.session,
    )


def test_one_object_can_be_used_by_many_threads_at_once() -> None:
    shared = agent_session("a")
    gate = threading.Barrier(4)

    def work(_: int) -> tuple[str, str | None]:
        with shared as run:
            gate.wait(30)
            return run.id, sample_tools.session_here()[0]

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(work, range(4)))
    assert all(entered == found for entered, found in seen)
    assert len(set(seen)) == 4
    assert {event.session for event in session_ends("a")} == {entered for entered, _ in seen}


def test_one_object_can_be_used_by_many_tasks_at_once() -> None:
    shared = agent_session("a")

    async def work(gate: asyncio.Barrier) -> tuple[str, str | None]:
        async with shared as run, gate:
            return run.id, sample_tools.session_here()[0]

    async def main() -> list[tuple[str, str | None]]:
        gate = asyncio.Barrier(4)
        return await asyncio.gather(*(work(gate) for _ in range(4)))

    seen = asyncio.run(main())
    assert all(entered == found for entered, found in seen)
    assert len(set(seen)) == 4
    assert len(session_ends("a")) == 4
    assert all(event.parent_session is None for event in sessions("a"))


def test_one_decorated_function_can_run_in_many_tasks_at_once() -> None:
    @agent_session("a")
    async def work(gate: asyncio.Barrier) -> str | None:
        await gate.wait()
        return sample_tools.session_here()[0]

    async def main() -> list[str | None]:
        gate = asyncio.Barrier(3)
        return await asyncio.gather(*(work(gate) for _ in range(3)))

    assert len(set(asyncio.run(main()))) == 3
    assert len(session_ends("a")) == 3
