"""Forks of every kind: each process records for itself, each call counts once, and no warning of ours is heard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument.events import ToolEnded
from pyjama_instrument.reader import get_dashboard_data, load_session, tail_events
from tests.process.children import HANG_SECONDS, ended, line_from, started, tell, the_session, until
from tests.scale import full
from tests.stores import fold

FORK = """
def in_child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    return pid

def joined(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


def counts() -> dict[str, int]:
    return {name: tool.count for name, tool in get_dashboard_data().metrics.tools.items()}


def writers(home: Path) -> set[str]:
    names = [*os.listdir(home / "journal"), *os.listdir(home / "history")]
    return {name.partition("-")[0] for name in names}


@pytest.mark.parametrize("first", ["", "work()\n"], ids=["before the first event", "after the first event"])
def test_a_forked_child_that_leaves_by_os_exit_loses_nothing(own_store: Path, first: str) -> None:
    source = f"{FORK}{first}for _ in range(4): joined(in_child(lambda: [work() for _ in range(50)]))\nwork()"
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 200 + 1 + bool(first)}
    assert len(writers(own_store)) == 5


def test_four_children_at_once_count_apart_and_together(own_store: Path) -> None:
    source = f"""{FORK}
with agent_session("parent"):
    work()
    for pid in [in_child(lambda: [work() for _ in range(50)]) for _ in range(4)]:
        joined(pid)
    work()
"""
    with started(source) as child:
        ended(child)
    session = the_session()
    assert (session.agent_id, session.calls, session.status) == ("parent", 202, "completed")
    assert len(writers(own_store)) == 5
    (sid,) = get_dashboard_data().sessions
    assert len({span.writer for span in load_session(sid).root.children}) == 5


def test_a_fork_from_another_thread_is_as_good(own_store: Path) -> None:
    source = f"""{FORK}
work()
thread = threading.Thread(target=lambda: joined(in_child(work)))
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside the program's own thread warns, as it should
thread.start()
thread.join()
work()
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 3}


def test_forks_while_other_threads_record_lose_nothing_and_lock_nobody_out(own_store: Path) -> None:
    source = f"""{FORK}
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
stop = threading.Event()
counts = []

def busy():
    count = 0
    while not stop.is_set():
        work()
        count += 1
    counts.append(count)

threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(10):
    joined(in_child(lambda: [tool("child")(abs)(1) for _ in range(5)]))
stop.set()
for thread in threads:
    thread.join()
say(sum(counts))
"""
    with started(source) as child:
        recorded = int(ended(child))
    assert counts() == {"work": recorded, "child": 50}


def test_forks_from_many_threads_at_once(own_store: Path) -> None:
    source = f"""{FORK}
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
threads = [threading.Thread(target=lambda: [joined(in_child(work)) for _ in range(10)]) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
work()
assert len(os.listdir("/proc/self/task")) == 2  # the main thread and the flusher
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 41}


def test_the_first_event_and_a_fork_at_the_same_moment(own_store: Path) -> None:
    source = f"""{FORK}
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
gate = threading.Barrier(2)

def begin():
    gate.wait()
    work()

def first_generation(delay):
    sys.setswitchinterval(1e-6)
    global gate
    gate = threading.Barrier(2)
    thread = threading.Thread(target=begin)
    thread.start()
    gate.wait()
    for _ in range(delay):
        pass
    joined(in_child(work))
    thread.join()

for delay in range(0, 6000, 100):
    joined(in_child(lambda: first_generation(delay)))  # in each of these nothing has been recorded yet
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 120}


def test_a_fork_does_not_warn_of_our_thread(own_store: Path) -> None:
    # Python 3.12 and later warn when a process with several threads forks; warnings are errors in the child.
    source = f"""{FORK}
with agent_session("agent"):
    for _ in range(30):
        work()
        joined(in_child(work))
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 60}


def test_a_parent_goes_on_folding_after_a_fork(own_store: Path) -> None:
    source = f"{FORK}\nwork()\njoined(in_child(lambda: None))\nwork()\nsay('done')\nwait()"
    with started(source) as child:
        line_from(child)
        until(lambda: (own_store / "metrics.json").exists())
        tell(child)
        ended(child)


