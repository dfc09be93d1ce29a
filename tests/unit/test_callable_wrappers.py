"""Generators, coroutines and async generators: everything that passes through them while they are suspended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import typing
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pyjama_instrument import agent_session, current_session, tool
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.testing import FakeClock, isolated_store
from tests.conftest import RunPython
from tests.unit import sample_tools
from tests.unit.callable_forms import FORMS, Decorator, same
from tests.unit.recorded import call, calls, drained, session

# -- generators


@tool
def _talk() -> typing.Generator[str, str, str]:
    """Echo what is sent, survive a ValueError, end on "end"."""
    heard = yield "hello"
    while heard != "end":
        try:
            heard = yield f"heard {heard}"
        except ValueError as error:
            heard = yield f"caught {error}"
    return "goodbye"


def test_send_throw_and_the_return_value_pass_through_a_generator() -> None:
    def outer() -> typing.Generator[str, str, None]:
        said.append((yield from _talk()))

    said: list[str] = []
    generator = outer()
    assert next(generator) == "hello"
    assert generator.send("a") == "heard a"
    assert generator.throw(ValueError("b")) == "caught b"
    with pytest.raises(StopIteration):
        generator.send("end")
    assert said == ["goodbye"]
    recorded = call("_talk")
    assert (recorded.status, recorded.items) == ("ok", 3)


def test_closing_a_generator_runs_its_cleanup_at_once() -> None:
    closed = []

    @tool
    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    generator = work()
    next(generator)
    generator.close()
    assert closed == [True]
    assert call().status == "cancelled"


def test_a_generator_that_ends_cleanly_when_closed_is_ok() -> None:
    @tool
    def work() -> Iterator[int]:
        with contextlib.suppress(GeneratorExit):
            yield 1

    generator = work()
    next(generator)
    generator.close()
    assert call().status == "ok"


def test_a_generator_that_will_not_close_is_told_so_as_undecorated() -> None:
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    for decorate in (tool, same):
        generator = decorate(stubborn)()
        next(generator)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            generator.close()
        assert next(generator, "over") == "over"
    assert call().status == "ok"


def test_an_abandoned_generator_is_closed_when_it_is_collected() -> None:
    closed = []

    @tool
    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    for _ in work():
        break
    gc.collect()
    assert closed == [True]
    assert (call().status, call().items) == ("cancelled", 1)


def test_a_generator_that_is_never_iterated_is_not_a_call() -> None:
    sample_tools.halves(8).close()
    assert calls() == []
    assert recorder.in_flight == {}


def test_a_generators_record_has_its_life_its_first_item_and_its_items(own_store: Any) -> None:
    clock = FakeClock()

    @tool
    def work() -> Iterator[int]:
        clock.advance(2)
        yield 1
        yield 2

    with isolated_store(own_store, clock=clock):
        generator = work()
        clock.advance(50)  # before the first item: not part of the call
        next(generator)
        clock.advance(10)
        assert list(generator) == [2]
        recorded = call()
    assert recorded.first_item_ns == 2 * 10**9
    assert recorded.duration_ns == 12 * 10**9
    assert recorded.items == 2


def test_a_generator_that_yields_nothing_has_no_first_item() -> None:
    @tool
    def work() -> Iterator[int]:
        yield from ()

    assert list(work()) == []
    recorded = call()
    assert (recorded.status, recorded.items, recorded.first_item_ns) == ("ok", None, None)


def test_a_suspended_generator_holds_no_item_alive() -> None:
    class Item:
        pass

    @tool
    def work() -> Iterator[Item]:
        yield Item()
        yield Item()

    generator = work()
    reference = weakref.ref(next(generator))
    assert reference() is None
    generator.close()


def test_a_suspended_generator_does_not_put_its_consumer_into_its_call() -> None:
    generator = sample_tools.halves(8)
    with agent_session("consumer"):
        next(generator)
        sample_tools.double(1)
        generator.close()
    assert call("double").parent == session("consumer").span


def test_a_tool_called_by_a_generator_is_a_child_of_the_generators_call() -> None:
    @tool
    def work() -> Iterator[int]:
        yield sample_tools.double(1)
        yield sample_tools.double(2)

    assert list(work()) == [2, 4]
    assert {event.parent for event in calls("double")} == {call("work").span}


def test_generators_can_be_interleaved() -> None:
    @tool("first")
    def first() -> Iterator[int]:
        yield sample_tools.double(1)
        yield sample_tools.double(2)

    second = tool("second")(first.__wrapped__)  # type: ignore[attr-defined]  # what a decorator leaves
    assert list(zip(first(), second(), strict=True)) == [(2, 2), (4, 4)]
    parents = [event.parent for event in calls("double")]
    assert parents == [call("first").span, call("second").span] * 2


_variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_a_context_variable_set_in_a_generator_is_seen_as_undecorated() -> None:
    def work() -> Iterator[str]:
        _variable.set("inside")
        yield _variable.get()
        yield _variable.get()

    def seen(decorate: Decorator) -> list[str]:
        generator = decorate(work)()
        heard = [next(generator), _variable.get()]
        _variable.set("outside")
        return [*heard, next(generator), *generator, _variable.get()]

    assert contextvars.copy_context().run(seen, tool) == contextvars.copy_context().run(seen, same)
    assert _variable.get() == "unset"


def test_a_generator_may_go_on_in_another_context() -> None:
    generator = sample_tools.halves(8)
    items = [contextvars.copy_context().run(next, generator) for _ in range(3)]
    assert items == [4, 2, 1]
    assert current_session() is None
    assert list(generator) == []
    assert call().items == 3


def test_a_context_manager_can_be_made_of_a_decorated_generator() -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    @tool
    def work() -> Iterator[str]:
        try:
            yield "entered"
        except ValueError as error:
            seen.append(str(error))

    with work() as value:
        seen.append(value)
        raise ValueError("inside")
    assert seen == ["entered", "inside"]
    assert (call().status, call().items) == ("ok", 1)


def test_a_context_manager_passes_on_the_very_exception() -> None:
    @contextlib.contextmanager
    @tool
    def work() -> Iterator[None]:
        yield

    error = ValueError()
    with pytest.raises(ValueError) as caught, work():  # noqa: PT011  # it is compared below
        raise error
    assert caught.value is error
    assert call().status == "error"


# -- coroutines


def test_the_call_of_a_coroutine_function_begins_when_it_is_awaited(own_store: Any) -> None:
    clock = FakeClock()

    @tool
    async def work() -> None:
        clock.advance(3)

    async def main() -> None:
        coroutine = work()
        clock.advance(50)
        await coroutine

    with isolated_store(own_store, clock=clock):
        asyncio.run(main())
        assert call().duration_ns == 3 * 10**9


@pytest.mark.parametrize("decorate", [tool, agent_session("a")], ids=["tool", "session"])
def test_a_coroutine_that_is_never_awaited_warns_as_undecorated(decorate: Decorator) -> None:
    async def work() -> None: ...

    def heard(function: Callable[[], Any]) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
            gc.collect()
            messages = [str(warning.message) for warning in caught]
            caught.clear()  # each holds its coroutine
            gc.collect()
            return messages + [str(warning.message) for warning in caught]

    assert heard(decorate(work)) == heard(work)
    assert calls() == []


def test_closing_a_coroutine_that_was_not_awaited_is_silent() -> None:
    sample_tools.double_later(1).close()
    gc.collect()
    assert calls() == []


def test_a_cancelled_task_is_recorded_as_cancelled() -> None:
    async def main() -> None:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @tool
    async def waiting() -> None:
        await asyncio.Event().wait()

    asyncio.run(main())
    assert call().status == "cancelled"


def test_a_timeout_around_and_inside_a_coroutine_works() -> None:
    @tool
    async def inside() -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        return "went on"

    @tool
    async def waiting() -> None:
        await asyncio.Event().wait()

    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await waiting()
        return await inside()

    assert asyncio.run(main()) == "went on"
    assert (call("waiting").status, call("inside").status) == ("cancelled", "ok")


def test_a_decorated_coroutine_function_makes_tasks_under_its_own_name() -> None:
    async def main() -> str:
        task = asyncio.create_task(sample_tools.double_later(1))
        coroutine = task.get_coro()
        await task
        return str(coroutine.__qualname__)  # type: ignore[union-attr]  # it has one

    assert asyncio.run(main()) == "double_later"


def test_what_is_not_a_coroutine_passes_a_plain_function_untouched() -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        assert tool(lambda: future)() is future
        future.cancel()

    asyncio.run(main())
    generator = (x for x in "ab")
    assert tool(lambda: generator)() is generator


def test_a_coroutine_from_a_plain_function_is_part_of_the_call(own_store: Any) -> None:
    clock = FakeClock()

    async def inner() -> None:
        clock.advance(5)

    @tool
    def work() -> Any:
        clock.advance(1)
        return inner()

    with isolated_store(own_store, clock=clock):
        drained(work())
        assert call().duration_ns == 6 * 10**9


def _hands_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function around an async one, as most decorators make them."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def test_a_coroutine_from_a_plain_function_that_is_cancelled_before_it_runs_is_a_cancelled_call() -> None:
    @tool("fetch")
    @_hands_out
    async def work() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.ensure_future(work())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for _ in range(5):
        asyncio.run(main())
    gc.collect()
    assert [event.status for event in calls("fetch")] == ["cancelled"] * 5
    assert not recorder.in_flight
    assert not recorder.announced


def test_a_coroutine_from_a_plain_function_that_is_let_go_of_warns_as_undecorated_and_is_a_cancelled_call() -> None:
    @tool("fetch")
    @_hands_out
    async def work() -> None:
        pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
        gc.collect()
        assert ["never awaited" in str(warning.message) for warning in caught] == [True]
        caught.clear()  # each holds its coroutine
    assert call("fetch").status == "cancelled"


def test_a_coroutine_that_the_program_has_kept_is_not_closed_with_its_wrapper() -> None:
    kept = []

    async def work() -> int:
        return 5

    @tool("submit")
    def submit() -> Any:
        kept.append(work())
        return kept[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what the function returned is not awaited
        submit()
        gc.collect()
    assert asyncio.run(kept.pop()) == 5
    assert call("submit").status == "ok"
    assert not recorder.in_flight


def test_a_session_entered_inside_a_coroutine_does_not_reach_its_caller() -> None:
    @tool
    async def work() -> None:
        async with agent_session("inner"):
            await asyncio.sleep(0)

    async def main() -> None:
        await work()
        assert current_session() is None

    asyncio.run(main())


# -- async generators


@tool
async def _talk_later() -> typing.AsyncGenerator[str, str]:
    heard = yield "hello"
    while heard != "end":
        await asyncio.sleep(0)
        try:
            heard = yield f"heard {heard}"
        except ValueError as error:
            heard = yield f"caught {error}"


def test_asend_and_athrow_pass_through_an_async_generator() -> None:
    async def main() -> None:
        generator = _talk_later()
        assert await anext(generator) == "hello"
        assert await generator.asend("a") == "heard a"
        assert await generator.athrow(ValueError("b")) == "caught b"
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")

    asyncio.run(main())
    assert (call().status, call().items) == ("ok", 3)


def _closing(log: list[str]) -> Callable[[], typing.AsyncGenerator[int, None]]:
    @tool
    async def work() -> typing.AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    return work


def test_closing_an_async_generator_runs_its_cleanup() -> None:
    log: list[str] = []

    async def main() -> None:
        generator = _closing(log)()
        await anext(generator)
        await generator.aclose()
        assert log == ["closed"]
        with pytest.raises(StopAsyncIteration):
            await anext(generator)

    asyncio.run(main())
    assert call().status == "cancelled"


def test_an_async_generator_can_be_closed_from_another_task() -> None:
    log: list[str] = []

    async def main() -> None:
        generator = _closing(log)()
        await anext(generator)
        await asyncio.create_task(close(generator))
        assert log == ["closed"]

    async def close(generator: typing.AsyncGenerator[int, None]) -> None:
        await generator.aclose()

    asyncio.run(main())
    assert call().status == "cancelled"


def test_each_item_of_an_async_generator_can_be_asked_for_by_another_task() -> None:
    async def ask(generator: Any) -> int:
        return await anext(generator)  # type: ignore[no-any-return]  # an item

    async def main() -> list[int]:
        generator = FORMS["async generator function"](tool)(1)
        return [await asyncio.create_task(ask(generator)) for _ in range(2)]

    assert asyncio.run(main()) == [1, 2]


def test_asyncio_timeout_can_be_entered_inside_an_async_generator() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        async with asyncio.timeout(3600):
            yield 1
            await asyncio.sleep(0)
            yield 2

    assert drained(work()) == [1, 2]
    assert call().status == "ok"


def test_a_timeout_inside_an_async_generator_is_raised_where_it_is_undecorated() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        yield 1

    with pytest.raises(TimeoutError):
        drained(work())
    assert call().status == "error"


def test_a_task_group_can_be_entered_inside_an_async_generator() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0, 5))
            yield 1
        yield task.result()

    assert drained(work()) == [1, 5]


def test_an_abandoned_async_generator_is_closed_by_the_loop() -> None:
    log: list[str] = []

    async def main() -> None:
        async for _ in _closing(log)():
            break
        gc.collect()
        for _ in range(100):
            if log:
                break
            await asyncio.sleep(0)

    asyncio.run(main())
    assert log == ["closed"]
    assert call().status == "cancelled"


def test_an_async_generator_left_open_is_closed_when_the_loop_shuts_down() -> None:
    log: list[str] = []
    kept: list[Any] = []

    async def main() -> None:
        kept.append(_closing(log)())
        await anext(kept[0])
        await asyncio.get_running_loop().shutdown_asyncgens()

    asyncio.run(main())
    assert log == ["closed"]
    assert call().status == "cancelled"


_ABANDONED = """
import asyncio, gc
from pyjama_instrument import agent_session, tool

