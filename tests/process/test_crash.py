"""How processes end, and what is seen of it: nothing is lost, and each ending has its own status."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pyjama_instrument.reader import Reader, get_dashboard_data, load_session
from tests.process.children import ended, killed, line_from, started, tell, the_session, until
from tests.stores import fold, snapshot

IN_A_TOOL = """
with agent_session("agent", workflow=["fetch", "report"]) as run:
    for _ in range(7):
        work()
    with run.step("fetch"):
        lasting()
"""


def test_a_process_killed_inside_a_tool_crashed_and_the_tool_is_named(own_store: Path) -> None:
    reader = Reader()
    with started(IN_A_TOOL) as child:
        assert line_from(child) == "lasting"
        before = the_session(reader.dashboard())
        assert (before.status, before.current_step) == ("running", "fetch")
        assert [call.tool for call in before.in_flight] == ["lasting"]
        killed(child)
    after = reader.dashboard()
    session = the_session(after)
    assert (session.status, session.calls) == ("crashed", 7)
    assert [call.tool for call in session.interrupted] == ["lasting"]
    assert (session.in_flight, session.current_step) == ([], None)
    assert after.agents["agent"].status == "crashed"
    assert after.recent_logs[-1].to_dict() == {
        "timestamp": session.end_time, "agent-id": "agent", "tool": "lasting", "status": "crashed",
    }  # fmt: skip


def test_a_death_is_in_the_snapshot_once_anybody_folds(own_store: Path) -> None:
    with started(IN_A_TOOL) as child:
        line_from(child)
        until(lambda: (own_store / "metrics.json").exists())
        killed(child)
    fold(own_store)
    assert snapshot(own_store)["agents"]["agent"]["status"] == "crashed"
    assert snapshot(own_store)["agents"]["agent"]["runs"]["crashed"] == 1


def test_a_death_is_seen_by_a_reader_that_comes_long_after(own_store: Path) -> None:
    with started(IN_A_TOOL) as child:
        line_from(child)
        killed(child)
    for _ in range(4):
        fold(own_store)
    assert the_session().status == "crashed"
    assert the_session().calls == 7


def test_a_stopped_process_is_still_running(own_store: Path) -> None:
    with started(IN_A_TOOL) as child:
        line_from(child)
        child.send_signal(signal.SIGSTOP)
        for _ in range(3):
            fold(own_store)
            assert the_session().status == "running"
        child.send_signal(signal.SIGCONT)
        tell(child)
        ended(child)
    assert the_session().status == "completed"


def test_a_zombie_is_dead(own_store: Path) -> None:
    # Its process id is still there, and it holds nothing.
    with started(IN_A_TOOL) as child:
        line_from(child)
        child.kill()
        until(lambda: the_session().status == "crashed")
        assert Path(f"/proc/{child.pid}").exists()


def test_all_open_spans_of_a_killed_session_crashed(own_store: Path) -> None:
    source = """
@tool
def outer():
    work()
    lasting()

with agent_session("agent") as run, run.step("one"), run.step("two"):
    outer()
