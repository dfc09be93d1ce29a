"""What the original shared metrics could do, row by row, works here.

The row about its test script, which is now ``pyjama demo``, is in tests/process/test_demo.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import flush, hooks, tool
from pyjama_instrument import shared_metrics as shared
from pyjama_instrument.recording.settings import reset_for_testing
from pyjama_instrument.viewer import Dashboard, start_dashboard
from pyjama_instrument.viewer.server import DEFAULT_PORT
from tests.conftest import RunPython
from tests.unit.recorded import remove_tree

HANG_SECONDS = 30.0


def _eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + HANG_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return found


def _get(dashboard: Dashboard, path: str) -> bytes:
    with urllib.request.urlopen(f"{dashboard.url.rstrip('/')}{path}", timeout=HANG_SECONDS) as answer:
        body: bytes = answer.read()
        return body


def _execute(times: int = 1, *, agent: str = "a", name: str = "write-file", status: str = "ok") -> None:
    for _ in range(times):
        shared.record_tool_execution(tool_name=name, agent_id=agent, status=status, duration_ms=40.0)


@contextlib.contextmanager
def _python(source: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, killed at the end if it still runs."""
    command = [sys.executable, "-W", "error", "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def _says(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == line + "\n"


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with start_dashboard(0) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_hooks_left() -> Iterator[None]:
    yield
    hooks.clear_hooks()


def test_the_store_is_made_in_the_home_directory_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYJAMA_HOME")
    reset_for_testing(None)
    store = Path.home() / ".pyjama"
    assert not store.exists()
    _execute()
    assert flush()
    assert json.loads((store / "metrics.json").read_text())["global"]["count"] == 1
    assert not (store / "metrics.lock").exists()  # it exists only while somebody rewrites metrics.json


def test_agents_in_separate_processes_write_and_another_process_reads(
    run_python: RunPython, dashboard: Dashboard
) -> None:
    source = (
        "import sys; from pyjama_instrument import shared_metrics as shared\n"
        "shared.record_agent_start(sys.argv[1])\n"
        "shared.record_tool_execution(tool_name='t', agent_id=sys.argv[1], status='ok', duration_ms=1)\n"
        "shared.record_agent_complete(sys.argv[1])\n"
    )
    for agent in ("first", "second"):
        run_python(source, agent)
    data = json.loads(_get(dashboard, "/api/data"))
    assert {name: agent["status"] for name, agent in data["agents"].items()} == {
        "first": "completed",
        "second": "completed",
    }
    assert data["metrics"]["tools"]["t"]["count"] == 2


def test_record_agent_start() -> None:
    before = time.time_ns() // 1_000_000
    shared.record_agent_start("a", {"model": "m"})
    agent = shared.get_dashboard_data()["agents"]["a"]
    assert agent["status"] == "running"
    assert before <= agent["start-time"] <= agent["last-seen"]
    assert agent["end-time"] is None
    assert shared.get_dashboard_data()["specs"] == {"a": {"model": "m"}}


def test_record_agent_activity() -> None:
    shared.record_agent_activity(agent_id="a", tool_name="t", status="ok")
    (entry,) = shared.get_dashboard_data()["recent-logs"]
    assert (entry["agent-id"], entry["tool"], entry["status"]) == ("a", "t", "ok")


def test_record_agent_complete() -> None:
    shared.record_agent_start("a")
    shared.record_agent_complete("a")
    agent = shared.get_dashboard_data()["agents"]["a"]
    assert agent["status"] == "completed"
    assert agent["end-time"] >= agent["start-time"]


def test_record_tool_execution() -> None:
    _execute(152)
    _execute(4, status="error")
    metrics = shared.get_dashboard_data()["metrics"]
    for counts in (metrics["global"], metrics["tools"]["write-file"], metrics["agents"]["a"]):
        assert (counts["count"], counts["success"], counts["error"]) == (156, 152, 4)
        assert counts["total-duration"] == pytest.approx(156 * 40.0)


def test_record_step_start_step_complete_and_workflow_info() -> None:
    shared.record_agent_start("a")
    shared.record_workflow_info("a", ["discover", "analyze"])
    shared.record_step_start("a", "discover")
    shared.record_step_complete("a", "discover", "ok")
    shared.record_step_start("a", "analyze")
    agent = shared.get_dashboard_data()["agents"]["a"]
    assert agent["workflow"] == {"total-steps": 2, "steps": ["discover", "analyze"]}
    assert agent["current-step"] == "analyze"
    steps = [(step["step-id"], step["status"]) for step in agent["steps"]]
    assert steps == [("discover", "ok"), ("analyze", "running")]


def test_get_dashboard_data_read_metrics_and_clear_metrics() -> None:
    _execute(3)
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 3
    assert shared.read_metrics()["global"]["count"] == 3
    shared.clear_metrics()
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 0
    assert shared.read_metrics()["global"]["count"] == 0


def test_hooks_can_be_registered_looked_up_and_taken_back() -> None:
    order: list[str] = []

    def before(_: hooks.ToolCall) -> None:
        order.append("before")

    def after(call: hooks.ToolCall) -> None:
        order.append(f"after {call.result}")

    hooks.register_pre_hook("work", before)
    hooks.register_hook("work", after)
    assert hooks.get_hooks("work") == (after,)
    work = tool("work")(lambda: 5)
    work()
    hooks.unregister_pre_hook("work", before)
    work()
    hooks.clear_hooks()
    work()
    assert order == ["before", "after 5", "after 5"]


def test_shared_metrics_hook_is_a_hook_that_records() -> None:
    shared.shared_metrics_hook({"tool-name": "t", "ctx": {"id": "a"}, "result": {"status": "ok"}})
    hooks.register_hook("*", shared.shared_metrics_hook)
    tool("decorated")(lambda: None)()
    tools = shared.get_dashboard_data()["metrics"]["tools"]
    assert {name: counts["count"] for name, counts in tools.items()} == {"t": 1, "decorated": 1}


def test_start_dashboard_serves_the_page_and_the_data(dashboard: Dashboard) -> None:
    _execute()
    assert _get(dashboard, "/").lower().startswith(b"<!doctype html>")
    served, data = json.loads(_get(dashboard, "/api/data")), shared.get_dashboard_data()
    assert served["metrics"]["tools"]["write-file"]["count"] == 1
    assert set(served) >= set(data)


def test_the_dashboards_own_port_is_the_originals() -> None:
    assert DEFAULT_PORT == 8080


def test_the_command_starts_the_dashboard_on_a_port() -> None:
    command = [sys.executable, "-W", "error", "-m", "pyjama_instrument", "dashboard", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            address = next(word for word in child.stdout.readline().split() if word.startswith("http://"))
            _execute()
            with urllib.request.urlopen(f"{address.rstrip('/')}/api/data", timeout=HANG_SECONDS) as answer:
                assert json.load(answer)["metrics"]["global"]["count"] == 1
        finally:
            child.kill()


def test_the_page_is_told_of_news_as_they_happen(dashboard: Dashboard) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=HANG_SECONDS)
    connection.request("GET", "/api/stream")
    stream = connection.getresponse()
    with contextlib.closing(connection), stream:
        assert b'"news agent"' not in _next_view(stream)
        shared.record_agent_start("news agent")
        while b'"news agent"' not in _next_view(stream):
            pass


def _next_view(stream: http.client.HTTPResponse) -> bytes:
    while line := stream.readline():
        if line.startswith(b"data: "):
            return line
    raise EOFError


def test_the_agents_workflow_is_drawn_as_a_mermaid_diagram(dashboard: Dashboard) -> None:
    shared.record_agent_start("a")
    shared.record_workflow_info("a", ["discover", "analyze", "report"])
    shared.record_step_start("a", "discover")
    shared.record_step_complete("a", "discover", "ok")
    shared.record_step_start("a", "analyze")
    diagram = _get(dashboard, "/api/agent/a/diagram").decode()
    assert diagram.startswith(("graph", "flowchart"))
    for step in ("discover", "analyze", "report"):
        assert step in diagram


def test_past_runs_of_an_agent_are_kept() -> None:
    for status in ("completed", "failed", "cancelled"):
        shared.record_agent_start("a")
        shared.record_agent_complete("a", status)
    shared.record_agent_start("a")
    data = shared.get_dashboard_data()
    assert sorted(session["status"] for session in data["sessions"].values()) == [
        "cancelled",
        "completed",
        "failed",
        "running",
    ]
    runs = data["agents"]["a"]["runs"]
    assert (runs["count"], runs["running"], runs["completed"], runs["failed"], runs["cancelled"]) == (4, 1, 1, 1, 1)


@pytest.mark.parametrize("status", ["ok", "error", "cancelled"])
def test_statuses_of_calls(status: str) -> None:
    _execute(status=status)
    assert shared.get_dashboard_data()["recent-logs"][0]["status"] == status


def test_an_agent_whose_process_was_killed_is_crashed() -> None:
    source = (
        "from pyjama_instrument import agent_session, tool\n"
        "with agent_session('doomed'): tool('last words')(lambda: (print('ready', flush=True), input()))()"
    )
    with _python(source) as child:
        _says(child, "ready")
        assert shared.get_dashboard_data()["agents"]["doomed"]["status"] == "running"
        child.send_signal(signal.SIGKILL)
        child.wait(HANG_SECONDS)
        assert shared.get_dashboard_data()["agents"]["doomed"]["status"] == "crashed"
        (session,) = shared.get_dashboard_data()["sessions"].values()
        assert [call["tool"] for call in session["interrupted"]] == ["last words"]


def test_the_last_100_log_entries_are_kept() -> None:
    for number in range(150):
        _execute(name=f"tool {number}")
    flush()
    logs = shared.get_dashboard_data()["recent-logs"]
    assert len(logs) == 100
    assert {entry["tool"] for entry in logs} == {f"tool {number}" for number in range(50, 150)}


def test_metrics_json_is_always_valid_and_follows_a_running_agent(own_store: Path) -> None:
    source = (
        "from pyjama_instrument import shared_metrics as shared\n"
        "shared.record_agent_start('agent')\n"
        "for _ in range(25):\n"
        "    shared.record_tool_execution(tool_name='t', agent_id='agent', status='ok', duration_ms=1)\n"
        "print('ready', flush=True)\n"
        "input()\n"
    )
    with _python(source) as child:
        _says(child, "ready")
        snapshot = own_store / "metrics.json"

        def current() -> bool:
            if not snapshot.exists():
                return False
            document = json.loads(snapshot.read_text())  # complete whenever it is there
            return bool(document.get("tools", {}).get("t", {}).get("count") == 25)

        _eventually(current)
        assert json.loads(snapshot.read_text())["agents"]["agent"]["status"] == "running"


def test_metrics_survive_the_programs_that_recorded_them(run_python: RunPython) -> None:
    source = (
        "from pyjama_instrument import shared_metrics as shared\n"
        "shared.record_tool_execution(tool_name='t', agent_id='a', status='ok', duration_ms=1)"
    )
    for _ in range(3):
        run_python(source)
    assert shared.get_dashboard_data()["metrics"]["tools"]["t"]["count"] == 3


def test_removing_metrics_json_clears_also_while_agents_run(own_store: Path) -> None:
    shared.record_agent_start("a")
    _execute(5)
    assert flush()
    (own_store / "metrics.json").unlink()
    _eventually(lambda: flush() and shared.get_dashboard_data()["metrics"]["global"]["count"] == 0)
    _execute(2)
    assert flush()
    data = shared.get_dashboard_data()
    assert data["metrics"]["global"]["count"] == 2
    assert data["agents"]["a"]["status"] == "running"


def test_removing_the_store_clears_also_while_agents_run(own_store: Path) -> None:
    shared.record_agent_start("a")
    _execute(5)
    assert flush()
    remove_tree(own_store)

    def told_again() -> bool:
        return shared.get_dashboard_data()["agents"].get("a", {}).get("status") == "running"

    _eventually(told_again)  # by the recorder itself, once it has noticed
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 0
    _execute(2)
    assert shared.get_dashboard_data()["metrics"]["global"]["count"] == 2


def test_a_process_killed_while_it_held_the_lock_blocks_nobody(own_store: Path) -> None:
    _execute()
    source = (
        "import os\nfrom pyjama_instrument.storage.snapshot_lock import hold_original_lock, try_lock\n"
        "fd = os.open(os.environ['PYJAMA_HOME'], os.O_RDONLY)\n"
        "with try_lock(fd, wait_seconds=20.0) as got, hold_original_lock(fd, wait_seconds=20.0) as marked:\n"
        "    assert got and marked\n"
        "    print('locked', flush=True)\n"
        "    input()\n"
    )
    with _python(source) as child:
        _says(child, "locked")
        assert (own_store / "metrics.lock").exists()
        assert not flush(0.0)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(HANG_SECONDS)
        assert flush()
    assert not (own_store / "metrics.lock").exists()
    assert json.loads((own_store / "metrics.json").read_text())["global"]["count"] == 1


def test_the_decorator_alone_is_enough_to_appear(run_python: RunPython, tmp_path: Path) -> None:
    script = tmp_path / "my_agent.py"
    script.write_text("from pyjama_instrument import tool\n@tool\ndef search(): pass\nsearch()\n")
    run_python(script)
    data = shared.get_dashboard_data()
    assert data["agents"]["my_agent"]["status"] == "completed"
    assert data["metrics"]["tools"]["search"]["count"] == 1


def test_the_dashboard_data_have_the_originals_shape() -> None:
    shared.record_agent_start("software-versions-v2")
    shared.record_workflow_info("software-versions-v2", ["discover", "analyze"])
    shared.record_step_start("software-versions-v2", "discover")
    _execute(3, agent="software-versions-v2")
    _execute(1, agent="software-versions-v2", status="error")
    data = json.loads(json.dumps(shared.get_dashboard_data()))
    assert set(data) >= {"agents", "specs", "metrics", "recent-logs", "hooks", "timestamp"}
    agent = data["agents"]["software-versions-v2"]
    assert set(agent) >= {
        "status", "start-time", "last-seen", "end-time", "current-step", "steps", "workflow",
    }  # fmt: skip
    assert set(agent["steps"][0]) >= {"step-id", "status", "start-time", "end-time"}
    assert set(data["metrics"]) >= {"global", "tools", "agents"}
    counts = data["metrics"]["global"]
    assert counts["success-rate"] == 0.75
    assert counts["avg-duration-ms"] == pytest.approx(40.0)
    assert counts["throughput"] == pytest.approx(25.0)
    for name in ("p50-ms", "p95-ms", "p99-ms"):
        assert data["metrics"]["tools"]["write-file"][name] == pytest.approx(40.0, rel=0.05)
    assert set(data["recent-logs"][0]) >= {"timestamp", "agent-id", "tool", "status"}
    assert data["hooks"] == {"registered": {}}
    assert abs(data["timestamp"] - time.time() * 1000) < 60_000
