"""A session in several processes: forked, spawned, pooled, started as programs of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument import agent_session
from pyjama_instrument.events import SessionStarted
from tests.conftest import RunPython
from tests.unit.recorded import all_events, call, calls, session, session_end, session_ends, sessions, step_ends

_HEX32, _HEX16 = "[0-9a-f]{32}", "[0-9a-f]{16}"


def _run_child(source: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def _script(directory: Path, name: str, source: str) -> Path:
    path = directory / name
    path.write_text(source)
    return path


def _implicit_sessions() -> list[SessionStarted]:
    return [event for event in all_events() if isinstance(event, SessionStarted) and event.implicit]


# -- child programs


def test_env_is_the_environment_with_the_session_added() -> None:
    with agent_session("a") as run:
        added = {name: value for name, value in run.env().items() if os.environ.get(name) != value}
        assert set(os.environ) <= set(run.env())
    assert set(added) == {"TRACEPARENT", "PYJAMA_PARENT", "PYJAMA_AGENT"}
    assert "PYJAMA_PARENT" not in os.environ


def test_env_starts_from_what_it_is_given() -> None:
    with agent_session("a") as run:
        given = {"ONLY": "this"}
        names = {"ONLY", "TRACEPARENT", "PYJAMA_PARENT", "PYJAMA_AGENT", "PYJAMA_HOME"}
        assert set(run.env(given)) == names
        assert given == {"ONLY": "this"}


def test_env_names_the_session_in_the_w3c_format() -> None:
    with agent_session("a") as run, run.step("x"):
        environment = run.env()
        assert environment["TRACEPARENT"] == f"00-{run.id}-{run.span}-01"
        assert re.fullmatch(f"00-{_HEX32}-{_HEX16}-01", environment["TRACEPARENT"])
        assert environment["PYJAMA_PARENT"] == f"{run.id}-{run.span}"


_ANOTHER = f"{'a' * 32}-{'b' * 16}"


@pytest.mark.parametrize("traceparent", [f"00-{_ANOTHER}-01", f"00-{_ANOTHER}-00", f"cc-{_ANOTHER}-01-more-fields"])
def test_env_leaves_the_trace_of_another_tracer_as_it_is(traceparent: str) -> None:
    with agent_session("a") as run:
        given = {"TRACEPARENT": traceparent, "TRACESTATE": "vendor=1"}
        environment = run.env(given)
        assert environment | given == environment
        assert environment["PYJAMA_PARENT"] == f"{run.id}-{run.span}"


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "garbage",
        f"00-{_ANOTHER}",
        f"00-{_ANOTHER}-01-more",
        f"ff-{_ANOTHER}-01",
        f"00-{_ANOTHER.upper()}-01",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"{'00-' + _ANOTHER + '-01'}\0",
    ],
)
def test_env_replaces_a_trace_parent_that_is_not_valid_and_keeps_the_trace_state(traceparent: str) -> None:
    with agent_session("a") as run:
        environment = run.env({"TRACEPARENT": traceparent, "TRACESTATE": "vendor=1"})
        assert environment["TRACEPARENT"] == f"00-{run.id}-{run.span}-01"
        assert environment["TRACESTATE"] == "vendor=1"


def test_env_replaces_the_trace_parent_of_a_run_around_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with agent_session("outer") as outer, agent_session("inner") as inner:
        assert inner.env(outer.env({}))["TRACEPARENT"] == f"00-{inner.id}-{inner.span}-01"
        for name, value in outer.env({}).items():
            monkeypatch.setenv(name, value)
        assert inner.env()["TRACEPARENT"] == f"00-{inner.id}-{inner.span}-01"
        assert inner.env({"TRACEPARENT": os.environ["TRACEPARENT"]})["TRACEPARENT"] == inner.env()["TRACEPARENT"]


def test_env_leaves_a_trace_that_goes_on_from_a_run_around_this_one() -> None:
    with agent_session("outer") as outer, agent_session("inner") as inner:
        continued = outer.env({}) | {"TRACEPARENT": f"00-{outer.id}-{'c' * 16}-01"}
        assert inner.env(continued)["TRACEPARENT"] == continued["TRACEPARENT"]


def test_a_child_program_joins_the_session_beside_the_trace_of_another_tracer() -> None:
    traced = {**os.environ, "TRACEPARENT": f"00-{_ANOTHER}-01"}
    with agent_session("a") as run:
        _run_child("from pyjama_instrument import tool; tool('child tool')(abs)(-1)", run.env(traced))
    assert call("child tool").session == run.id


def test_a_tool_in_a_child_program_attaches_to_the_span_that_started_it() -> None:
    with agent_session("a") as run, run.step("x"):
        _run_child("from pyjama_instrument import tool; tool('child tool')(abs)(-1)", run.env())
    child = call("child tool")
    assert (child.agent, child.session, child.parent) == ("a", run.id, step_ends()[0].span)
    assert _implicit_sessions() == []


def test_a_session_in_a_child_program_is_a_child_session() -> None:
    with agent_session("a") as run:
        _run_child("from pyjama_instrument import agent_session\nwith agent_session('b'): pass", run.env())
    assert session("b").parent_session == run.id
    assert session("b").parent == session("a").span
    assert session_end("b").status == "completed"


def test_a_child_program_knows_the_session_it_is_in_and_does_not_end_it() -> None:
    source = (
        "from pyjama_instrument import current_session, tool, agent_session\n"
        "print(current_session().id)\n"
        "tool(abs)(1)\n"
        "print(current_session().id)\n"
        "with agent_session('b') as inner: print(current_session().id == inner.id)\n"
        "print(current_session().agent)\n"
    )
    with agent_session("a") as run:
        assert _run_child(source, run.env()).split() == [run.id, run.id, "True", "a"]
        assert session_ends("a") == []
    assert len(session_ends("a")) == 1


def test_a_child_program_can_set_attributes_and_steps_of_the_session_it_is_in() -> None:
    source = (
        "from pyjama_instrument import current_session\n"
        "run = current_session()\n"
        "run.annotate(tokens=5)\n"
        "with run.step('in the child'): pass\n"
    )
    with agent_session("a") as run:
        _run_child(source, run.env())
    (step,) = step_ends()
    assert (step.step, step.session, step.parent) == ("in the child", run.id, session("a").span)


def test_a_program_started_by_a_child_program_goes_one_deeper() -> None:
    grandchild = "from pyjama_instrument import agent_session\nwith agent_session('c'): pass"
    source = (
        "import subprocess, sys\nfrom pyjama_instrument import agent_session\n"
        f"with agent_session('b') as run: subprocess.run([sys.executable, '-c', {grandchild!r}], env=run.env())"
    )
    with agent_session("a") as run:
        _run_child(source, run.env())
    assert session("b").parent_session == run.id
    assert session("c").parent_session == session("b").session


@pytest.mark.parametrize("name", ["two words", "100%41", "ünï/\U0001f600", 'a"\\\n\x00b', "x" * 256])
def test_the_agents_name_reaches_a_child_program_unchanged(name: str) -> None:
    with agent_session(name) as run:
        _run_child("from pyjama_instrument import tool; tool('child tool')(abs)(-1)", run.env())
    assert call("child tool").agent == name


@pytest.mark.parametrize(
    ("parent", "agent"),
    [
        ("", "a"),
        ("garbage", "a"),
        (f"{'0' * 32}", "a"),
        (f"{'A' * 32}-{'B' * 16}", "a"),
        (f"{'a' * 32}-{'b' * 16}\n", "a"),
        (f"{'a' * 32}-{'b' * 16}", ""),
        (f"{'a' * 32}-{'b' * 16}", " "),
    ],
)
def test_a_damaged_environment_is_as_none(run_python: RunPython, parent: str, agent: str) -> None:
    source = "from pyjama_instrument import current_session, tool; tool('t')(abs)(1); print(current_session())"
    assert run_python(source, PYJAMA_PARENT=parent, PYJAMA_AGENT=agent).stdout == "None\n"
    assert call("t").session == _implicit_sessions()[0].session


# -- the implicit session


def test_the_implicit_session_is_named_after_the_script_and_ends_with_it(run_python: RunPython, tmp_path: Path) -> None:
    script = _script(tmp_path, "my_agent.py", "from pyjama_instrument import tool; tool(abs)(1)")
    run_python(script)
    (implicit,) = _implicit_sessions()
    assert implicit.agent == "my_agent"
    assert session_end("my_agent").status == "completed"


def test_the_implicit_session_of_a_module_is_named_after_the_module(run_python: RunPython, tmp_path: Path) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    _script(package, "__init__.py", "")
    _script(package, "__main__.py", "from pyjama_instrument import tool; tool(abs)(1)")
    source = "import runpy, sys; runpy.run_module('my_package', run_name='__main__', alter_sys=True)"
    run_python(source, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert [event.agent for event in _implicit_sessions()] == ["my_package"]


def test_the_implicit_session_of_a_command_is_named_python(run_python: RunPython) -> None:
    run_python("from pyjama_instrument import tool; tool(abs)(1)")
    assert [event.agent for event in _implicit_sessions()] == ["python"]


def test_an_uncaught_exception_makes_the_implicit_session_fail(run_python: RunPython, tmp_path: Path) -> None:
    script = _script(tmp_path, "doomed.py", "from pyjama_instrument import tool; tool(abs)(1); raise KeyError('gone')")
    run_python(script, returncode=1)
    ended = session_end("doomed")
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.type == "KeyError"


def test_all_threads_of_a_process_share_the_implicit_session(run_python: RunPython) -> None:
    source = (
        "from concurrent.futures import ThreadPoolExecutor\nfrom pyjama_instrument import tool\n"
        "with ThreadPoolExecutor(4) as pool: list(pool.map(tool('t')(abs), range(20)))"
    )
    run_python(source)
    assert {event.session for event in calls("t")} == {_implicit_sessions()[0].session}
    assert len(calls("t")) == 20


# -- worker processes


_POOL = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pyjama_instrument import agent_session, tool

@tool
def work(x):
    return os.getpid()

@agent_session("in the worker")
def whole_run(x):
    return work(x)

def main():
    with agent_session("a") as run, run.step("x"):
        with ProcessPoolExecutor(2, mp_context=get_context(sys.argv[1])) as pool:
            pids = set(pool.map(run.bind(work), range(6)))
            pids |= set(pool.map(run.bind(whole_run), range(2)))
    assert os.getpid() not in pids
    print(run.id)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_bound_work_in_a_process_pool_belongs_to_the_session(
    run_python: RunPython, tmp_path: Path, method: str
) -> None:
    run_id = run_python(_script(tmp_path, "pool.py", _POOL), method).stdout.strip()
    bound = [event for event in calls("work") if event.session == run_id]
    assert len(bound) == 6
    assert {event.parent for event in bound} == {step_ends()[0].span}
    assert [event.parent_session for event in sessions("in the worker")] == [run_id] * 2
    assert [event.status for event in session_ends()] == ["completed"] * 3
    assert len(calls("work")) == 8


_WORKERS = """
import os, sys
from multiprocessing import get_context
from pyjama_instrument import agent_session, tool

