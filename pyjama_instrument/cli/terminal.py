"""Prints lines: coloured only if colour is wanted, and wrapped only if the output is a terminal.

Text from the store is made printable before it is printed: it could contain escape sequences.
"""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata
from typing import NoReturn

from pyjama_instrument.presentation.formatting import printable

__all__ = [
    "cut",
    "fit",
    "print_error",
    "print_line",
    "print_note",
    "style",
    "terminal_columns",
    "wait_for_interrupt",
    "width_of",
    "wrap",
]

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_PLAIN = "\x1b[0m"
_STYLES = {
    "running": "36",
    "completed": "32",
    "ok": "32",
    "failed": "31",
    "error": "31",
    "fail": "31",
    "crashed": "1;31",
    "cancelled": "33",
    "ended": "2",
    "warn": "33",
    "dim": "2",
    "bold": "1",
}


def style(text: str, name: str) -> str:
    """``text`` in the colour of ``name`` (a status, ``dim`` or ``bold``), if colour is wanted."""
    code = _STYLES.get(name)
    return f"\x1b[{code}m{text}{_PLAIN}" if code and text and _colour_wanted() else text


def _colour_wanted() -> bool:
    """NO_COLOR switches colour off and FORCE_COLOR on; otherwise a terminal gets colour, unless it is a dumb one."""
    if os.environ.get("NO_COLOR"):  # see no-color.org
        return False
    forced = os.environ.get("FORCE_COLOR")
    return (bool(forced) and forced != "0") or (os.environ.get("TERM") != "dumb" and sys.stdout.isatty())


def terminal_columns() -> int | None:
    """The width of the terminal on standard output; None if the output is not a terminal."""
    if not sys.stdout.isatty():
        return None
    import shutil  # takes longer to import than all of this module's other imports

    return shutil.get_terminal_size().columns


def print_line(text: str = "") -> None:
    """Print a line on standard output at once, even if that is a pipe."""
    print(text, flush=True)


def print_note(text: str) -> None:
    """Print a line on standard error, where it does not mix with the output."""
    print(printable(text, 1000), file=sys.stderr, flush=True)


def print_error(text: str) -> None:
    """Print an error on standard error."""
    print_note(f"pyjama: {text}")


def width_of(text: str) -> int:
    """The columns that printable ``text`` takes on a terminal. Colours take none."""
    plain = _COLOUR.sub("", text)
    return len(plain) if plain.isascii() else sum(map(_columns, plain))


def _columns(character: str) -> int:
    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")


def fit(line: str, width: int) -> str:
    """A line, which may be coloured, cut to ``width`` columns."""
    kept, left, coloured = [], width, False
    for part in _COLOUR.split(line):
        if _COLOUR.fullmatch(part):
            coloured = part != _PLAIN
            kept.append(part)
            continue
        for character in part:
            left -= _columns(character)
            if left < 0:
                return "".join(kept) + (_PLAIN if coloured else "")
            kept.append(character)
    return "".join(kept)


def cut(text: str, width: int) -> str:
    """Uncoloured text cut to ``width`` columns, with ``…`` at its end if something is missing."""
    return text if width_of(text) <= width else fit(text, width - 1) + "…"


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Lines of at most ``width`` columns, broken at spaces; all but the first begin with ``indent``.

    A longer word stays whole and beside its label, so that a path or a command can be copied. Without a width, there is
    one line.
    """
    if width is None:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        has_words = line.strip() and (not indent or width_of(line.rstrip()) > len(indent))
        if has_words and width_of(longer) > width:
            lines.append(line)
            longer = indent + word
        line = longer
    return [*lines, line]


def wait_for_interrupt() -> NoReturn:
    """Wait until Ctrl-C, or another signal whose handler raises.

    The wait is renewed every half second: Python notices a signal that arrives right before a system call only after
    that call.
    """
    while True:
        time.sleep(0.5)
