"""Functions bound to a session."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyjama_instrument import agent_session, current_session
from tests.unit import sample_tools
from tests.unit.callable_forms import FORMS, same
from tests.unit.recorded import (
    calls,
    drained,
    step_ends,
)


def test_a_bound_function_runs_in_the_session_in_any_thread() -> None:
    with agent_session("a") as run, ThreadPoolExecutor(2) as pool, run.step("x"):
        found = list(pool.map(run.bind(sample_tools.session_here), range(4)))
        assert {session_id for session_id, _ in found} == {run.id}
        assert [session_id for session_id, _ in pool.map(sample_tools.session_here, range(2))] != [run.id] * 2
    bound = [event for event in calls("session_here") if event.session == run.id]
    assert {event.parent for event in bound} == {step_ends()[0].span}
    assert len(bound) == 4


@pytest.mark.parametrize("form", FORMS)
def test_a_bound_callable_of_any_form_gives_what_it_gave_before(form: str) -> None:
    with agent_session("a") as run:
        bound = run.bind(FORMS[form](same))
    assert drained(bound(7)) == drained(FORMS[form](same)(7))


@pytest.mark.parametrize("kind", ["def", "async def", "generator", "async generator"])
def test_a_bound_function_of_any_kind_runs_inside_the_session(kind: str) -> None:
    def work() -> str | None:
        return sample_tools.session_here()[0]

    async def coroutine_work() -> str | None:
        await asyncio.sleep(0)
        return sample_tools.session_here()[0]

    def generator_work() -> Iterator[str | None]:
        yield sample_tools.session_here()[0]

    async def async_generator_work() -> AsyncIterator[str | None]:
        yield sample_tools.session_here()[0]

    functions: dict[str, Callable[[], Any]] = {"def": work, "async def": coroutine_work, "generator": generator_work}
    with agent_session("a") as run:
        bound = run.bind(functions.get(kind, async_generator_work))
    assert drained(bound()) in (run.id, [run.id])
    assert current_session() is None


def test_a_bound_function_takes_arguments_of_any_name() -> None:
    with agent_session("a") as run:
        bound = run.bind(lambda **kwargs: kwargs)
    assert bound(self=1, args=2, function=3) == {"self": 1, "args": 2, "function": 3}


def test_a_bound_function_raises_its_own_exception() -> None:
    error = ValueError()

    def work() -> None:
        raise error

    with agent_session("a") as run, pytest.raises(ValueError) as caught:  # noqa: PT011  # it is compared below
        run.bind(work)()
    assert caught.value is error


def test_a_bound_function_keeps_its_name_and_signature() -> None:
    with agent_session("a") as run:
        bound = run.bind(sample_tools.plain)
    assert bound.__name__ == "plain"
    assert inspect.signature(bound) == inspect.signature(sample_tools.plain)
