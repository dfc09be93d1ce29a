"""``pyjama run``: a transparent wrapper around any program, and a faithful witness of how it ended."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyjama_instrument.document import DashboardData, SessionSummary
from pyjama_instrument.reader import get_dashboard_data, load_session

PYJAMA = [sys.executable, "-W", "error", "-m", "pyjama_instrument"]
HANG_SECONDS = 60.0

# Prints "ready", then the signals that it gets, until SIGTERM, at which it exits with 7.
LISTENER = """
import os, signal, sys, time
def heard(number, _):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")  # print may be at work just now
    if number == signal.SIGTERM:
        os._exit(7)
for each in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, each), heard)
os.write(1, b"ready\\n")
while True:
    time.sleep(0.05)  # and not signal.pause(): a signal that comes right before it would go unnoticed
"""


def wrapped(*command: str, agent: str = "wrapped") -> list[str]:
    return [*PYJAMA, "run", "--agent", agent, "--", *command]


def python(code: str) -> list[str]:
    return wrapped(sys.executable, "-c", code)


def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False, **settings)  # type: ignore[call-overload,no-any-return]  # settings vary


def only_session(data: DashboardData | None = None) -> SessionSummary:
    (session,) = (data or get_dashboard_data()).sessions.values()
    return session


def signals_of(status: str) -> dict[str, int]:
    """The blocked and ignored signals in a ``/proc/…/status``, without the two that the C library keeps to itself."""
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[name], 16) & 0x7FFF_FFFF for name in ("SigBlk", "SigIgn")}


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


@pytest.fixture
def listener() -> Iterator[subprocess.Popen[str]]:
    """A wrapped program that listens to signals, ready to get some."""
    child = subprocess.Popen(python(LISTENER), stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    yield child
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    child.stdout.close()


# --- how it ends


def test_a_program_that_ends_well_is_a_completed_run() -> None:
    assert run(wrapped("true")).returncode == 0
    assert only_session().status == "completed"


def test_an_exit_code_is_mirrored_and_the_run_failed_with_it() -> None:
    assert run(wrapped("sh", "-c", "exit 3")).returncode == 3
    session = only_session()
    assert session.error is not None
    assert (session.status, session.error.message) == ("failed", "exit code 3")


def test_a_program_that_a_signal_killed_is_128_plus_the_signal_and_the_run_failed_with_its_name() -> None:
    assert run(wrapped("sh", "-c", "kill -KILL $$")).returncode == 137
    session = only_session()
    assert session.error is not None
    assert (session.status, session.error.message) == ("failed", "killed by SIGKILL")


@pytest.mark.parametrize("end", ["kill -INT $$", "exit 130"])
def test_a_program_that_sigint_ended_is_a_cancelled_run(end: str) -> None:
    assert run(wrapped("sh", "-c", end)).returncode == 130
    session = only_session()
    assert (session.status, [step.status for step in session.steps]) == ("cancelled", ["cancelled"])


def test_a_command_that_is_not_there_is_127_and_a_failed_run() -> None:
    done = run(wrapped("no-such-command-anywhere"))
    assert (done.returncode, done.stderr) == (127, "pyjama: no-such-command-anywhere: command not found\n")
    assert only_session().status == "failed"


def test_a_file_that_cannot_be_executed_is_126_and_a_failed_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a program")
    assert run(wrapped(str(tmp_path / "notes.txt"))).returncode == 126
    assert only_session().status == "failed"


def test_the_step_of_a_program_that_failed_failed_too() -> None:
    run(wrapped("/bin/sh", "-c", "exit 3"))
    assert [(step.step_id, step.status) for step in only_session().steps] == [("sh", "error")]


# --- what the program gets


def test_the_streams_are_the_programs_own() -> None:
    done = run(wrapped("sh", "-c", "cat; echo err >&2"), input="through\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "through\n", "err\n")


def test_the_arguments_arrive_unchanged() -> None:
    code = "import sys; print(sys.argv[1:])"
    done = run(wrapped(sys.executable, "-c", code, "--", "--home", "a b", ""))
    assert done.stdout == "['--', '--home', 'a b', '']\n"


def test_the_program_runs_in_the_directory_of_the_caller(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    assert run(wrapped("pwd"), cwd=tmp_path, env=env).stdout == f"{tmp_path}\n"


def test_the_program_finds_signals_as_the_caller_left_them() -> None:
    report = ["cat", "/proc/self/status"]
    assert signals_of(run(wrapped(*report)).stdout) == signals_of(run(report).stdout)


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    done = run(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *wrapped("cat", "/proc/self/status")])
    assert signals_of(done.stdout)["SigIgn"] & 1 << signal.SIGHUP - 1


def test_the_program_finds_the_session_in_its_environment() -> None:
    done = run(wrapped("sh", "-c", 'echo "$TRACEPARENT $PYJAMA_AGENT"', agent="nightly"))
    (session,) = get_dashboard_data().sessions
    assert done.stdout.startswith(f"00-{session}-")
    assert done.stdout.endswith(" nightly\n")


def test_the_trace_of_another_tracer_reaches_the_program_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    monkeypatch.setenv("TRACEPARENT", traceparent)
    monkeypatch.setenv("TRACESTATE", "vendor=1")
    done = run(wrapped("sh", "-c", 'echo "$TRACEPARENT $TRACESTATE"'))
    assert done.stdout == f"{traceparent} vendor=1\n"


def test_a_python_program_joins_the_session_with_its_tools_and_sessions() -> None:
    code = (
        "from pyjama_instrument import agent_session, tool\n"
        "tool('outside')(len)('x')\n"
        "with agent_session('inner'): tool('inside')(len)('x')\n"
    )
    assert run(python(code)).returncode == 0
    data = get_dashboard_data()
    outer = next(key for key, each in data.sessions.items() if each.agent_id == "wrapped")
    inner = next(key for key, each in data.sessions.items() if each.agent_id == "inner")
    assert data.sessions[inner].parent_session == outer
    assert (data.sessions[outer].calls, data.sessions[inner].calls) == (1, 1)


def test_a_python_programs_tool_is_below_the_step_of_the_program() -> None:
    run(python("from pyjama_instrument import tool; tool('outside')(len)('x')"))
    (session,) = get_dashboard_data().sessions
    (step,) = load_session(session).root.children
    assert [child.name for child in step.children] == ["outside"]


def test_the_arguments_of_the_program_are_not_recorded(own_store: Path) -> None:
    run(wrapped("sh", "-c", "exit 0", "hunter2", "--password", "hunter2"))
    stored = [path.read_bytes() for path in own_store.rglob("*") if path.is_file()]
    assert stored
    assert not any(b"hunter2" in data for data in stored)


def test_a_store_that_cannot_be_used_does_not_keep_the_program_from_running(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(wrapped("sh", "-c", "echo done; exit 5"), env={**os.environ, "PYJAMA_HOME": str(tmp_path / "file")})
    assert (done.returncode, done.stdout) == (5, "done\n")


def test_recording_that_is_switched_off_does_not_keep_the_program_from_running(own_store: Path) -> None:
    done = run(wrapped("sh", "-c", "exit 5"), env={**os.environ, "PYJAMA_DISABLED": "1"})
    assert (done.returncode, own_store.exists()) == (5, False)


# --- while it runs


def test_a_program_under_way_is_a_running_session_in_a_step_of_its_name(listener: subprocess.Popen[str]) -> None:
    session = only_session()
    assert (session.status, session.current_step) == ("running", os.path.basename(sys.executable))


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_is_passed_on_and_the_program_decides(listener: subprocess.Popen[str], name: str) -> None:
    assert listener.stdout is not None
    listener.send_signal(getattr(signal, name))
    assert listener.stdout.readline() == f"{name}\n"
    listener.send_signal(signal.SIGTERM)
    assert listener.stdout.readline() == "SIGTERM\n"
    assert listener.wait(timeout=HANG_SECONDS) == 7


def test_a_program_that_sigterm_kills_is_143_and_a_failed_run() -> None:
    child = subprocess.Popen(wrapped("sleep", "1000"))
    eventually(lambda: any(each.current_step for each in get_dashboard_data().sessions.values()))
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=HANG_SECONDS) == 143
    session = only_session()
    assert session.error is not None
    assert (session.status, session.error.message) == ("failed", "killed by SIGTERM")


def test_a_program_that_answers_sigint_with_a_code_of_its_own_is_a_cancelled_run() -> None:
    code = "trap 'exit 4' INT; echo ready; while :; do sleep 0.01; done"
    with subprocess.Popen(wrapped("sh", "-c", code), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=HANG_SECONDS) == 4
    assert only_session().status == "cancelled"


INTERRUPTED_EARLY = """
import os, signal
from pyjama_instrument.recording.session import Session
env = Session.env