"""
    with started(source) as child:
        line_from(child)
        killed(child)
    (sid,) = get_dashboard_data().sessions
    span = load_session(sid).root
    chain = []
    while span:
        chain.append((span.name, span.status))
        span = next((inner for inner in span.children if inner.status != "ok"), None)  # type: ignore[assignment]
    assert chain == [(name, "crashed") for name in ("agent", "one", "two", "outer", "lasting")]


def test_all_open_sessions_of_a_killed_process_crashed(own_store: Path) -> None:
    source = 'with agent_session("outer"), agent_session("inner"):\n    lasting()'
    with started(source) as child:
        line_from(child)
        killed(child)
    assert {name: agent.status for name, agent in get_dashboard_data().agents.items()} == {
        "outer": "crashed",
        "inner": "crashed",
    }


ENDINGS = {
    "it comes to its end": ("", 0, "completed"),
    "sys.exit()": ("sys.exit()", 0, "completed"),
    "sys.exit(0)": ("sys.exit(0)", 0, "completed"),
    "sys.exit(3)": ("sys.exit(3)", 3, "failed"),
    "an uncaught exception": ("raise ValueError('boom')", 1, "failed"),
    "KeyboardInterrupt": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", None, "cancelled"),
    "os._exit(0)": ("os._exit(0)", 0, "crashed"),
    "os.abort()": ("os.abort()", -signal.SIGABRT, "crashed"),
    "SIGTERM's default action": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM, "crashed"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)", -signal.SIGKILL, "crashed"),
}


@pytest.mark.parametrize(("source", "returncode", "status"), ENDINGS.values(), ids=ENDINGS.keys())
def test_however_a_process_ends_nothing_is_lost_and_the_status_is_right(
    own_store: Path, source: str, returncode: int | None, status: str
) -> None:
    with started(f'with agent_session("agent"):\n    [work() for _ in range(50)]\n    {source}') as child:
        child.communicate(timeout=60)
        assert returncode in (None, child.returncode)
    session = the_session()
    assert (session.status, session.calls) == (status, 50)


def test_an_uncaught_exception_is_kept_with_its_session(own_store: Path) -> None:
    with started('with agent_session("agent"):\n    work()\n    raise ValueError("boom")') as child:
        assert "ValueError: boom" in child.communicate(timeout=60)[1]
    error = the_session().error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "boom")


@pytest.mark.parametrize(
    ("source", "returncode", "status"),
    [("", 0, "completed"), ("sys.exit(0)", 0, "completed"), ("raise ValueError('boom')", 1, "failed")],
)
def test_calls_outside_any_session_belong_to_one_that_ends_with_the_program(
    own_store: Path, source: str, returncode: int, status: str
) -> None:
    with started(f"[work() for _ in range(50)]\n{source}") as child:
        ended(child, returncode)
    session = the_session()
    assert (session.status, session.calls, session.implicit) == (status, 50, True)


def test_a_call_that_is_interrupted_is_cancelled_and_the_session_too(own_store: Path) -> None:
    with started('with agent_session("agent"):\n    lasting()') as child:
        line_from(child)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
    data = get_dashboard_data()
    assert the_session(data).status == "cancelled"
    assert data.metrics.tools["lasting"].cancelled == 1


def test_a_program_that_handles_sigterm_ends_its_session_itself(own_store: Path) -> None:
    source = 'signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nwith agent_session("agent"):\n    lasting()'
    with started(source) as child:
        line_from(child)
        child.send_signal(signal.SIGTERM)
        ended(child)
    assert the_session().status == "completed"


def test_threads_that_outlive_the_main_thread_lose_nothing(own_store: Path) -> None:
    source = """
def late():
    wait()
    [work() for _ in range(20)]

threading.Thread(target=late).start()
work()
say("main thread ends")
"""
    with started(source) as child:
        line_from(child)
        tell(child)
        ended(child)
    assert get_dashboard_data().metrics.global_.count == 21


def test_what_runs_after_our_own_end_is_recorded_too(own_store: Path) -> None:
    with started("import atexit\natexit.register(work)\nwork()\natexit.register(work)") as child:
        ended(child)
    assert get_dashboard_data().metrics.global_.count == 3


def test_the_snapshot_is_complete_when_a_program_has_ended(own_store: Path) -> None:
    with started("[work() for _ in range(1000)]") as child:
        ended(child)
    assert snapshot(own_store)["global"]["count"] == 1000
    assert not list(own_store.glob("*.tmp*")) + list(own_store.glob("metrics.lock"))


def test_a_killed_process_is_dead_at_once_although_it_was_just_folding(own_store: Path) -> None:
    reader = Reader()
    with started('with agent_session("agent"):\n    say("go")\n    while True: work(), time.sleep(0.001)') as child:
        line_from(child)
        until(lambda: (own_store / "metrics.json").exists())
        killed(child)
    assert the_session(reader.dashboard()).status == "crashed"
    assert fold(own_store) == "folded"
    assert the_session(reader.dashboard()).calls == snapshot(own_store)["global"]["count"]