def test_a_call_that_a_child_leaves_by_returning_is_the_parent_s(own_store: Path) -> None:
    source = """
@tool
def forks():
    return os.fork()

with agent_session("agent"):
    pid = forks()
    if pid == 0:
        work()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"forks": 1, "work": 1}
    session = the_session()
    assert (session.status, session.calls, session.in_flight) == ("completed", 2, [])


def test_a_generator_that_a_child_goes_on_with_counts_once(own_store: Path) -> None:
    source = f"""{FORK}
@tool
def items():
    yield from range(3)

with agent_session("agent"):
    some = items()
    next(some)
    joined(in_child(lambda: list(some)))
    list(some)
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"items": 1}


def test_a_dead_parent_is_seen_dead_though_its_children_live(own_store: Path) -> None:
    source = f"""{FORK}
with agent_session("parent"):
    work()
    pid = in_child(lambda: (work(), wait()))
    say(pid)
    lasting()
"""
    with started(source) as child:
        pid = int(line_from(child))
        line_from(child)
        until(lambda: counts() == {"work": 2})
        os.kill(child.pid, 9)
        child.wait()
        session = until(lambda: (found := the_session()).status == "crashed" and found)
        assert [call.tool for call in session.interrupted] == ["lasting"]
        assert Path(f"/proc/{pid}").exists()
        tell(child)


def test_a_dead_child_is_seen_dead_though_its_parent_lives(own_store: Path) -> None:
    source = f"""{FORK}
with agent_session("parent"):
    work()
    pid = in_child(lasting)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    say("child is gone")
    wait()
"""
    with started(source) as child:
        line_from(child)
        (call,) = the_session().in_flight
        assert call.tool == "lasting"
        pid = int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text())
        os.kill(pid, 9)
        line_from(child)
        session = the_session()
        assert (session.status, session.in_flight) == ("running", [])
        assert [call.tool for call in session.interrupted] == ["lasting"]


def test_a_session_begun_in_a_child_is_the_child_s(own_store: Path) -> None:
    source = f"""{FORK}
def agent():
    with agent_session("child"):
        lasting()

with agent_session("parent"):
    pid = in_child(agent)
    joined(pid)
"""
    with started(source) as child:
        line_from(child)
        data = get_dashboard_data()
        by_agent = {session.agent_id: session for session in data.sessions.values()}
        assert by_agent["child"].writer != by_agent["parent"].writer
        assert by_agent["child"].pid != by_agent["parent"].pid
        tell(child)
        ended(child)
    assert {name: agent.status for name, agent in get_dashboard_data().agents.items()} == {
        "parent": "completed",
        "child": "completed",
    }


def test_ids_do_not_repeat_in_forked_children(own_store: Path) -> None:
    source = f"{FORK}\nwork()\nfor _ in range(5): joined(in_child(lambda: [work() for _ in range(20)]))"
    with started(source) as child:
        ended(child)
    spans = [event.span for event in tail_events(limit=None) if isinstance(event, ToolEnded)]
    assert len(set(spans)) == len(spans) == 101


def test_a_daemon_that_closes_every_descriptor_records_on(own_store: Path) -> None:
    source = f"""{FORK}
work()
def daemon():
    os.setsid()
    os.closerange(3, 4096)
    if os.fork() == 0:
        os.closerange(3, 4096)
        work()
        work()
    else:
        os.wait()
joined(in_child(daemon))
work()
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 4}


POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from pyjama_instrument import agent_session, tool

@tool
def square(n):
    return n * n

def main():
    context = multiprocessing.get_context("{method}")
    {body}

if __name__ == "__main__":
    main()
"""

POOLS = {
    "a Process": """
    with agent_session("parent") as run:
        square(1)
        some = [context.Process(target=run.bind(square), args=(n,)) for n in range(4)]
        for process in some: process.start()
        for process in some: process.join()
    assert [process.exitcode for process in some] == [0] * 4
    """,
    "a Pool that is closed": """
    with agent_session("parent") as run:
        square(1)
        pool = context.Pool(2)
        assert pool.map(run.bind(square), range(4)) == [0, 1, 4, 9]
        pool.close()
        pool.join()
    """,
    "a Pool that is terminated": """
    with agent_session("parent") as run:
        square(1)
        with context.Pool(2) as pool:
            assert pool.map(run.bind(square), range(4)) == [0, 1, 4, 9]
    """,
    "a ProcessPoolExecutor": """
    with agent_session("parent") as run:
        square(1)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(run.bind(square), range(4))) == [0, 1, 4, 9]
    """,
}


