"""Runs that end in another order, context or thread than they were entered in."""

from __future__ import annotations

import asyncio
import contextvars
import threading

from pyjama_instrument import agent_session, current_session, tool
from pyjama_instrument.recording import entered_runs
from tests.unit.recorded import (
    all_events,
    session,
    session_end,
    session_ends,
    sessions,
)


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


def test_a_session_that_is_left_in_another_thread_is_nobody_s_parent_afterwards() -> None:
    with agent_session("first"):
        before = len(entered_runs._entered.get())
    for _ in range(3):
        entered = agent_session("a")
        entered.__enter__()
        thread = threading.Thread(target=entered.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
    assert [event.parent_session for event in sessions("a")] == [None] * 3
    assert len(session_ends("a")) == 3
    with agent_session("last"):
        assert len(entered_runs._entered.get()) == before


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
