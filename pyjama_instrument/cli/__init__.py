"""The ``pyjama`` command: parses the command line, runs one command, and turns every outcome into an exit code.

Exit codes: 0 success, 1 the command found a problem, 2 it could not do its work, 130 Ctrl-C, 141 the reader of its
output has closed the pipe. ``pyjama run`` exits with the code of the program that it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from pyjama_instrument import _platform
from pyjama_instrument.cli.parser import parse
from pyjama_instrument.cli.terminal import print_error
from pyjama_instrument.errors import PyjamaError

__all__ = ["COMMANDS", "main"]

_FAILED = 2
_INTERRUPTED = 130
_PIPE_CLOSED = 141

COMMANDS = ("dashboard", "demo", "status", "top", "show", "tail", "export", "clear", "doctor", "run", "completion")
"""Each is a function in the module of its name, which is imported only when the command runs."""

_READING = frozenset({"status", "top", "show", "tail", "export", "clear"})
_SHORT = frozenset({"status", "completion"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process) and return the exit code."""
    _prepare_output()
    try:
        try:
            code = _run(parse(sys.argv[1:] if argv is None else argv))
        except SystemExit as end:  # raised by argparse after printing, and by a command that a signal ends
            code = end.code if isinstance(end.code, int) else _FAILED
        sys.stdout.flush()
        return code
    except PyjamaError as error:
        print_error(str(error))
        return _FAILED
    except BrokenPipeError:
        _discard_stdout()
        return _PIPE_CLOSED
    except OSError as error:
        print_error(f"{error.filename or 'cannot write to standard output'}: {error.strerror or error}")
        _discard_stdout()
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    name: str = options.command
    needs_store = name != "completion" or options.values is not None
    if needs_store:
        _platform.require()
    module = importlib.import_module(f"pyjama_instrument.cli.{name}")
    command: Callable[[argparse.Namespace], int] = getattr(module, name)
    if not needs_store:
        return command(options)
    from pyjama_instrument.cli.home import check_home, home_in_force

    with home_in_force(options.home), _collection_off() if name in _SHORT else contextlib.nullcontext():
        if name != "doctor":  # it reports what is wrong with the store
            check_home(options.home, reading=name in _READING)
        return command(options)


@contextlib.contextmanager
def _collection_off() -> Iterator[None]:
    """Switch the garbage collector off: a short command spends its time on imports, which leave no garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _prepare_output() -> None:
    """Escape characters that the encoding of the output lacks, and discard output if the stream is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # open until the process exits
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Point standard output at nothing, so that the flush at exit does not fail on the closed pipe again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
