"""Child processes that record, and waiting for what they do. Warnings are errors in them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from pyjama_instrument.document import DashboardData, SessionSummary
from pyjama_instrument.reader import get_dashboard_data

__all__ = ["HANG_SECONDS", "ended", "killed", "line_from", "started", "tell", "the_session", "until"]

HANG_SECONDS = 60.0

PREAMBLE = """
import os, signal, sys, threading, time
from pyjama_instrument import agent_session, configure, flush, tool

def say(*words):
    print(*words, flush=True)

def wait():
    sys.stdin.readline()  # until the test says so

@tool
def work(value=1):
    return value

@tool
def lasting():
    say("lasting")
    wait()
"""


@contextlib.contextmanager
def started(source: str, *args: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A child that runs ``source`` after the preamble. It is gone at the end of the block, and its children with it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + source, *args]
    with subprocess.Popen(command, text=True, start_new_session=True, **(pipes | options)) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def line_from(child: subprocess.Popen[str]) -> str:
    """What the child says next."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        assert child.stderr is not None
        raise AssertionError(f"the child said nothing more: {child.wait()}\n{child.stderr.read()}")
    return line.strip()


def tell(child: subprocess.Popen[str], line: str = "") -> None:
    """Let a child that waits go on."""
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def ended(child: subprocess.Popen[str], returncode: int = 0) -> str:
    """Wait for the child's end, which must be this one and without a word on stderr unless it failed."""
    out, err = child.communicate(timeout=HANG_SECONDS)
    assert child.returncode == returncode, err
    assert returncode == 1 or err == "", err
    return out


def killed(child: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """End the child by a signal."""
    os.kill(child.pid, number)
    child.communicate(timeout=HANG_SECONDS)
    assert child.returncode == -number


def until(condition: Callable[[], Any], what: str = "this did not happen") -> Any:
    """Wait until the condition holds; the deadline is a hang guard."""
    deadline = time.monotonic() + HANG_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return answer


def the_session(data: DashboardData | None = None) -> SessionSummary:
    """The only session there is."""
    (session,) = (data or get_dashboard_data()).sessions.values()
    return session