def interrupted(session):
    os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, before there is a program
    return env(session)

Session.env = interrupted
"""


@pytest.mark.parametrize(("survives", "code", "status"), [(True, 3, "failed"), (False, 130, "cancelled")])
def test_an_early_ctrl_c_reaches_the_program_and_its_own_outcome_counts(
    tmp_path: Path, survives: bool, code: int, status: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_EARLY)
    command = wrapped("sh", "-c", "exit 3") if survives else wrapped("sleep", "1000")
    if survives:  # nothing that a program does for itself could be in time for certain
        block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); "
        command = [sys.executable, "-c", block + "os.execv(sys.argv[1], sys.argv[1:])", *command]
    done = run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == code
    assert only_session().status == status


def test_a_wrapper_that_is_killed_is_a_crashed_run(listener: subprocess.Popen[str]) -> None:
    listener.kill()
    listener.wait()
    eventually(lambda: only_session().status == "crashed")


def test_ctrl_c_at_a_terminal_reaches_the_program_once() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(PYJAMA[0], python(LISTENER))
    shown = b""

    def read_until(mark: bytes) -> None:
        nonlocal shown
        while mark not in shown:
            shown += os.read(terminal, 1024)

    try:
        read_until(b"ready")
        os.write(terminal, b"\x03")
        read_until(b"SIGINT")
        # A second SIGINT would have been passed on before this one, signals being taken in the order of numbers.
        os.kill(pid, signal.SIGUSR1)
        read_until(b"SIGUSR1")
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        os.close(terminal)
    assert shown.count(b"SIGINT") == 1
