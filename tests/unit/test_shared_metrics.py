"""The functional API: each function tells one thing, over the same recorder as the decorators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import agent_session, flush, hooks, tool
from pyjama_instrument import shared_metrics as shared
from pyjama_instrument.errors import ConfigError, StoreUnavailable
from pyjama_instrument.events import Activity, SessionStarted, StepStarted, WorkflowDeclared
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.settings import reset_for_testing
from pyjama_instrument.testing import FakeClock, isolated_store
from tests.conftest import RunPython
from tests.unit.recorded import all_events, call, calls, session, session_end, session_ends, sessions, step_ends


def _agent(name: str) -> dict[str, Any]:
    found: dict[str, Any] = shared.get_dashboard_data()["agents"][name]
    return found


# -- runs


def test_a_run_begins_and_ends() -> None:
    session_id = shared.record_agent_start("a")
    assert session("a").session == session_id
    assert _agent("a")["status"] == "running"
    shared.record_agent_complete("a")
    assert session_end("a").session == session_id
    assert _agent("a")["status"] == "completed"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_run_can_end_in_any_way_but_by_crashing(status: str) -> None:
    shared.record_agent_start("a")
    shared.record_agent_complete("a", status)
    assert session_end("a").status == status


def test_the_spec_is_recorded_with_the_run() -> None:
    shared.record_agent_start("a", {"model": "m", "depth": {"x": [1]}})
    assert session("a").spec == {"model": "m", "depth": {"x": [1]}}
    assert shared.get_dashboard_data()["specs"]["a"] == {"model": "m", "depth": {"x": [1]}}


def test_a_run_lasts_from_its_start_to_its_end(own_store: Any) -> None:
    clock = FakeClock()
    with isolated_store(own_store, clock=clock):
        shared.record_agent_start("a")
        clock.advance(3)
        shared.record_agent_complete("a")
        assert session_end("a").duration_ns == 3_000_000_000


def test_runs_of_different_agents_are_kept_apart() -> None:
    shared.record_agent_start("a")
    shared.record_agent_start("b")
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    shared.record_agent_complete("a")
    assert call("t").session == session("a").session
    assert [event.agent for event in session_ends()] == ["a"]
    assert _agent("b")["status"] == "running"


def test_a_second_start_begins_a_second_run() -> None:
    first = shared.record_agent_start("a")
    second = shared.record_agent_start("a")
    assert first != second
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    assert call("t").session == second


def test_an_agent_that_was_not_started_gets_a_run_with_its_first_event() -> None:
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    (implicit,) = sessions("a")
    assert implicit.implicit
    assert {event.session for event in calls("t")} == {implicit.session}


def test_an_event_after_the_end_of_a_run_begins_another() -> None:
    shared.record_agent_start("a")
    shared.record_agent_complete("a")
    shared.record_agent_activity(agent_id="a", status="ok")
    assert len(sessions("a")) == 2


def test_completing_an_agent_that_was_not_started_shows_a_completed_run() -> None:
    shared.record_agent_complete("a")
    assert _agent("a")["status"] == "completed"


def test_a_run_left_open_ends_with_the_program_only_if_nobody_began_it(run_python: RunPython) -> None:
    run_python(
        "from pyjama_instrument import shared_metrics as shared\n"
        "shared.record_agent_start('begun')\n"
        "shared.record_agent_activity(agent_id='not begun', status='ok')\n"
    )
    assert [event.agent for event in session_ends()] == ["not begun"]
    assert _agent("begun")["status"] == "crashed"


def test_a_run_of_the_functional_api_is_not_the_session_that_decorated_tools_join() -> None:
    shared.record_agent_start("a")
    tool("t")(lambda: None)()
    with agent_session("b"):
        shared.record_tool_execution(tool_name="u", agent_id="a", status="ok", duration_ms=1)
    assert call("t").session != session("a").session
    assert call("u").session == session("a").session
    assert session("b").parent_session is None


def test_a_forked_child_begins_a_run_of_its_own(run_python: RunPython) -> None:
    run_python(
        "import os\nfrom pyjama_instrument import shared_metrics as shared\n"
        "shared.record_agent_start('a')\n"
        "pid = os.fork()\n"
        "shared.record_tool_execution(tool_name='t', agent_id='a', status='ok', duration_ms=1)\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "shared.record_agent_complete('a')\n"
    )
    assert len({event.session for event in calls("t")}) == 2
    assert len(session_ends("a")) == 1


# -- what happens in a run


@pytest.mark.parametrize("status", ["ok", "error", "cancelled"])
def test_a_tool_execution_is_recorded_as_told(status: str) -> None:
    shared.record_tool_execution(tool_name="t", agent_id="a", status=status, duration_ms=12.5)
    recorded = call("t")
    assert (recorded.status, recorded.duration_ns, recorded.agent) == (status, 12_500_000, "a")


def test_tool_executions_add_up() -> None:
    for status, duration_ms in (("ok", 1), ("ok", 2.5), ("error", 0)):
        shared.record_tool_execution(tool_name="t", agent_id="a", status=status, duration_ms=duration_ms)
    metrics = shared.get_dashboard_data()["metrics"]
    assert metrics["tools"]["t"]["count"] == metrics["global"]["count"] == metrics["agents"]["a"]["count"] == 3
    assert (metrics["global"]["success"], metrics["global"]["error"]) == (2, 1)
    assert metrics["global"]["total-duration"] == 3.5


def test_an_activity_is_logged_and_not_counted() -> None:
    shared.record_agent_activity(agent_id="a", tool_name="t", status="thinking")
    shared.record_agent_activity(agent_id="a", status="thinking")
    first, second = (event for event in all_events() if isinstance(event, Activity))
    assert (first.tool, first.status) == ("t", "thinking")
    assert second.tool is None
    data = shared.get_dashboard_data()
    assert [entry["status"] for entry in data["recent-logs"]] == ["thinking", "thinking"]
    assert data["metrics"]["global"]["count"] == 0


def test_a_workflow_is_declared_and_replaced() -> None:
    shared.record_agent_start("a")
    shared.record_workflow_info("a", ["x"])
    shared.record_workflow_info("a", ("x", "y"))
    assert [event.steps for event in all_events() if isinstance(event, WorkflowDeclared)] == [("x",), ("x", "y")]
    assert _agent("a")["workflow"] == {"total-steps": 2, "steps": ["x", "y"]}


@pytest.mark.parametrize("status", ["ok", "error", "cancelled"])
def test_a_step_begins_and_ends(own_store: Any, status: str) -> None:
    clock = FakeClock()
    with isolated_store(own_store, clock=clock):
        shared.record_agent_start("a")
        shared.record_step_start("a", "x")
        clock.advance(2)
        shared.record_step_complete("a", "x", status)
        (started,) = (event for event in all_events() if isinstance(event, StepStarted))
        (ended,) = step_ends()
    assert started.span == ended.span
    assert (ended.step, ended.status, ended.duration_ns) == ("x", status, 2_000_000_000)


def test_a_step_that_was_not_started_can_be_completed() -> None:
    shared.record_step_complete("a", "x")
    assert [(step.step, step.status) for step in step_ends()] == [("x", "ok")]


def test_the_current_step_is_the_one_that_has_begun() -> None:
    shared.record_agent_start("a")
    shared.record_step_start("a", "x")
    assert _agent("a")["current-step"] == "x"
    shared.record_step_complete("a", "x", "ok")
    shared.record_step_start("a", "y")
    assert _agent("a")["current-step"] == "y"
    assert [(step["step-id"], step["status"]) for step in _agent("a")["steps"]] == [("x", "ok"), ("y", "running")]


def test_steps_of_a_run_are_forgotten_with_it() -> None:
    shared.record_agent_start("a")
    shared.record_step_start("a", "x")
    shared.record_agent_complete("a")
    shared.record_agent_start("a")
    shared.record_step_complete("a", "x")
    (started,) = (event for event in all_events() if isinstance(event, StepStarted))
    assert step_ends()[0].span != started.span


def test_many_threads_may_record_at_once() -> None:
    def work(number: int) -> None:
        for _ in range(100):
            shared.record_tool_execution(tool_name="t", agent_id=f"a{number % 2}", status="ok", duration_ms=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert shared.get_dashboard_data()["metrics"]["tools"]["t"]["count"] == 400
    assert sorted(event.agent for event in all_events() if isinstance(event, SessionStarted)) == ["a0", "a1"]


# -- the hook


@pytest.fixture
def _no_hooks_left() -> Iterator[None]:
    yield
    hooks.clear_hooks()


def test_the_hook_records_the_call_it_is_told_of() -> None:
    shared.shared_metrics_hook({"tool_name": "t", "ctx": {"id": "a"}, "result": {"status": "error"}, "duration_ms": 2})
    recorded = call("t")
    assert (recorded.agent, recorded.status, recorded.duration_ns) == ("a", "error", 2_000_000)


def test_the_hook_understands_the_originals_spelling() -> None:
    shared.shared_metrics_hook({"tool-name": "t", "ctx": {"id": "a"}, "result": {"status": ":ok"}, "duration-ms": 2})
    assert (call("t").status, call("t").duration_ns) == ("ok", 2_000_000)


@pytest.mark.parametrize("result", [None, {}, "text", {"other": 1}])
def test_a_result_without_a_status_is_ok(result: Any) -> None:
    shared.shared_metrics_hook({"tool_name": "t", "ctx": {"id": "a"}, "result": result})
    assert (call("t").status, call("t").duration_ns) == ("ok", 0)


@pytest.mark.usefixtures("_no_hooks_left")
def test_as_a_registered_hook_it_does_not_count_a_decorated_tool_twice() -> None:
    hooks.register_hook("*", shared.shared_metrics_hook)
    tool("t")(lambda: None)()
    assert len(calls()) == 1


# -- reading and clearing


def test_read_metrics_is_the_snapshot_brought_up_to_date() -> None:
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    assert shared.read_metrics()["tools"]["t"]["count"] == 1
    assert flush()
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    assert shared.read_metrics()["tools"]["t"]["count"] == 2


def test_reading_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert shared.get_dashboard_data(missing)["agents"] == {}
    assert shared.read_metrics(str(missing))["agents"] == {}
    assert not missing.exists()


def test_clearing_starts_totals_from_zero_and_keeps_running_sessions() -> None:
    shared.record_agent_start("running")
    shared.record_agent_complete("ended")
    shared.record_tool_execution(tool_name="t", agent_id="running", status="ok", duration_ms=1)
    shared.clear_metrics()
    data = shared.get_dashboard_data()
    assert data["metrics"]["global"]["count"] == 0
    assert set(data["agents"]) == {"running"}
    shared.record_tool_execution(tool_name="t", agent_id="running", status="ok", duration_ms=1)
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 1


def test_clearing_an_empty_store_works() -> None:
    shared.clear_metrics()
    assert shared.get_dashboard_data()["agents"] == {}


def test_another_store_can_be_cleared(tmp_path: Path) -> None:
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    shared.clear_metrics(tmp_path / "another")
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 1


def test_what_cannot_be_cleared_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        shared.clear_metrics(tmp_path / "file")


@pytest.mark.parametrize("home", ["", " ", 5, b"bytes", "a\0b", object()])
def test_a_home_that_cannot_be_a_path_is_refused(home: Any) -> None:
    for function in (shared.get_dashboard_data, shared.read_metrics, shared.clear_metrics):
        with pytest.raises(ConfigError, match="home"):
            function(home)


def test_an_unwritable_place_never_raises_when_recording(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_store.write_text("a file where the store should be")
    reset_for_testing(os.fspath(own_store))
    shared.record_agent_start("a")
    shared.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1)
    shared.record_agent_complete("a")
    assert not flush(0.1)
    assert own_store.read_text() == "a file where the store should be"
    assert "Traceback" not in capsys.readouterr().err


# -- what nobody ends


def test_agents_that_nobody_ends_are_completed_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST_IMPLICIT", 3)
    for agent in ("a", "b", "c", "a", "d", "e"):
        shared.record_tool_execution(tool_name="t", agent_id=agent, status="ok", duration_ms=1)
    assert [end.agent for end in session_ends()] == ["b", "c"]
    shared.record_tool_execution(tool_name="t", agent_id="b", status="ok", duration_ms=1)
    assert [end.agent for end in session_ends()] == ["b", "c", "a"]
    assert _agent("b")["runs"] | {"count": 2, "running": 1, "completed": 1} == _agent("b")["runs"]
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 7


def test_runs_that_were_begun_are_not_ended_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST_IMPLICIT", 2)
    shared.record_agent_start("begun")
    for agent in ("a", "b", "c", "d"):
        shared.record_agent_activity(agent_id=agent, status="s")
    assert [end.agent for end in session_ends()] == ["a", "b"]
    shared.record_agent_complete("c")
    assert [end.agent for end in session_ends()] == ["a", "b", "c"]
    shared.record_agent_activity(agent_id="e", status="s")
    assert len(session_ends()) == 3


def test_a_step_that_begins_again_and_again_is_kept_once() -> None:
    for _ in range(50):
        shared.record_step_start("a", "poll")
    (state,) = (state for state in recorder.sessions.open.values() if state.agent == "a")
    assert len(state.open_records) == 2  # the session's start, and the step's
