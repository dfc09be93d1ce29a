"""However a process was started and whatever it does to its descriptors: events are exact, and under their process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from pyjama_instrument.events import ToolEnded
from pyjama_instrument.reader import get_dashboard_data, tail_events
from tests.process.children import HANG_SECONDS, ended, line_from, started, tell, the_session, until
from tests.scale import full
from tests.stores import fold


def _counts() -> dict[str, int]:
    return {name: tool.count for name, tool in get_dashboard_data().metrics.tools.items()}


def _calls_by_writer(store: Path) -> list[int]:
    """How many calls each journal has, fewest first."""
    files = [*store.glob("journal/*.jsonl"), *store.glob("history/*.jsonl")]
    calls = Counter({file.name: file.read_bytes().count(b'{"kind":"tool.ended"') for file in files})
    return sorted(calls.values())


RAW = """
import ctypes
libc = ctypes.PyDLL(None)  # keeps the interpreter lock: a child could not get it from a thread it does not have

def raw_fork():  # none of Python's hooks runs
    return libc.fork()
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_fork_made_in_c_is_noticed_and_harms_nobody(own_store: Path, end: str) -> None:
    source = f"""{RAW}
work()
flush()  # a child cannot import what a thread that it does not have is importing
pid = raw_fork()
if pid == 0:
    [work() for _ in range(300)]
    {end}
assert os.waitpid(pid, 0)[1] == 0
[work() for _ in range(20)]
"""
    with started(source) as child:
        ended(child)
    assert _counts() == {"work": 321}
    assert _calls_by_writer(own_store) == [21, 300]
    fold(own_store)
    assert _counts() == {"work": 321}
    statuses = sorted(session.status for session in get_dashboard_data().sessions.values())
    assert statuses == ["completed", "completed" if end.startswith("sys") else "ended"]


@pytest.mark.parametrize("decorator", ["@tool", "@tool(capture=True)"])
def test_a_call_that_forks_in_c_ends_once_in_the_parent(own_store: Path, decorator: str) -> None:
    source = f"""{RAW}
{decorator}
def forking():
    return raw_fork()

@tool
async def forking_too():
    return raw_fork()

work()
flush()  # a child cannot import what a thread that it does not have is importing
for fork in [forking, lambda: asyncio.run(forking_too())]:
    if (pid := fork()) == 0:
        work()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    with started("import asyncio\n" + source) as child:
        ended(child)
    assert _counts() == {"work": 3, "forking": 1, "forking_too": 1}
    assert _calls_by_writer(own_store) == [1, 1, 3]


def test_a_child_forked_in_c_that_records_nothing_does_not_end_its_parent_s_session(own_store: Path) -> None:
    source = f"""{RAW}
work()
flush()  # a child cannot import what a thread that it does not have is importing
pid = raw_fork()
if pid == 0:
    sys.exit(0)  # its exit handlers run, and ours among them
assert os.waitpid(pid, 0)[1] == 0
say("child is gone")
wait()
work()
"""
    with started(source) as child:
        line_from(child)
        assert the_session().status == "running"
        tell(child)
        ended(child)
    assert the_session().status == "completed"
    assert _counts() == {"work": 2}


def test_a_session_begun_in_a_child_forked_in_c_is_the_child_s(own_store: Path) -> None:
    source = f"""{RAW}
work()
flush()  # a child cannot import what a thread that it does not have is importing
pid = raw_fork()
if pid == 0:
    with agent_session("child"):
        work()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    with started(source) as child:
        ended(child)
    sessions = {session.agent_id: session for session in get_dashboard_data().sessions.values()}
    assert sessions["child"].pid != sessions["python"].pid
    assert sessions["child"].status == sessions["python"].status == "completed"
    assert _counts() == {"work": 2}


TAKES_ALL_NUMBERS = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))

def take_all_numbers(place):
    # As a program does that makes sure it has inherited nothing, and then goes to work.
    os.closerange(3, 65536)
    files = [open(os.path.join(place, f"own-{n}"), "w+") for n in range(900)]
    assert [work(n) for n in range(50)] == list(range(50))
    assert all(os.fstat(file.fileno()).st_size == 0 for file in files)
    for file in files:
        file.write("mine")
        file.close()
    for n in range(900):
        with open(os.path.join(place, f"own-{n}")) as file:
            assert file.read() == "mine"
