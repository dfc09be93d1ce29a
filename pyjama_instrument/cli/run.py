"""``pyjama run``: any program, in any language, as one run of an agent.

The program gets our standard streams, our working directory and the session's environment. While it runs, this
process only waits: it passes signals on and takes over the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pyjama_instrument.cli._terminal import complain

if TYPE_CHECKING:
    from pyjama_instrument import Session

__all__ = ["CommandFailed", "run"]

_FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
_FROM_THE_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT})
# The interpreter ignores these for itself; a program expects to find them as the system sets them.
_IGNORED_BY_PYTHON = [getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name)]
_SI_KERNEL = 0x80  # siginfo's si_code for a signal that the kernel raised: Ctrl-C, a terminal that hung up
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_INTERRUPTED = 130


class CommandFailed(Exception):
    """The program ended badly; the message says how."""


class _Outcome(NamedTuple):
    """How the program ended: the exit code to take over, whether Ctrl-C ended it, and what went wrong, if so."""

    code: int
    cancelled: bool = False
    problem: str | None = None


def run(options: argparse.Namespace) -> int:
    """Run the command as a session of ``options.agent`` and return its exit code.

    127 when there is no such command, 126 when it cannot be executed, 128+n when signal n killed it.
    """
    from pyjama_instrument import agent_session

    command: list[str] = options.command_line
    name = os.path.basename(command[0].rstrip("/"))[:256].strip() or "command"
    outcome = _Outcome(_NOT_FOUND)
    # Threads inherit the signal mask: those that recording starts from here on leave the signals to us.
    with _arguments_hidden(name), _signals_held() as signals, agent_session(options.agent) as session:
        if options.verbose or sys.stderr.isatty():
            _say_where(session)
        try:
            with session.step(name):
                outcome = _supervise(command, session.env(), signals)
                session.annotate(exit_code=outcome.code)
                _raise_unless_well(outcome)
        except CommandFailed as failure:
            session.fail(str(failure))
        except KeyboardInterrupt:
            session.cancel()
    return outcome.code


def _say_where(session: Session) -> None:
    """On standard error: the other one is the program's."""
    from pyjama_instrument.cli._address import address_of

    complain(f"{session.agent}, session {session.id}")
    complain(f"see it with  {address_of(session.agent, session.id) or f'pyjama show {session.id[:8]}'}")


def _raise_unless_well(outcome: _Outcome) -> None:
    """Leave the step the way the program ended, so that the step says so too."""
    if outcome.cancelled:
        raise KeyboardInterrupt
    if outcome.problem is not None:
        raise CommandFailed(outcome.problem)


@contextlib.contextmanager
def _arguments_hidden(name: str) -> Iterator[None]:
    """The journal says which program a writer is; the arguments of the wrapped one may hold secrets."""
    before = sys.argv
    sys.argv = [*before[:1], "run", "--", name]
    try:
        yield
    finally:
        sys.argv = before


class _Signals(NamedTuple):
    """The signals held back, and the mask from before, which is the one the program is to have."""

    held: frozenset[signal.Signals]
    before: set[signal.Signals | int]


@contextlib.contextmanager
def _signals_held() -> Iterator[_Signals]:
    """Hold back the signals to pass on, so that none is lost between the start and the end of the program.

    One that was ignored when we started stays ignored, for the program too: that is how nohup works.
    """
    held = frozenset(each for each in _FORWARDED if signal.getsignal(each) is not signal.SIG_IGN) | {signal.SIGCHLD}
    # A signal without a handler may be dropped even while it is held back, on systems other than Linux.
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield _Signals(held, before)
    finally:
        # What is still pending was meant for a program that is gone. It must not end us before we say how it went.
        while pending := signal.sigpending() & (held - before):
            signal.sigwait(pending)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, handler)


def _supervise(command: list[str], env: Mapping[str, str], signals: _Signals) -> _Outcome:
    early = _pending(signals.held)
    try:
        # posix_spawn and not subprocess: it can set the program's signal mask without running Python code between
        # fork and exec, which is not safe beside threads.
        pid = os.posix_spawnp(command[0], command, env, setsigmask=signals.before, setsigdef=_IGNORED_BY_PYTHON)
    except (FileNotFoundError, NotADirectoryError):
        return _cannot_start(_NOT_FOUND, f"{command[0]}: command not found")
    except (OSError, ValueError) as error:
        return _cannot_start(_NOT_EXECUTABLE, f"{command[0]}: {getattr(error, 'strerror', None) or error}")
    for number in early:  # the terminal did not send it to a program that was not there
        os.kill(pid, number)
    return _outcome(*_wait(pid, signals.held))


def _pending(held: frozenset[signal.Signals]) -> list[int]:
    """The signals to pass on that came before the program was started. How it takes them is its own affair."""
    found = []
    while pending := signal.sigpending() & (held - {signal.SIGCHLD}):
        found.append(signal.sigwait(pending))
    return found


def _cannot_start(code: int, problem: str) -> _Outcome:
    complain(problem)
    return _Outcome(code, problem=problem)


def _wait(pid: int, held: frozenset[signal.Signals]) -> tuple[int, bool]:
    """Pass signals on until the program ends; its wait status, and whether it was sent SIGINT meanwhile."""
    interrupted = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, interrupted
        number, by_terminal = _next_signal(held)
        interrupted |= number == signal.SIGINT
        if number != signal.SIGCHLD and not by_terminal:
            os.kill(pid, number)  # not reaped yet, so the id is still the program's


def _next_signal(held: frozenset[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether the terminal sent it: then the program, in the same group, has it already."""
    if hasattr(signal, "sigwaitinfo"):
        found = signal.sigwaitinfo(held)
        return found.si_signo, found.si_code == _SI_KERNEL
    number = signal.sigwait(held)
    return number, number in _FROM_THE_KEYBOARD and os.isatty(0)


def _outcome(status: int, interrupted: bool) -> _Outcome:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return _Outcome(128 - code, code == -signal.SIGINT, f"killed by {_signal_name(-code)}")
    if code == 0:
        return _Outcome(0)
    # A program that catches SIGINT usually ends with 130 or, having cleaned up, with a code of its own.
    return _Outcome(code, interrupted or code == _INTERRUPTED, f"exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals between the first and the last have no names
        return f"signal {number}"
