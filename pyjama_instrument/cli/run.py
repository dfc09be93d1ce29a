"""``pyjama run``: records any program, in any language, as one run of an agent.

The program gets the standard streams and the working directory of this process, and environment variables that name
the run. While the program runs, this process waits, passes signals on and at the end takes over the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pyjama_instrument.cli.terminal import print_error, print_note

if TYPE_CHECKING:
    from pyjama_instrument import Session

__all__ = ["CommandFailed", "run"]

_FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
_FROM_THE_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT})
# Python ignores these signals for itself; the program expects the system's defaults.
_IGNORED_BY_PYTHON = [getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name)]
_SI_KERNEL = 0x80  # siginfo's si_code of a signal from the kernel: Ctrl-C, or a terminal that was closed
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_INTERRUPTED = 130


class CommandFailed(Exception):
    """The program failed; the message has its exit code or signal."""


class _Outcome(NamedTuple):
    """How the program ended: the exit code to take over, whether Ctrl-C ended it, and what went wrong."""

    code: int
    cancelled: bool = False
    problem: str | None = None


def run(options: argparse.Namespace) -> int:
    """Run the command as a run of ``options.agent`` and return its exit code.

    127 if there is no such command, 126 if it cannot be executed, 128+n if signal n killed it.
    """
    from pyjama_instrument import agent_session

    command: list[str] = options.command_line
    name = os.path.basename(command[0].rstrip("/"))[:256].strip() or "command"
    outcome = _Outcome(_NOT_FOUND)
    # Threads inherit the signal mask, so the threads that the recorder starts from here on do not get the signals.
    with _arguments_hidden(name), _signals_blocked() as signals, agent_session(options.agent) as session:
        if options.verbose or sys.stderr.isatty():
            _print_where(session)
        try:
            with session.step(name):
                outcome = _supervise(command, session.env(), signals)
                session.annotate(exit_code=outcome.code)
                _raise_if_failed(outcome)
        except CommandFailed as failure:
            session.fail(str(failure))
        except KeyboardInterrupt:
            session.cancel()
    return outcome.code


def _print_where(session: Session) -> None:
    """Print the run's id and where to see it on standard error: standard output is the program's."""
    from pyjama_instrument.cli.dashboard_url import url_of_run

    url = url_of_run(session.agent, session.id)
    print_note(f"pyjama: {session.agent}, run {session.id}")
    print_note(f"pyjama: to see it, open: {url}" if url else f"pyjama: to see it, run: pyjama show {session.id[:8]}")


def _raise_if_failed(outcome: _Outcome) -> None:
    """Leave the step with an exception if the program failed, so that the step fails too."""
    if outcome.cancelled:
        raise KeyboardInterrupt
    if outcome.problem is not None:
        raise CommandFailed(outcome.problem)


@contextlib.contextmanager
def _arguments_hidden(name: str) -> Iterator[None]:
    """Hide the arguments while the recorder starts: it records ``sys.argv``, and they may contain secrets."""
    before = sys.argv
    sys.argv = [*before[:1], "run", "--", name]
    try:
        yield
    finally:
        sys.argv = before


class _Signals(NamedTuple):
    """The blocked signals, and the mask from before, which the program gets."""

    blocked: frozenset[signal.Signals]
    before: set[signal.Signals | int]


@contextlib.contextmanager
def _signals_blocked() -> Iterator[_Signals]:
    """Block the signals to pass on, so that none is lost between the start and the end of the program.

    A signal that is already ignored stays ignored, also for the program: nohup relies on that.
    """
    blocked = frozenset(each for each in _FORWARDED if signal.getsignal(each) is not signal.SIG_IGN) | {signal.SIGCHLD}
    # Systems other than Linux may drop a signal without a handler even if it is blocked.
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield _Signals(blocked, before)
    finally:
        # Signals that are still pending were for the program, which has ended. They must not end this process before
        # it has recorded how the program ended.
        while pending := signal.sigpending() & (blocked - before):
            signal.sigwait(pending)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, handler)


def _supervise(command: list[str], env: Mapping[str, str], signals: _Signals) -> _Outcome:
    early = _pending(signals.blocked)
    try:
        # posix_spawn instead of subprocess: it sets the program's signal mask without running Python code between
        # fork and exec, which is not safe if there are threads.
        pid = os.posix_spawnp(command[0], command, env, setsigmask=signals.before, setsigdef=_IGNORED_BY_PYTHON)
    except (FileNotFoundError, NotADirectoryError):
        return _cannot_start(_NOT_FOUND, f"{command[0]}: command not found")
    except (OSError, ValueError) as error:
        return _cannot_start(_NOT_EXECUTABLE, f"{command[0]}: {getattr(error, 'strerror', None) or error}")
    for number in early:  # the program had not been started when the terminal sent them
        os.kill(pid, number)
    return _outcome(*_wait(pid, signals.blocked))


def _pending(blocked: frozenset[signal.Signals]) -> list[int]:
    """The signals to pass on that came before the program was started."""
    found = []
    while pending := signal.sigpending() & (blocked - {signal.SIGCHLD}):
        found.append(signal.sigwait(pending))
    return found


def _cannot_start(code: int, problem: str) -> _Outcome:
    print_error(problem)
    return _Outcome(code, problem=problem)


def _wait(pid: int, blocked: frozenset[signal.Signals]) -> tuple[int, bool]:
    """Pass signals on until the program ends. Returns its wait status, and whether there was a SIGINT."""
    interrupted = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, interrupted
        number, by_terminal = _next_signal(blocked)
        interrupted |= number == signal.SIGINT
        if number != signal.SIGCHLD and not by_terminal:
            os.kill(pid, number)  # not reaped yet, so the id is still the program's


def _next_signal(blocked: frozenset[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether the terminal sent it: then the program, in the same process group, has it too."""
    if hasattr(signal, "sigwaitinfo"):
        found = signal.sigwaitinfo(blocked)
        return found.si_signo, found.si_code == _SI_KERNEL
    number = signal.sigwait(blocked)
    return number, number in _FROM_THE_KEYBOARD and os.isatty(0)


def _outcome(status: int, interrupted: bool) -> _Outcome:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return _Outcome(128 - code, code == -signal.SIGINT, f"killed by {_signal_name(-code)}")
    if code == 0:
        return _Outcome(0)
    # A program that catches SIGINT usually exits with 130, or cleans up and exits with another code.
    return _Outcome(code, interrupted or code == _INTERRUPTED, f"exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals between the first and the last have no names
        return f"signal {number}"
