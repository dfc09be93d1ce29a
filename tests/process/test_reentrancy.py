"""Recording from wherever Python may call code in between: no deadlock, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument.reader import get_dashboard_data
from tests.conftest import RunPython
from tests.scale import full
from tests.stores import fold

_PREAMBLE = """
import atexit, gc, logging, os, signal, sys, threading, time, weakref
from pyjama_instrument import agent_session, flush, hooks, tool
from pyjama_instrument.recording.recorder import recorder

@tool
def work(x=0): return x

@tool
def inner(x=0): return x

def counts():
    from pyjama_instrument.reader import get_dashboard_data
    return {name: entry.count for name, entry in get_dashboard_data().metrics.tools.items()}
"""


def _counts(home: Path) -> dict[str, int]:
    return {name: entry.count for name, entry in get_dashboard_data(home).metrics.tools.items()}


@pytest.mark.parametrize("first", ["the signal", "the program"])
def test_signal_handlers_that_record_lose_nothing_and_lock_nobody_out(
    own_store: Path, run_python: RunPython, first: str
) -> None:
    source = f"""{_PREAMBLE}
handled = 0
def handler(*_):
    global handled
    handled += 1
    inner()
    with agent_session("from a signal"):
        pass
    signal.setitimer(signal.ITIMER_REAL, 0.001)  # again 1 ms from now: the program must get its turn on a slow machine
signal.signal(signal.SIGALRM, handler)
if {first == "the program"}: work()
signal.setitimer(signal.ITIMER_REAL, 0.001)
done = 0
while done < {full(200_000, 8_000)} or handled < {full(2000, 40)}:
    work()
    done += 1
    if done % 500 == 0: flush(0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(done + {first == "the program"}, handled)
"""
    worked, handled = map(int, run_python(source, timeout=full(600, 100)).stdout.split())
    assert _counts(own_store) == {"work": worked, "inner": handled}
    assert get_dashboard_data(own_store).agents["from a signal"].runs.completed == handled


def test_finalizers_weak_references_and_exit_handlers_that_record_lose_nothing(
    own_store: Path, run_python: RunPython
) -> None:
    source = f"""{_PREAMBLE}
class Dies:
    def __del__(self):
        inner()

class Watched:
    def __init__(self):
        self.me = self  # found by the collector only

watching = [weakref.ref(watched, lambda _: inner()) for watched in [Watched() for _ in range(100)]]
gc.set_threshold(5)
for n in range(1000):
    cycle = [Dies()]
    cycle.append(cycle)
    work()
del cycle
gc.collect()
atexit.register(inner)
at_exit = Dies()
"""
    run_python(source)
    counts = _counts(own_store)
    assert counts["work"] == 1000
    assert 1101 <= counts["inner"] <= 1102  # the last one dies when modules are cleared: it may come too late


def test_hooks_that_call_tools_lose_nothing(own_store: Path, run_python: RunPython) -> None:
    source = f"""{_PREAMBLE}
hooks.register_hook("work", lambda call: inner())
hooks.register_pre_hook("work", lambda call: inner())
for n in range(300):
    assert work(n) == n
"""
    run_python(source)
    assert _counts(own_store) == {"work": 300, "inner": 600}


def test_a_hook_of_every_tool_that_calls_a_tool_does_not_run_without_end(
    own_store: Path, run_python: RunPython
) -> None:
    source = f"""{_PREAMBLE}
hooks.register_hook("*", lambda call: inner())
hooks.register_pre_hook("*", lambda call: inner() and None)
for n in range(20):
    assert work(n) == n
"""
    run_python(source)
    assert _counts(own_store) == {"work": 20, "inner": 80}  # each of the two also runs for the calls of the other


def test_logging_handlers_that_call_tools_lose_nothing(own_store: Path, run_python: RunPython) -> None:
    source = f"""{_PREAMBLE}
class Handler(logging.Handler):
    def emit(self, record):
        inner()
logging.getLogger().addHandler(Handler())
logging.getLogger().setLevel(logging.DEBUG)

@tool
def logs():
    logging.info("in a tool")

for n in range(300):
    logs()
"""
    run_python(source)
    assert _counts(own_store) == {"logs": 300, "inner": 300}


def test_eight_threads_with_signals_finalizers_and_flushes_lose_nothing(own_store: Path, run_python: RunPython) -> None:
    source = f"""{_PREAMBLE}
class Dies:
    def __del__(self):
        inner()

handled = 0
def handler(*_):
    global handled
    handled += 1
    inner()
    signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)

