"""Sessions: how they begin, nest and end, and where the running code finds the one it is in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import random
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyjama_instrument import Session, agent_session, current_session, tool
from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.events import Annotation, SessionEnded, SessionStarted, StepStarted, WorkflowDeclared
from pyjama_instrument.fold.fold import LIMITS
from pyjama_instrument.recording import session as session_module
from pyjama_instrument.testing import FakeClock, SequentialIds, isolated_store
from tests.unit import sample_tools
from tests.unit.callable_forms import FORMS, same
from tests.unit.recorded import (
    all_events,
    call,
    calls,
    drained,
    session,
    session_end,
    session_ends,
    sessions,
    step_ends,
)

# -- beginning and end


def test_a_session_has_a_name_and_ids_in_the_w3c_format() -> None:
    with agent_session("a") as run:
        assert run.agent == "a"
        assert re.fullmatch("[0-9a-f]{32}", run.id)
        assert re.fullmatch("[0-9a-f]{16}", run.span)


def test_beginning_and_end_are_recorded_when_they_happen() -> None:
    with agent_session("a") as run:
        assert [event.session for event in sessions()] == [run.id]
        assert session_ends() == []
    assert [event.session for event in session_ends()] == [run.id]


def test_a_session_is_as_long_as_its_block(own_store: Any) -> None:
    clock = FakeClock()
    with isolated_store(own_store, clock=clock):
        with agent_session("a"):
            clock.advance(1.5)
        assert session_end("a").duration_ns == 1_500_000_000


_ENDINGS: list[tuple[BaseException, str]] = [
    (ValueError("no"), "failed"),
    (ExceptionGroup("several", [ValueError("one")]), "failed"),
    (SystemExit(1), "failed"),
    (SystemExit("message"), "failed"),
    (SystemExit(0), "completed"),
    (SystemExit(None), "completed"),
    (asyncio.CancelledError(), "cancelled"),
    (KeyboardInterrupt(), "cancelled"),
    (GeneratorExit(), "cancelled"),
]


@pytest.mark.parametrize("way", ["with", "async with", "decorator", "async decorator"])
@pytest.mark.parametrize(("error", "status"), _ENDINGS, ids=[repr(error)[:30] for error, _ in _ENDINGS])
def test_an_exception_leaves_the_session_unchanged_and_decides_its_status(
    way: str, error: BaseException, status: str
) -> None:
    def in_with() -> None:
        with agent_session("a"):
            raise error

    async def in_async_with() -> None:
        async with agent_session("a"):
            raise error

    @agent_session("a")
    def decorated() -> None:
        raise error

    @agent_session("a")
    async def async_decorated() -> None:
        raise error

    error.__traceback__ = error.__context__ = None
    ways: dict[str, Callable[[], Any]] = {
        "with": in_with,
        "decorator": decorated,
        "async with": lambda: in_async_with().send(None),  # an event loop has ideas of its own about these exceptions
        "async decorator": lambda: async_decorated().send(None),
    }
    with pytest.raises(type(error)) as caught:
        ways[way]()
    assert caught.value is error
    ended = session_end("a")
    assert ended.status == status
    assert (ended.error is None) == (status == "completed")
    assert current_session() is None


def test_a_session_that_nothing_leaves_is_completed() -> None:
    with agent_session("a"):
        pass
    assert session_end("a").status == "completed"
    assert session_end("a").error is None


@pytest.mark.parametrize(
    ("error", "type_", "message"), [(ValueError("why"), "ValueError", "why"), ("just because", "", "just because")]
)
def test_a_session_can_be_made_to_fail_without_an_exception(
    error: BaseException | str, type_: str, message: str
) -> None:
    with agent_session("a") as run:
        run.fail(error)
    ended = session_end("a")
    assert ended.status == "failed"
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == (type_, message)


def test_a_session_can_be_made_to_end_as_cancelled() -> None:
    with agent_session("a") as run:
        run.cancel()
    assert session_end("a").status == "cancelled"


def test_an_exception_has_the_last_word() -> None:
    with contextlib.suppress(KeyError), agent_session("a") as run:
        run.cancel()
        raise KeyError
    assert session_end("a").status == "failed"


def test_ids_do_not_repeat_with_the_programs_random_seed() -> None:
    ids = []
    for _ in range(2):
        random.seed(1)
        with agent_session("a") as run:
            ids.append(run.id)
    assert ids[0] != ids[1]


def test_sessions_are_equal_when_they_are_the_same_run() -> None:
    with agent_session("a") as run:
        assert current_session() == run
        assert hash(current_session()) == hash(run)
        with agent_session("a") as other:
            assert other != run
        assert "'a'" in repr(run)
        assert run.id in repr(run)


# -- what is told about a session


def test_workflow_tags_and_spec_are_recorded() -> None:
    with agent_session("a", workflow=("x", "y"), tags={"k": "v"}, spec={"model": {"size": 7}}):
        pass
    assert session("a").tags == {"k": "v"}
    assert session("a").spec == {"model": {"size": 7}}
    (declared,) = (event for event in all_events() if isinstance(event, WorkflowDeclared))
    assert declared.steps == ("x", "y")


def test_a_workflow_can_be_declared_later() -> None:
    with agent_session("a") as run:
        run.workflow(["x"])
        run.workflow(["x", "y"])
    declared = [event.steps for event in all_events() if isinstance(event, WorkflowDeclared)]
    assert declared == [("x",), ("x", "y")]


def test_annotations_are_made_json_safe_and_recorded_as_they_come() -> None:
    with agent_session("a") as run:
        run.annotate(tokens=1, cost=float("nan"), thing=object())
        run.annotate(tokens=2)
    first, second = (event for event in all_events() if isinstance(event, Annotation))
    assert first.attributes == {"tokens": 1, "cost": "nan", "thing": "<builtins.object>"}
    assert second.attributes == {"tokens": 2}
    assert first.span == session("a").span


@pytest.mark.parametrize("name", ["self", "name", "session", "attributes", "kind", "span", "agent", "ts"])
def test_an_attribute_may_have_any_name(name: str) -> None:
    with agent_session("a") as run:
        run.annotate(**{name: 5})
    (event,) = (event for event in all_events() if isinstance(event, Annotation))
    assert event.attributes == {name: 5}


# -- steps


def test_a_step_is_recorded_with_its_beginning_end_and_duration(own_store: Any) -> None:
    clock = FakeClock()
    with isolated_store(own_store, clock=clock):
        with agent_session("a") as run, run.step("x"):
            clock.advance(2)
        (started,) = (event for event in all_events() if isinstance(event, StepStarted))
        (ended,) = step_ends()
    assert (started.step, started.span, started.parent) == ("x", ended.span, ended.parent)
    assert (ended.step, ended.status, ended.duration_ns) == ("x", "ok", 2_000_000_000)


def test_a_tool_in_a_step_is_the_steps_child() -> None:
    with agent_session("a") as run:
        with run.step("x"):
            sample_tools.double(1)
        sample_tools.double(2)
    inside, outside = calls()
    assert inside.parent == step_ends()[0].span
    assert outside.parent == session("a").span


def test_steps_nest() -> None:
    with agent_session("a") as run, run.step("outer"), run.step("inner"):
        pass
    inner, outer = step_ends()
    assert (inner.step, inner.parent) == ("inner", outer.span)
    assert outer.parent == session("a").span


def test_a_step_can_be_entered_asynchronously_and_gives_the_session() -> None:
    async def main() -> None:
        async with agent_session("a") as run, run.step("x") as again:
            assert again is run
            await asyncio.gather(sample_tools.double_later(1), sample_tools.double_later(2))

    asyncio.run(main())
    assert {event.parent for event in calls()} == {step_ends()[0].span}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "error"), (KeyboardInterrupt(), "cancelled"), (SystemExit(0), "ok")]
)
def test_a_step_has_the_status_of_what_leaves_it(error: BaseException, status: str) -> None:
    with contextlib.suppress(BaseException), agent_session("a") as run, run.step("x"):
        raise error
    (ended,) = step_ends()
    assert ended.status == status
    assert (ended.error is None) == (status == "ok")


def test_a_step_may_be_taken_in_a_thread_that_knows_nothing_of_the_session() -> None:
    def work(run: Session) -> None:
        with run.step("x"):
            sample_tools.double(1)

    with agent_session("a") as run, ThreadPoolExecutor(1) as pool:
        pool.submit(work, run).result()
    assert step_ends()[0].parent == session("a").span
    assert call().session == run.id


def test_a_step_between_an_inner_sessions_entry_and_exit_is_returned_to() -> None:
    with agent_session("a") as run, run.step("x"):
        with agent_session("b"):
            pass
        sample_tools.double(1)
    assert call().parent == step_ends()[0].span


# -- nesting


def test_a_session_inside_another_is_its_child() -> None:
    with agent_session("outer") as outer:
        with agent_session("inner") as inner:
            assert current_session() == inner
        assert current_session() == outer
    assert current_session() is None
    assert session("outer").parent_session is None
    assert session("inner").parent_session == outer.id
    assert session("inner").parent == session("outer").span


def test_a_session_inside_a_tool_is_the_child_of_that_call() -> None:
    with agent_session("outer"):
        tool("work")(agent_session("inner")(lambda: None))()
    assert session("inner").parent == call("work").span


def test_a_session_left_open_in_a_tool_does_not_outlive_the_one_around_it() -> None:
    with agent_session("outer") as outer:
        tool("work")(agent_session("inner").__enter__)()
        assert current_session() == outer
    assert current_session() is None


def test_one_object_can_be_used_again_and_inside_itself() -> None:
    again = agent_session("a")
    with again as first:
        with again as second:
            assert current_session() == second
        assert current_session() == first
    with again as third:
        pass
    assert len({first.id, second.id, third.id}) == 3
    assert [event.status for event in session_ends()] == ["completed"] * 3
    assert [event.parent_session for event in sessions()] == [None, first.id, None]


def test_sessions_may_end_in_another_order_than_they_began() -> None:
    first, second, third = agent_session("first"), agent_session("second"), agent_session("third")
    runs = [manager.__enter__() for manager in (first, second, third)]
    second.__exit__(None, None, None)
    assert current_session() == runs[2]
    third.__exit__(None, None, None)
    assert current_session() == runs[0]
    first.__exit__(None, None, None)
    assert current_session() is None
    assert {event.agent: event.session for event in session_ends()} == {run.agent: run.id for run in runs}


# -- as decorator


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


# -- at once


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


# -- where the running code finds its session


def test_there_is_no_session_outside_any() -> None:
    assert current_session() is None
    sample_tools.double(1)  # begins the implicit one
    assert current_session() is None


def test_a_tool_called_outside_any_session_runs_in_the_implicit_one() -> None:
    found, _ = sample_tools.session_here()
    (implicit,) = [event for event in all_events() if isinstance(event, SessionStarted)]
    assert implicit.implicit
    assert found == call().session == implicit.session


def test_the_implicit_session_is_nobodys_parent() -> None:
    sample_tools.double(1)
    with agent_session("a"):
        pass
    assert session("a").parent_session is None


def test_tasks_are_in_the_session_they_were_made_in() -> None:
    async def main() -> None:
        async with agent_session("a") as run:
            task = asyncio.create_task(find())
            async with asyncio.TaskGroup() as group:
                other = group.create_task(find())
        assert await task == other.result() == run.id
        assert await find() is None

    async def find() -> str | None:
        await asyncio.sleep(0)
        found = current_session()
        return found.id if found else None

    asyncio.run(main())


def test_asyncio_to_thread_stays_in_the_session() -> None:
    async def main() -> None:
        async with agent_session("a") as run:
            found, _ = await asyncio.to_thread(sample_tools.session_here)
            assert found == run.id

    asyncio.run(main())


def test_a_copied_context_carries_the_session_into_a_thread_pool() -> None:
    with agent_session("a") as run, ThreadPoolExecutor(1) as pool:
        carried = pool.submit(contextvars.copy_context().run, sample_tools.session_here)
        assert carried.result()[0] == run.id


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


def test_a_thread_without_a_session_never_joins_one_that_happens_to_be_open() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(sample_tools.double, 0).result()  # the thread exists before the sessions
        with agent_session("a") as a, agent_session("b") as b:
            pool.submit(sample_tools.double, 1).result()
            assert pool.submit(current_session).result() is None
    owners = {event.session for event in calls()}
    assert owners.isdisjoint({a.id, b.id})
    (implicit,) = [event for event in all_events() if isinstance(event, SessionStarted) and event.implicit]
    assert owners == {implicit.session}


def test_two_sessions_in_two_threads_keep_their_calls_apart() -> None:
    gate = threading.Barrier(2)

    def work(name: str) -> None:
        with agent_session(name):
            gate.wait(30)
            tool(f"tool of {name}")(lambda: None)()
            gate.wait(30)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["a", "b"]))
    for name in ("a", "b"):
        assert call(f"tool of {name}").session == session(name).session


def test_the_span_is_the_innermost_of_the_running_code_in_this_session() -> None:
    with agent_session("a") as run:
        root = run.span
        with run.step("x"):
            assert run.span != root
            with agent_session("b"):
                assert run.span == root
        assert run.span == root


# -- entered in one context, left in another


def test_a_session_may_be_left_in_another_context_than_it_was_entered_in() -> None:
    manager = agent_session("a")
    contextvars.copy_context().run(manager.__enter__)
    assert current_session() is None
    manager.__exit__(None, None, None)
    assert session_end("a").status == "completed"


def test_a_session_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    async def main() -> None:
        manager = agent_session("a")
        await asyncio.create_task(manager.__aenter__())
        await asyncio.create_task(manager.__aexit__(None, None, None))

    asyncio.run(main())
    assert session_end("a").status == "completed"


def test_a_context_that_remembers_an_ended_run_of_an_object_leaves_the_right_one() -> None:
    manager = agent_session("a")
    with manager:
        remembering = contextvars.copy_context()
    contextvars.copy_context().run(manager.__enter__)
    remembering.run(manager.__exit__, None, None, None)
    assert len(session_ends("a")) == len(sessions("a")) == 2


def test_leaving_a_session_that_was_never_entered_does_nothing() -> None:
    agent_session("a").__exit__(None, None, None)
    assert all_events() == []


def test_a_step_may_be_left_in_another_context_than_it_was_entered_in() -> None:
    with agent_session("a") as run:
        step = run.step("x")
        contextvars.copy_context().run(step.__enter__)
        step.__exit__(None, None, None)
    assert [event.status for event in step_ends()] == ["ok"]


def test_a_tool_generator_begun_in_one_session_stays_in_it() -> None:
    with agent_session("a"):
        generator = sample_tools.halves(8)
        next(generator)
    with agent_session("b"):
        list(generator)
    assert call("halves").session == session("a").session


# -- reproducible in tests


def test_clock_and_ids_can_be_chosen(own_store: Any) -> None:
    with isolated_store(own_store, clock=FakeClock(), ids=SequentialIds()) as store:
        with agent_session("a") as run:
            functools.partial(sample_tools.double, 1)()
        kinds = {type(event): event for event in store.events()}
    assert run.id == f"{1:032x}"
    assert kinds[SessionStarted].span == f"{2:016x}"
    assert kinds[SessionEnded].duration_ns == 0


def test_a_child_gets_its_environment_even_where_no_store_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise StoreUnavailable("no home")

    with agent_session("a") as run:
        monkeypatch.setattr("pyjama_instrument.recording.session.home_to_write", nowhere)
        env = run.env({})
    assert env.keys() == {"TRACEPARENT", "PYJAMA_PARENT", "PYJAMA_AGENT"}


# -- entered here, left there


def test_a_session_that_is_left_in_another_thread_is_nobody_s_parent_afterwards() -> None:
    with agent_session("first"):
        before = len(session_module._entered.get())
    for _ in range(3):
        entered = agent_session("a")
        entered.__enter__()
        thread = threading.Thread(target=entered.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
    assert [event.parent_session for event in sessions("a")] == [None] * 3
    assert len(session_ends("a")) == 3
    with agent_session("last"):
        assert len(session_module._entered.get()) == before


def test_a_session_that_is_left_in_another_thread_leads_back_to_the_one_around_it() -> None:
    with agent_session("outer") as outer:
        entered = agent_session("a")
        entered.__enter__()
        thread = threading.Thread(target=entered.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        with agent_session("b"):
            pass
    assert session("b").parent_session == outer.id


def test_a_session_begun_in_what_an_ended_one_has_left_running_is_still_its_child() -> None:
    with agent_session("a") as run:
        context = contextvars.copy_context()

    def begins() -> None:
        with agent_session("b"):
            pass

    context.run(begins)
    assert session("b").parent_session == run.id


def test_no_more_attributes_are_kept_to_be_told_again_than_the_store_keeps() -> None:
    with agent_session("a") as run:
        for number in range(300):
            run.annotate(**{f"key{number}": number})
        run.annotate(key5="new")
        kept = run._state.standing["attributes"]["attributes"]
    assert len(kept) == LIMITS["attributes"]
    assert kept["key5"] == "new"
