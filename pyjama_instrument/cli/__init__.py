"""The ``pyjama`` command: parse, run one command, turn every outcome into an exit code.

Exit codes: 0 done, 1 the command found something wrong, 2 it could not do its work, 130 Ctrl-C, 141 the reader of
its output went away. ``pyjama run`` has those of the command it wraps.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence

from pyjama_instrument import _platform
from pyjama_instrument.cli._parser import parse
from pyjama_instrument.cli._terminal import complain
from pyjama_instrument.errors import PyjamaError

__all__ = ["main"]

_FAILED = 2
_INTERRUPTED = 130
_PIPE_CLOSED = 141

# Each command is imported when it is asked for: ``pyjama --help`` needs none of what they need.
_COMMANDS = {
    "dashboard": ("dashboard", "dashboard"),
    "demo": ("demo", "demo"),
    "status": ("status", "status"),
    "top": ("top", "top"),
    "show": ("show", "show"),
    "tail": ("tail", "tail"),
    "export": ("export", "export"),
    "clear": ("clear", "clear"),
    "doctor": ("doctor", "doctor"),
    "run": ("run", "run"),
    "completion": ("completion", "completion"),
}
_WITHOUT_STORE = ("completion",)
_READING = frozenset({"status", "top", "show", "tail", "export", "clear"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return the exit code. Raises nothing."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as end:  # argparse has said what there is to say
        return end.code if isinstance(end.code, int) else _FAILED
    _tolerate_any_character()
    try:
        command = _command(options.command)
        with _store_in_force(options.home):
            _check_home(options.command, options.home)
            code = command(options)
            sys.stdout.flush()
            return code
    except PyjamaError as error:
        complain(str(error))
        return _FAILED
    except BrokenPipeError:
        _forget_stdout()
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    if name not in _WITHOUT_STORE:
        _platform.require()
    module, function = _COMMANDS[name]
    command: Callable[[argparse.Namespace], int] = getattr(
        importlib.import_module(f"pyjama_instrument.cli.{module}"), function
    )
    return command


@contextlib.contextmanager
def _store_in_force(home: str | None) -> Iterator[None]:
    """Let ``--home`` decide for this process and its children; an environment variable reaches both."""
    if home is None:
        yield
        return
    from pyjama_instrument.config import resolve_home

    before = os.environ.get("PYJAMA_HOME")
    os.environ["PYJAMA_HOME"] = resolve_home(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYJAMA_HOME"]
        else:
            os.environ["PYJAMA_HOME"] = before


def _check_home(command: str, given: str | None) -> None:
    """Refuse a place where no store can be; and if it was named with ``--home``, one where none is.

    Raises:
        PyjamaError: there is none, or nothing says where it is.
    """
    if command in (*_WITHOUT_STORE, "doctor") or (given is None and command not in _READING):
        return  # doctor finds out by itself what is wrong with the place
    from pyjama_instrument.config import resolve_home
    from pyjama_instrument.errors import StoreUnavailable

    home = resolve_home()
    try:
        found = os.stat(home)
    except OSError as error:
        if given is None or command not in _READING:  # nothing is recorded yet
            return
        why = error.strerror or str(error)
        raise StoreUnavailable(f"there is no store at {home} ({why}): check the directory given with --home") from None
    if not stat.S_ISDIR(found.st_mode):
        raise StoreUnavailable(
            f"{home} is not a directory, so no store is there: give another to --home or PYJAMA_HOME"
        )


def _tolerate_any_character() -> None:
    """Names are any Unicode, terminals are not: what cannot be encoded is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the flush at exit does not meet the closed pipe again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
