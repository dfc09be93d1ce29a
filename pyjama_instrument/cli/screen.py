"""The whole terminal: draws lines, reads keys one by one, and restores the terminal however the program ends."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import NoReturn

from pyjama_instrument.cli.terminal import fit

__all__ = ["Screen", "full_screen", "key_names"]

_ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_MOST_BYTES = 64
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)
_NAMES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
}


def key_names(typed: str) -> list[str]:
    """What was typed as keys: characters as they are, ``up``, ``page down`` and so on; unknown keys are left out."""
    return [name for key in _KEY.findall(typed) if (name := _NAMES.get(key, key))[0] != "\x1b"]


class Screen:
    """A terminal that does not echo keys. Ctrl-C still interrupts, and Ctrl-Z still stops."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before = termios.tcgetattr(self._keys) if self._keys is not None else None

    def enter(self) -> None:
        """Switch to the alternate screen."""
        if self._keys is not None:
            tty.setcbreak(self._keys)
        self._write(_ENTER)

    def leave(self) -> None:
        """Restore the terminal."""
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        self._write(_LEAVE)

    def size(self) -> tuple[int, int]:
        """The columns and rows that the terminal has now."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is shown by these lines, cut to the terminal."""
        columns, rows = self.size()
        shown = [f"{fit(line, columns)}\x1b[K" for line in lines[:rows]]
        self._write("\x1b[H" + "\r\n".join(shown) + "\x1b[J")

    def keys(self, seconds: float) -> list[str]:
        """Wait for at most so many seconds, and return the keys that were pressed.

        Raises:
            EOFError: the terminal was closed.
        """
        if self._keys is None:
            select.select([], [], [], seconds)
            return []
        ready, _, _ = select.select([self._keys], [], [], seconds)
        if not ready:
            return []
        pressed = os.read(self._keys, _MOST_BYTES)
        if not pressed:
            raise EOFError
        return key_names(pressed.decode("ascii", "ignore"))

    def _write(self, text: str) -> None:
        """Write past the buffer of ``sys.stdout``: a signal may call this while the buffer is being written."""
        data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


@contextlib.contextmanager
def full_screen() -> Iterator[Screen]:
    """A screen for the block."""
    screen = Screen()

    def stop(number: int, _: object) -> None:
        """Ctrl-Z: restore the terminal for the shell, stop, and take it again when continued."""
        screen.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, stop)  # runs when the process is continued
        screen.enter()

    handlers = {signal.SIGTSTP: stop, signal.SIGTERM: _exit, signal.SIGHUP: _exit}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    screen.enter()
    try:
        yield screen
    finally:
        with contextlib.suppress(OSError):  # the terminal may have been closed
            screen.leave()
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