@tool
def work(x):
    return os.getpid()

def main():
    context = get_context(sys.argv[1])
    work(0)
    with agent_session("a") as run:
        with context.Pool(2) as pool:
            pool.map(work, range(5), chunksize=1)
            pool.close()
            pool.join()
        process = context.Process(target=work, args=(9,))
        process.start()
        process.join()
        assert process.exitcode == 0
    print(run.id)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(("method", "in_the_session"), [("fork", 6), ("spawn", 0), ("forkserver", 0)])
def test_every_call_in_a_worker_is_recorded(
    run_python: RunPython, tmp_path: Path, method: str, in_the_session: int
) -> None:
    run_id = run_python(_script(tmp_path, "workers.py", _WORKERS), method).stdout.strip()
    assert len(calls("work")) == 7
    # A forked worker starts inside the session; a spawned one, given nothing, is on its own.
    assert len([event for event in calls("work") if event.session == run_id]) == in_the_session
    assert len(session_ends("a")) == 1


_FORK = """
import os
from pyjama_instrument import agent_session, current_session, tool

@tool
def work(x): return x

@tool
def forking():
    pid = os.fork()
    if pid == 0:
        work("child, in the parent's call")
        return "child"
    os.waitpid(pid, 0)
    return "parent"

with agent_session("a") as run:
    work("parent")
    who = forking()
    if who == "child":
        work("child, after the call")
        with agent_session("b"):
            work("child, in its own session")
if who == "child":
    os._exit(0)
work("parent, afterwards")
"""


def test_a_forked_child_goes_on_in_the_session_and_does_not_end_it(run_python: RunPython, tmp_path: Path) -> None:
    run_python(_script(tmp_path, "forking.py", _FORK))
    assert len(session_ends("a")) == 1
    assert len(calls("forking")) == 1
    assert len(calls("work")) == 5
    assert session("b").parent_session == session("a").session
    in_the_session = [event for event in calls("work") if event.session == session("a").session]
    assert len(in_the_session) == 3


def test_ids_of_a_forked_child_are_its_own(run_python: RunPython) -> None:
    source = (
        "import os\nfrom pyjama_instrument import agent_session\n"
        "with agent_session('before'): pass\n"
        "pid = os.fork()\n"
        "for _ in range(3):\n"
        "    with agent_session('after'): pass\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    run_python(source)
    assert len({event.session for event in sessions("after")}) == 6