@tool
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        print("closed")
        await asyncio.sleep(0)

@tool
def letters():
    try:
        yield "a"
    finally:
        print("closed")

async def main():
    asyncio.get_running_loop().slow_callback_duration = 3600  # a busy machine is not what is asked about
    async for _ in numbers():
        break
    gc.collect()
    await asyncio.sleep(0)
    numbers()
    global kept
    kept = numbers(), letters(), agent_session("s")(numbers)()
    for generator in kept[::2]:
        await anext(generator)
    next(kept[1])

asyncio.run(main(), debug=True)
letters()
kept[1].close()
"""


def test_abandoned_generators_raise_nothing_unraisable_in_development_mode(run_python: RunPython) -> None:
    done = run_python(_ABANDONED, PYTHONDEVMODE="1")
    assert done.stderr == ""
    assert done.stdout.split() == ["closed"] * 4


def test_an_async_generator_already_running_says_so_as_undecorated() -> None:
    async def work() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        yield 1

    async def main(decorate: Decorator) -> str:
        generator = decorate(work)()
        first = asyncio.ensure_future(anext(generator))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError) as caught:
            await anext(generator)
        assert await first == 1
        await generator.aclose()
        return str(caught.value)

    assert asyncio.run(main(tool)) == asyncio.run(main(same))


def test_a_cancelled_async_generator_is_recorded_as_cancelled() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in work():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (call().status, call().items) == ("cancelled", 1)


def test_a_suspended_async_generator_does_not_put_its_consumer_into_its_call() -> None:
    async def main() -> None:
        async with agent_session("consumer"):
            async for _ in FORMS["async generator function"](tool)(1):
                sample_tools.double(1)

    asyncio.run(main())
    assert {event.parent for event in calls("double")} == {session("consumer").span}


def test_a_suspended_async_generator_holds_no_item_alive() -> None:
    class Item:
        pass

    @tool
    async def work() -> AsyncIterator[Item]:
        yield Item()
        yield Item()

    async def main() -> None:
        generator = work()
        reference = weakref.ref(await anext(generator))
        assert reference() is None
        await generator.aclose()

    asyncio.run(main())


def test_an_async_context_manager_can_be_made_of_a_decorated_generator() -> None:
    @contextlib.asynccontextmanager
    @tool
    async def work() -> AsyncIterator[str]:
        yield "entered"

    async def main() -> str:
        async with work() as value:
            return value

    assert asyncio.run(main()) == "entered"
    assert call().status == "ok"
