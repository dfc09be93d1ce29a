"""Steps of a run."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyjama_instrument import Session, agent_session
from pyjama_instrument.events import StepStarted
from pyjama_instrument.testing import FakeClock, isolated_store
from tests.unit import sample_tools
from tests.unit.recorded import (
    all_events,
    call,
    calls,
    session,
    step_ends,
)


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


def test_a_step_may_be_left_in_another_context_than_it_was_entered_in() -> None:
    with agent_session("a") as run:
        step = run.step("x")
        contextvars.copy_context().run(step.__enter__)
        step.__exit__(None, None, None)
    assert [event.status for event in step_ends()] == ["ok"]