"""


def test_nothing_of_ours_is_written_into_descriptors_that_the_program_opened_in_their_place(
    own_store: Path, tmp_path: Path
) -> None:
    place = tmp_path / "own"
    place.mkdir()
    with started(f"{TAKES_ALL_NUMBERS}\nwork()\ntake_all_numbers({str(place)!r})\nwork()") as child:
        ended(child)
    assert _counts() == {"work": 52}


def test_a_daemon_records_on_and_its_parent_is_seen_to_have_ended(own_store: Path, tmp_path: Path) -> None:
    place = tmp_path / "own"
    place.mkdir()
    source = f"""{TAKES_ALL_NUMBERS}
work()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with agent_session("daemon"):
            take_all_numbers({str(place)!r})
            work()
        flush()
        open({str(tmp_path / "done")!r}, "w").close()
        signal.pause()
    os._exit(0)
os.wait()
"""
    with started(source) as child:
        child.wait(HANG_SECONDS)
        until(lambda: (tmp_path / "done").exists())
        sessions = {session.agent_id: session for session in get_dashboard_data().sessions.values()}
        assert sessions["python"].status == "completed"
        assert sessions["daemon"].status == "completed"
        assert sessions["daemon"].pid != sessions["python"].pid
        assert _counts() == {"work": 52}
        _end_group(child.pid)


def _end_group(leader: int) -> None:
    """The daemon made a session of its own: find it by that its parent is gone, and end it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if b"take_all_numbers" in process.joinpath("cmdline").read_bytes():
                environment = process.joinpath("environ").read_bytes()
                if os.environb[b"PYJAMA_HOME"] in environment:
                    os.kill(int(process.name), signal.SIGKILL)


def test_a_program_that_replaces_itself_is_two_writers_of_one_session(own_store: Path) -> None:
    source = """
code = "from pyjama_instrument import tool\\n@tool\\ndef after(): pass\\nafter()"
with agent_session("agent") as run:
    work()
    os.execve(sys.executable, [sys.executable, "-W", "error", "-c", code], run.env())
"""
    with started(source) as child:
        ended(child)
    assert _counts() == {"work": 1, "after": 1}
    session = the_session()
    assert (session.agent_id, session.calls) == ("agent", 2)
    assert session.status == "crashed"  # nobody ended it: the program that began it is gone without a word


def test_child_programs_record_under_their_own_process(own_store: Path) -> None:
    source = """
import subprocess
code = "from pyjama_instrument import tool\\n@tool\\ndef inner(): pass\\n[inner() for _ in range(10)]"
with agent_session("agent") as run:
    some = [subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=run.env()) for _ in range(3)]
    work()
    assert [process.wait() for process in some] == [0, 0, 0]
"""
    with started(source) as child:
        ended(child)
    assert _counts() == {"work": 1, "inner": 30}
    assert _calls_by_writer(own_store) == [1, 10, 10, 10]
    assert the_session().calls == 31


APPLICATION = """
import os
from pyjama_instrument import tool

@tool
def answer(path):
    return f"{path} {os.getpid()}".encode()

answer("while loading")

def application(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_workers_of_a_prefork_server_lose_nothing(own_store: Path, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--bind", f"127.0.0.1:{port}"]
    command += ["--no-control-socket"] if _has_control_socket() else []
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen([*command, "application"], cwd=tmp_path, stdout=log, stderr=log) as server:
        try:
            until(lambda: _asked(port), f"the server does not answer: {(tmp_path / 'log').read_text()}")
            requests = full(2000, 60)
            pids = Counter(_asked(port) for _ in range(requests))
            assert None not in pids
        finally:
            server.terminate()
            server.wait(HANG_SECONDS)
    calls = [event for event in tail_events(limit=None) if isinstance(event, ToolEnded)]
    assert len(calls) == 1 + 1 + requests  # while loading, the first that was answered, and the rest
    assert _counts() == {"answer": requests + 2}
    assert len(_calls_by_writer(own_store)) == 1 + len(pids)
    assert all(session.status in ("completed", "crashed") for session in get_dashboard_data().sessions.values())


def _has_control_socket() -> bool:
    shown = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    return "--no-control-socket" in shown.stdout


def _asked(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=10) as answer:
            return str(answer.read().decode().split()[1])
    except OSError:
        return None