@pytest.mark.parametrize("body", POOLS.values(), ids=POOLS.keys())
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_lose_nothing(own_store: Path, tmp_path: Path, method: str, body: str) -> None:
    script = tmp_path / "pooled.py"
    script.write_text(POOL.format(method=method, body=body.strip()))
    # A Pool has threads of its own while it forks workers, and Python says so.
    warnings = ["-W", "ignore:This process:DeprecationWarning"] if method == "fork" else []
    done = subprocess.run(
        [sys.executable, "-W", "error", *warnings, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert counts() == {"square": 5}
    data = get_dashboard_data()
    assert data.agents["parent"].runs.completed == 1
    assert all(session.status == "completed" for session in data.sessions.values())
    fold(own_store)
    assert counts() == {"square": 5}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_outside_any_session_have_their_own_and_complete_it(
    own_store: Path, tmp_path: Path, method: str
) -> None:
    body = """
    some = [context.Process(target=square, args=(n,)) for n in range(3)]
    for process in some: process.start()
    for process in some: process.join()
    """
    script = tmp_path / "pooled.py"
    script.write_text(POOL.format(method=method, body=body.strip()))
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    sessions = get_dashboard_data().sessions.values()
    assert [session.status for session in sessions] == ["completed"] * 3
    assert [session.calls for session in sessions] == [1] * 3


def test_a_signal_s_exception_around_a_fork_leaves_nothing_locked_and_the_flusher_alive(own_store: Path) -> None:
    # Python reports what is raised in a hook of the fork, and forks all the same.
    source = f"""
import random, warnings
from pyjama_instrument.recording.recorder import recorder
warnings.simplefilter("ignore", DeprecationWarning)
sys.unraisablehook = lambda _: None
threading.excepthook = lambda _: None

class Interrupted(Exception): pass

def interrupt(*_):
    raise Interrupted

@tool
def slow():
    time.sleep(0.002)

signal.signal(signal.SIGALRM, interrupt)
slow()
called = 1
for number in range({full(3000, 150)}):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.0015))
        if os.fork() == 0:
            os._exit(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True:
        try:
            os.waitpid(-1, 0)
        except Interrupted:  # it was delivered to a thread that was just being started
            pass
        except ChildProcessError:
            break
    thread = threading.Thread(target=slow, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), number
    called += 1

def flushes():
    flusher = recorder.background.flusher
    return flusher and flusher.runs() and os.path.exists(f"/proc/self/task/{{flusher._native_id}}")

deadline = time.monotonic() + 20
while not flushes() and time.monotonic() < deadline:
    work()
    called += 1
assert flushes()
say(called)
"""
    with started(source) as child:
        called = int(ended(child))
    assert sum(counts().values()) == called


@pytest.mark.parametrize("shared", ["functional API", "hooks"])
def test_a_fork_while_another_thread_uses_what_has_a_lock_does_not_hang_the_child(own_store: Path, shared: str) -> None:
    source = f"""{FORK}
import warnings
from pyjama_instrument import hooks, shared_metrics
warnings.simplefilter("ignore", DeprecationWarning)

def functional(agent="parent"):
    shared_metrics.record_agent_start(agent)
    shared_metrics.record_agent_complete(agent)

def hooking(name="parent"):
    hooks.register_hook(name, print)
    hooks.unregister_hook(name)

busy = {"functional" if shared == "functional API" else "hooking"}
stop = threading.Event()
def forever():
    while not stop.is_set():
        busy()

threads = [threading.Thread(target=forever) for _ in range(2)]
for thread in threads: thread.start()
for _ in range({full(500, 30)}):
    joined(in_child(lambda: (signal.alarm(20), busy("child"))))
stop.set()
for thread in threads: thread.join()
"""
    with started(source) as child:
        ended(child)


def test_a_child_forked_during_a_fold_does_not_keep_the_fold_from_others_once_its_parent_is_dead(
    own_store: Path,
) -> None:
    source = f"""{FORK}
import warnings
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.storage import compaction
warnings.simplefilter("ignore", DeprecationWarning)
folding = threading.Event()
catch_up = compaction.catch_up

def slowly(*args, **options):
    folding.set()
    time.sleep(60)
    return catch_up(*args, **options)

work()
recorder.background.flusher.stop()
compaction.catch_up = slowly
threading.Thread(target=flush, daemon=True).start()
folding.wait()
pid = in_child(wait)
say(pid)
wait()
"""
    with started(source) as child:
        pid = int(line_from(child))
        child.kill()
        child.wait()
        assert Path(f"/proc/{pid}").exists()
        until(lambda: fold(own_store) != "busy")
        assert Path(f"/proc/{pid}").exists()
        assert the_session().status == "crashed"


def test_a_step_that_a_child_leaves_too_is_the_parent_s(own_store: Path) -> None:
    source = f"""{FORK}
with agent_session("agent") as run:
    with run.step("parent's"):
        pid = os.fork()
        if pid:
            joined(pid)
            say("joined")
            wait()
    if not pid:
        with run.step("child's"):
            pass
        os._exit(0)
"""
    with started(source) as child:
        line_from(child)
        assert {step.step_id: step.status for step in the_session().steps} == {"parent's": "running", "child's": "ok"}
        tell(child)
        ended(child)
    assert {step.step_id: step.status for step in the_session().steps} == {"parent's": "ok", "child's": "ok"}


def test_a_worker_of_multiprocessing_has_one_thing_to_do_at_its_end_however_often_its_journal_is_opened(
    own_store: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import multiprocessing, sys
from multiprocessing import util
from pyjama_instrument import configure, tool

@tool
def work():
    pass

def worker(queue):
    before = len(util._finalizer_registry)
    for number in range(5):
        configure(home=f"{sys.argv[1]}/{number}")
        work()
    queue.put(len(util._finalizer_registry) - before)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=worker, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_a_lock_of_the_program_s_that_is_held_over_forks_and_over_a_call_locks_nobody_out(own_store: Path) -> None:
    script = """
import os, sys, threading, time
lock = threading.Lock()
os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock._at_fork_reinit)
from pyjama_instrument import tool

@tool
def work():
    pass

def other():
    with lock:
        holds.set()
        time.sleep(0.3)
        work()

holds = threading.Event()
thread = threading.Thread(target=other)
thread.start()
holds.wait()
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
thread.join()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert counts() == {"work": 1}


def test_a_tool_that_is_called_from_the_program_s_own_hook_of_the_fork_is_the_child_s(own_store: Path) -> None:
    source = f"""{FORK}
os.register_at_fork(after_in_child=work)
work()

def journals():
    links = [os.path.realpath(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")]
    return [link for link in links if link.endswith(".jsonl")]

pid = os.fork()
if pid == 0:
    work()
    assert len(journals()) == 1, journals()
    sys.exit()
joined(pid)
"""
    with started(source) as child:
        ended(child)
    assert counts() == {"work": 3}
    assert {session.status for session in get_dashboard_data().sessions.values()} == {"completed"}


def test_a_child_of_a_signal_handler_that_came_while_the_journal_was_being_opened_counts_apart(
    own_store: Path,
) -> None:
    source = f"""{FORK}
uname = os.uname

def handler(*_):
    global pid
    pid = os.fork()

def interrupted():
    os.uname = uname
    signal.raise_signal(signal.SIGALRM)
    return uname()

os.uname = interrupted
signal.signal(signal.SIGALRM, handler)
work()
if pid == 0:
    time.sleep(0.7)  # what was recorded until now is told as dropped
    work()
    sys.exit()
work()
"""
    with started(source, stderr=subprocess.DEVNULL) as child:
        child.communicate(timeout=HANG_SECONDS)
    data = get_dashboard_data()
    recorded, dropped = data.metrics.global_.count, sum(data.health.dropped.values())
    assert len(writers(own_store)) == 2
    assert recorded == 3
    assert dropped <= 3  # of the child's: its session, the beginning and the end of its first call