def busy():
    with agent_session("thread") as run:
        for n in range({full(20_000, 400)}):
            work(n)
            if n % 50 == 0:
                cycle = [Dies()]
                cycle.append(cycle)
                flush(0)

threads = [threading.Thread(target=busy) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
signal.signal(signal.SIGALRM, signal.SIG_IGN)
gc.collect()
print(handled)
"""
    handled = int(run_python(source, timeout=full(600, 100)).stdout)
    deaths = 8 * len(range(0, full(20_000, 400), 50))
    assert _counts(own_store) == {"work": 8 * full(20_000, 400), "inner": handled + deaths}
    fold(own_store)
    assert _counts(own_store) == {"work": 8 * full(20_000, 400), "inner": handled + deaths}


SHUTDOWN = """
import os, sys, threading, time
from pyjama_instrument import agent_session, tool

@tool
def work(x=0): return x

def forever():
    while True:
        work()

for _ in range(int(sys.argv[1])):
    threading.Thread(target=forever, daemon=True).start()
counted = [work() for _ in range(20)]
"""


def test_the_end_of_the_interpreter_with_daemon_threads_that_record_is_neither_stuck_nor_loud(
    tmp_path: Path,
) -> None:
    for number in range(full(50, 2)):
        # Each has a store of its own: what such threads record while a busy machine ends them fills any common one.
        store = tmp_path / f"store {number}"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SHUTDOWN, full("8", "2")],
            env={**os.environ, "PYJAMA_HOME": str(store)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        data = get_dashboard_data(store)
        assert data.metrics.global_.count >= 20
        assert {session.status for session in data.sessions.values()} == {"completed"}


@pytest.mark.parametrize("handler", ["signal.default_int_handler", "lambda *_: sys.exit(3)"], ids=["Ctrl-C", "exit"])
def test_a_signal_while_the_program_ends_leaves_no_traceback_of_ours(
    own_store: Path, run_python: RunPython, handler: str
) -> None:
    source = f"""{_PREAMBLE}
from pyjama_instrument.storage import compaction

def interrupted(*_, **__):
    signal.raise_signal(signal.SIGINT)

work()
signal.signal(signal.SIGINT, {handler})
recorder.background.flusher.stop()
compaction.compact = interrupted
"""
    assert run_python(source).stderr == ""
    (session,) = get_dashboard_data(own_store).sessions.values()
    assert (session.status, session.calls) == ("completed", 1)


@pytest.mark.parametrize("end", ["", "raise ValueError('wrong')"], ids=["well", "by an exception"])
def test_a_program_that_ends_while_a_daemon_thread_is_about_to_begin_its_session_ends_it(
    own_store: Path, run_python: RunPython, end: str
) -> None:
    source = f"""{_PREAMBLE}
record, claimed = recorder.writer.record, threading.Event()

def stuck(event):
    if threading.current_thread() is not threading.main_thread():
        claimed.set()
        time.sleep(3600)
    record(event)

recorder.writer.record = stuck
threading.Thread(target=work, daemon=True).start()
claimed.wait()
work()
{end}
"""
    run_python(source, returncode=int(bool(end)))
    (session,) = get_dashboard_data(own_store).sessions.values()
    assert (session.status, session.calls) == ("failed" if end else "completed", 1)


def test_a_daemon_thread_that_begins_its_session_while_the_program_ends_ends_it(
    own_store: Path, run_python: RunPython
) -> None:
    source = f"""{_PREAMBLE}
recorder.hooks.install()
ending, done = threading.Event(), threading.Event()

def late():
    ending.wait()
    work()
    done.set()

threading.Thread(target=late, daemon=True).start()
end_implicit = recorder.sessions.end_implicit

def slowly():
    end_implicit()
    ending.set()
    done.wait()

recorder.sessions.end_implicit = slowly
"""
    run_python(source)
    (session,) = get_dashboard_data(own_store).sessions.values()
    assert (session.status, session.calls) == ("completed", 1)


def test_a_program_that_ends_in_a_recorded_call_of_a_daemon_thread_leaves_no_call_under_way(own_store: Path) -> None:
    source = (
        "import sys, threading, time\n"
        + _PREAMBLE
        + """
@tool
def sleeps():
    started.set()
    time.sleep(3600)

started = threading.Event()
threading.Thread(target=sleeps, daemon=True).start()
started.wait()
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (session,) = get_dashboard_data(own_store).sessions.values()
    assert (session.status, session.in_flight) == ("completed", [])


def test_a_signal_that_the_program_blocks_to_wait_for_it_is_not_delivered_to_our_thread(run_python: RunPython) -> None:
    source = f"""{_PREAMBLE}
work()
while not recorder.background.flusher._ident:
    time.sleep(0.001)
waited_for = {{signal.SIGTERM, signal.SIGUSR1}}
signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
for _ in range(20):
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.sigwait(waited_for) == signal.SIGUSR1
os.kill(os.getpid(), signal.SIGTERM)
print(signal.sigwait(waited_for).name)
"""
    assert run_python(source).stdout == "SIGTERM\n"


def _unavailable(tmp_path: Path) -> str:
    (tmp_path / "file").write_text("in the way")
    return str(tmp_path / "file" / "store")


@pytest.mark.parametrize("place", ["store", "unavailable"])
def test_signal_handlers_that_call_slow_tools_beside_threads_that_do_lock_nobody_out(
    tmp_path: Path, run_python: RunPython, place: str
) -> None:
    source = f"""{_PREAMBLE}
@tool
def slow(): time.sleep(0.0011)

stopped = handling = False
def slowly():
    while not stopped:
        slow()

def handler(*_):
    global handling
    if not handling:
        handling = True
        slow()
        handling = False

threads = [threading.Thread(target=slowly) for _ in range(3)]
for thread in threads: thread.start()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
end = time.monotonic() + {full(20, 2)}
while time.monotonic() < end:
    work()
signal.setitimer(signal.ITIMER_REAL, 0)
stopped = True
for thread in threads: thread.join()
"""
    home = {"PYJAMA_HOME": _unavailable(tmp_path)} if place == "unavailable" else {}
    run_python(source, **home)


def test_stderr_that_is_the_program_s_own_code_is_not_written_to_under_a_lock(
    tmp_path: Path, run_python: RunPython
) -> None:
    # One thread holds the handler's lock and calls a tool; another has something to say and waits for that lock.
    source = f"""{_PREAMBLE}
entered = threading.Event()

class Handler(logging.Handler):
    def emit(self, record):
        entered.set()
        time.sleep(0.2)
        inner()

class ToLog:
    def write(self, text):
        if text.strip():
            logging.warning(text.strip())
    def flush(self): pass

logging.getLogger().addHandler(Handler())
sys.stderr = ToLog()
thread = threading.Thread(target=lambda: logging.warning("hello"))
thread.start()
entered.wait()
work()
thread.join()
"""
    run_python(source, PYJAMA_HOME=_unavailable(tmp_path))


def test_a_function_for_redaction_that_takes_a_lock_is_not_called_under_one_of_ours(run_python: RunPython) -> None:
    source = f"""{_PREAMBLE}
from pyjama_instrument import configure
lock, asked = threading.Lock(), threading.Event()

def redact(field):
    asked.set()
    with lock:
        return field.masked

def other():
    with lock:
        asked.wait()
        time.sleep(0.1)
        work()

configure(redact=redact)
thread = threading.Thread(target=other)
thread.start()
inner()
thread.join()
"""
    run_python(source)


def test_a_function_for_redaction_may_call_a_tool_at_the_very_first_event(
    own_store: Path, run_python: RunPython
) -> None:
    source = f"""{_PREAMBLE}
from pyjama_instrument import configure

def redact(field):
    inner()
    return field.masked

configure(redact=redact)
work()
"""
    run_python(source)
    assert _counts(own_store) == {"work": 1, "inner": 1}


def test_a_signal_handler_that_waits_for_a_lock_during_the_first_event_locks_nobody_out(
    own_store: Path, run_python: RunPython
) -> None:
    # The thread that has the lock calls a tool, while the one that was interrupted is opening the journal.
    source = f"""{_PREAMBLE}
lock, opening, called = threading.Lock(), threading.Event(), threading.Event()
uname = os.uname

def interrupted():
    os.uname = uname
    opening.set()
    signal.raise_signal(signal.SIGALRM)
    return uname()

def handler(*_):
    called.wait()
    with lock:
        inner()

def other():
    with lock:
        called.set()
        opening.wait()
        work()

os.uname = interrupted
signal.signal(signal.SIGALRM, handler)
thread = threading.Thread(target=other)
thread.start()
called.wait()
work()
thread.join()
"""
    run_python(source)
    assert _counts(own_store) == {"work": 2, "inner": 1}


def test_a_signal_handler_that_waits_for_a_lock_after_the_store_was_refused_locks_nobody_out(
    tmp_path: Path, run_python: RunPython
) -> None:
    source = f"""{_PREAMBLE}
from pyjama_instrument import _guard
lock, called, refused = threading.Lock(), threading.Event(), threading.Event()
report_once = _guard.report_once

def interrupted(key, sentence):
    report_once(key, sentence)
    if key == "unavailable" and not refused.is_set():
        signal.raise_signal(signal.SIGALRM)

def handler(*_):
    refused.set()
    with lock:
        inner()

def other():
    with lock:
        called.set()
        refused.wait()
        time.sleep(0.1)
        work()

_guard.report_once = interrupted
signal.signal(signal.SIGALRM, handler)
thread = threading.Thread(target=other)
thread.start()
called.wait()
work()
thread.join()
"""
    run_python(source, PYJAMA_HOME=_unavailable(tmp_path))


def test_a_daemon_thread_that_is_stuck_at_the_journal_does_not_keep_the_program(run_python: RunPython) -> None:
    source = f"""{_PREAMBLE}
from pyjama_instrument.recording import journal_lifecycle as module
opening = threading.Event()

def stuck(*_):
    opening.set()
    time.sleep(3600)

module.Journal = stuck
threading.Thread(target=work, daemon=True).start()
opening.wait()
inner()
inner()
"""
    assert "could not be recorded" in run_python(source).stderr


def test_the_functional_api_used_by_many_threads_for_one_agent_leaves_no_run_without_its_end(
    own_store: Path, run_python: RunPython
) -> None:
    source = f"""{_PREAMBLE}
from pyjama_instrument import shared_metrics
sys.setswitchinterval(1e-5)
end = time.monotonic() + {full(30, 1)}

def calls():
    count = 0
    while time.monotonic() < end:
        shared_metrics.record_tool_execution(tool_name="t", agent_id="x", status="ok", duration_ms=1)
        shared_metrics.record_tool_execution(tool_name="t", agent_id=f"agent-{{count}}", status="ok", duration_ms=1)
        count += 2
    counts.append(count)

def completes():
    while time.monotonic() < end:
        shared_metrics.record_agent_complete("x")

counts = []
threads = [threading.Thread(target=target) for target in (calls, calls, completes, completes)]
for thread in threads: thread.start()
for thread in threads: thread.join()
shared_metrics.record_agent_complete("x")
assert [state for state in recorder.sessions.open.values() if state.agent == "x"] == []
print(sum(counts))
"""
    called = int(run_python(source, timeout=full(300, 60)).stdout)
    assert _counts(own_store) == {"t": called}
    assert get_dashboard_data(own_store).agents["x"].runs.running == 0
