"""Programs whose threads, locks and sleep were replaced: nothing of ours lets others run within a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyjama_instrument.reader import get_dashboard_data
from tests.conftest import RunPython

PATCH = "from gevent import monkey; monkey.patch_all()\n"
IMPORT = "from pyjama_instrument import agent_session, flush, tool\n"
USED_BEFORE = f"{IMPORT}tool('before')(abs)(1)\n"

PROGRAM = """
import os, signal, sys, threading, time
import gevent, greenlet
from pyjama_instrument.recording.recorder import recorder

MAIN = os.getpid()

@tool
def quick(x=0): return x

@tool
def slow():
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end: pass

def say(word):
    os.write(1, f"{word} in {'the parent' if os.getpid() == MAIN else 'THE CHILD'}\\n".encode())

class NoSwitch:
    '''No other greenlet runs within the block.'''
    def __enter__(self):
        self.before, self.switches = greenlet.gettrace(), []
        greenlet.settrace(lambda *event: self.switches.append(event))
    def __exit__(self, *_):
        greenlet.settrace(self.before)
        assert not self.switches, self.switches
"""

ORDERS = {
    "patched first": PATCH + IMPORT,
    "patched after the import": IMPORT + PATCH,
    "patched after the first call": USED_BEFORE + PATCH,
}

in_each_order = pytest.mark.parametrize("begin", ORDERS.values(), ids=ORDERS)


def counts() -> dict[str, int]:
    return {name: found.count for name, found in get_dashboard_data().metrics.tools.items() if name != "before"}


def statuses() -> set[str]:
    return {session.status for session in get_dashboard_data().sessions.values()}


@in_each_order
def test_no_greenlet_runs_within_a_call_a_fork_or_a_session_s_end(run_python: RunPython, begin: str) -> None:
    source = f"""{begin}{PROGRAM}
others = [gevent.spawn(say, "another") for _ in range(2)]
with NoSwitch():
    for _ in range(3):
        quick()
        slow()
    with agent_session("agent") as run, run.step("one"):
        quick()
        pid = os.fork()
        if pid == 0:
            quick()
            os._exit(0)
    assert flush()
os.waitpid(pid, 0)
gevent.joinall(others)
"""
    assert run_python(source).stdout == "another in the parent\n" * 2
    assert counts() == {"quick": 5, "slow": 3}
    assert statuses() == {"completed"}


@in_each_order
def test_a_greenlet_that_forks_leaves_the_parent_s_greenlets_to_the_parent(run_python: RunPython, begin: str) -> None:
    source = f"""{begin}{PROGRAM}
def forker():
    for _ in range(10):
        quick()
        pid = os.fork()
        if pid == 0:
            with NoSwitch():
                quick()
                slow()
            os._exit(0)
        os.waitpid(pid, 0)

gevent.joinall([gevent.spawn(forker)] + [gevent.spawn(say, "another") for _ in range(3)], raise_error=True)
"""
    assert run_python(source).stdout == "another in the parent\n" * 3
    assert counts() == {"quick": 20, "slow": 10}


@in_each_order
def test_the_flusher_imports_nothing_by_itself_so_no_greenlet_waits_for_it(run_python: RunPython, begin: str) -> None:
    source = f"""{begin}{PROGRAM}
elsewhere, main = [], threading.get_native_id()

class Finder:
    '''Is asked for every module that is not loaded yet.'''
    def find_spec(self, name, path=None, target=None):
        if threading.get_native_id() != main: elsewhere.append(name)

sys.meta_path.insert(0, Finder())
quick()
while not os.path.exists(os.environ["PYJAMA_HOME"] + "/metrics.json"):
    for _ in range(64): quick()
    gevent.sleep(0.01)
assert not elsewhere, elsewhere
"""
    run_python(source)


def test_a_flusher_that_imports_while_locks_are_replaced_holds_nobody_up(run_python: RunPython) -> None:
    source = f"""{IMPORT}{PROGRAM}
import importlib.machinery
importing, replaced, main = threading.Event(), threading.Event(), threading.get_ident()

