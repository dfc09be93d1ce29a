"""Sessions: how they begin, nest and end, and where the running code finds the one it is in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyjama_instrument import agent_session, current_session, tool
from pyjama_instrument.events import Annotation, SessionEnded, SessionStarted, WorkflowDeclared
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.testing import FakeClock, SequentialIds, isolated_store
from tests.unit import sample_tools
from tests.unit.recorded import (
    all_events,
    call,
    calls,
    session,
    session_end,
    session_ends,
    sessions,
)

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


def test_code_in_a_run_can_make_it_fail_or_cancel_it_without_being_given_it() -> None:
    def fail_deep_inside() -> None:
        run = current_session()
        assert run is not None
        run.fail("no pages")

    with agent_session("a"):
        tool("work")(fail_deep_inside)()
    ended = session_end("a")
    assert ended.error is not None
    assert (ended.status, ended.error.message) == ("failed", "no pages")
    with agent_session("b"):
        current_session().cancel()  # type: ignore[union-attr]  # there is one
    assert session_end("b").status == "cancelled"


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


# -- what is recorded about a session


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


# -- where the running code finds its session


def test_there_is_no_session_outside_any() -> None:
    assert current_session() is None
    sample_tools.double(1)  # begins the implicit one
    assert current_session() is None


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


def test_no_more_attributes_are_kept_to_be_told_again_than_the_store_keeps() -> None:
    with agent_session("a") as run:
        for number in range(300):
            run.annotate(**{f"key{number}": number})
        run.annotate(key5="new")
        kept = run._state.open_records["attributes"]["attributes"]
    assert len(kept) == LIMITS["attributes"]
    assert kept["key5"] == "new"
