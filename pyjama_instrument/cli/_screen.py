"""The whole terminal as a page to draw on, and afterwards as it was, however that came to an end."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import NoReturn

from pyjama_instrument.cli._terminal import fit

__all__ = ["Screen", "full_screen"]

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_LONGEST_KEY = 64


class Screen:
    """A terminal in which keys come one by one and unechoed. Ctrl-C still interrupts, Ctrl-Z still stops."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before = termios.tcgetattr(self._keys) if self._keys is not None else None

    def enter(self) -> None:
        """Take the terminal over."""
        if self._keys is not None:
            tty.setcbreak(self._keys)
        self._write(_ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was."""
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        self._write(_LEAVE)

    def size(self) -> tuple[int, int]:
        """Columns and lines, at this moment."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines in place of what was there; what does not fit is cut off."""
        columns, rows = self.size()
        shown = [f"{fit(line, columns)}\x1b[K" for line in lines[:rows]]
        self._write("\x1b[H" + "\r\n".join(shown) + "\x1b[J")

    def keys(self, seconds: float) -> str:
        """The keys that were pressed, as soon as there are any; none if there are none in that time."""
        if self._keys is None:
            select.select([], [], [], seconds)
            return ""
        ready, _, _ = select.select([self._keys], [], [], seconds)
        pressed = os.read(self._keys, _LONGEST_KEY) if ready else b""
        if ready and not pressed:
            raise EOFError  # the terminal is gone
        return "" if pressed.startswith(b"\x1b") else pressed.decode("ascii", "ignore")  # arrows and the like

    def _write(self, text: str) -> None:
        """Past the buffer of ``sys.stdout``: a signal's handler may come here while it is being written out."""
        data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


@contextlib.contextmanager
def full_screen() -> Iterator[Screen]:
    """A screen for the block."""
    screen = Screen()

    def stop(number: int, _: object) -> None:
        """Ctrl-Z: whoever gets the terminal meanwhile gets it as it was."""
        screen.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, stop)  # we have been continued
        screen.enter()

    handlers = {signal.SIGTSTP: stop, signal.SIGTERM: _end, signal.SIGHUP: _end}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    screen.enter()
    try:
        yield screen
    finally:
        with contextlib.suppress(OSError):  # the terminal is gone, and there is nobody to give it back to
            screen.leave()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