class Finder:
    '''Holds the flusher up in the midst of its import until the main thread is no longer in this program's code.'''
    def find_spec(self, name, path=None, target=None):
        if name != "pyjama_instrument.fold.fold" or threading.get_ident() == main: return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        self.execute, spec.loader.exec_module = spec.loader.exec_module, self.execute_late
        return spec
    def execute_late(self, module):
        importing.set()
        replaced.wait()
        while sys._current_frames()[main].f_code.co_filename == "<string>": pause(0.001)
        self.execute(module)

sys.meta_path.insert(0, Finder())
pause = time.sleep
quick()
importing.wait()
{PATCH}
replaced.set()
assert flush()
"""
    run_python(source)
    assert counts() == {"quick": 1}


def test_calls_of_many_greenlets_at_once_count_exactly_and_show_while_they_last(
    own_store: Path, run_python: RunPython
) -> None:
    source = f"""{PATCH}{IMPORT}{PROGRAM}
@tool
def waits(event): event.wait()

def many(bound):
    for _ in range(20):
        bound()
        gevent.sleep(0)

event = gevent.event.Event()
with agent_session("agent") as run:
    waiting = [gevent.spawn(run.bind(waits), event) for _ in range(5)]
    gevent.joinall([gevent.spawn(many, run.bind(quick)) for _ in range(10)], raise_error=True)
    from pyjama_instrument.reader import get_dashboard_data
    def under_way():
        return sum(len(session.in_flight) for session in get_dashboard_data().sessions.values())
    while under_way() < 5:
        gevent.sleep(0.01)
    event.set()
    gevent.joinall(waiting, raise_error=True)
"""
    run_python("import gevent.event\n" + source)
    assert counts() == {"quick": 200, "waits": 5}
    (session,) = get_dashboard_data().sessions.values()
    assert (session.agent_id, session.calls, session.status, session.in_flight) == ("agent", 205, "completed", [])


def test_greenlets_and_the_operating_system_s_threads_of_a_pool_record_side_by_side(run_python: RunPython) -> None:
    source = f"""{PATCH}{IMPORT}{PROGRAM}
import gevent.threadpool
pool = gevent.threadpool.ThreadPool(3)

def in_a_thread():
    for _ in range(50):
        quick()
        flush(0)

def in_a_greenlet():
    for _ in range(50):
        quick()
        gevent.sleep(0)

tasks = [pool.spawn(in_a_thread) for _ in range(3)]
gevent.joinall([gevent.spawn(in_a_greenlet) for _ in range(3)], raise_error=True)
for task in tasks: task.get()
assert flush()
"""
    run_python(source)
    assert counts() == {"quick": 300}
    assert statuses() == {"completed"}


REPLACE = """
import _thread, os, sys, threading, time

def not_for_us(original):
    def replacement(*args, **kwargs):
        assert "/pyjama_instrument/" not in sys._getframe(1).f_code.co_filename, original
        return original(*args, **kwargs)
    return replacement

def replace():
    '''As a library for green threads does, but only ours must not use them.'''
    for place, names in {
        _thread: ["allocate_lock", "get_ident", "start_new_thread"],
        threading: ["Lock", "RLock", "get_ident", "current_thread"],
        threading.Condition: ["wait"],
        threading.Event: ["wait"],
        threading.Thread: ["start", "join"],
        time: ["sleep"],
    }.items():
        for name in names:
            setattr(place, name, not_for_us(getattr(place, name)))
"""


@pytest.mark.parametrize("order", ["replaced first", "replaced after the import", "replaced after the first call"])
def test_whatever_library_has_replaced_threads_locks_and_sleep_they_are_not_used(
    own_store: Path, run_python: RunPython, order: str
) -> None:
    begin = {
        "replaced first": f"replace()\n{IMPORT}",
        "replaced after the import": f"{IMPORT}replace()\n",
        "replaced after the first call": f"{USED_BEFORE}replace()\n",
    }[order]
    source = f"""{REPLACE}{begin}
@tool
def quick(x=0): return x

quick()
with agent_session("agent"):
    pid = os.fork()
    if pid == 0:
        quick()
        os._exit(0)
    os.waitpid(pid, 0)
    quick()
assert flush()
"""
    assert run_python(source).stderr == ""
    assert counts() == {"quick": 3}
    assert statuses() == {"completed"}
