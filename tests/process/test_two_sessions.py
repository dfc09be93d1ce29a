"""Runs of one agent in several processes at once: all visible, counted apart, none in the way of another."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pyjama_instrument.reader import get_dashboard_data, load_session
from tests.process.children import ended, killed, line_from, started, tell

AGENT = """
calls = int(sys.argv[1])
with agent_session("researcher", tags={"calls": calls}) as run, run.step(f"step of {calls}"):
    for _ in range(calls):
        work()
    say("ready")
    wait()
"""


def test_two_runs_of_one_agent_are_both_visible_and_counted_apart(own_store: Path) -> None:
    with started(AGENT, "3") as one, started(AGENT, "5") as other:
        for child in (one, other):
            line_from(child)
        data = get_dashboard_data()
        assert {session.calls: session.status for session in data.sessions.values()} == {3: "running", 5: "running"}
        assert {session.current_step for session in data.sessions.values()} == {"step of 3", "step of 5"}
        assert len({session.writer for session in data.sessions.values()}) == 2
        assert data.agents["researcher"].runs.to_dict() == {
            "count": 2, "running": 2, "completed": 0, "failed": 0, "cancelled": 0, "crashed": 0, "ended": 0,
        }  # fmt: skip
        tell(one)
        ended(one)
        data = get_dashboard_data()
        assert {session.calls: session.status for session in data.sessions.values()} == {3: "completed", 5: "running"}
        assert data.agents["researcher"].status == "running"
        killed(other)
    data = get_dashboard_data()
    assert {session.calls: session.status for session in data.sessions.values()} == {3: "completed", 5: "crashed"}
    runs = data.agents["researcher"].runs
    assert (runs.count, runs.running, runs.completed, runs.crashed) == (2, 0, 1, 1)
    assert data.metrics.global_.count == data.metrics.agents["researcher"].count == 8


def test_each_run_has_a_tree_of_its_own(own_store: Path) -> None:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(started(AGENT, calls)) for calls in ("1", "2")]
        for child in children:
            line_from(child)
            tell(child)
            ended(child)
    for sid, session in get_dashboard_data().sessions.items():
        (step,) = load_session(sid).root.children
        assert step.name == f"step of {session.calls}"
        assert len(step.children) == session.calls


def test_a_child_process_joins_the_run_it_was_started_by(own_store: Path) -> None:
    source = """
import subprocess
with agent_session("parent") as run, run.step("outside"):
    work()
    child = "from pyjama_instrument import tool; tool('inside')(abs)(1)"
    subprocess.run([sys.executable, "-W", "error", "-c", child], env=run.env(), check=True)
"""
    with started(source) as child:
        ended(child)
    data = get_dashboard_data()
    ((sid, session),) = data.sessions.items()
    assert (session.agent_id, session.calls, session.status) == ("parent", 2, "completed")
    (step,) = load_session(sid).root.children
    assert [(span.name, span.status) for span in step.children] == [("work", "ok"), ("inside", "ok")]
    assert len({span.writer for span in step.children}) == 2
