"""Text for a terminal: nothing out of the store reaches it unescaped, and colour only where it is wanted."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence

from pyjama_instrument.presentation.formatting import printable as safe
from pyjama_instrument.presentation.formatting import problem

__all__ = [
    "colour_wanted",
    "columns_of_terminal",
    "complain",
    "fit",
    "paint",
    "problem",
    "safe",
    "say",
    "table",
    "width_of",
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


def colour_wanted() -> bool:
    """Whether standard output is a terminal that may be coloured (see no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()


def columns_of_terminal() -> int | None:
    """How wide the terminal on standard output is; None if it is no terminal: a pipe has room for every column."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def paint(text: str, style: str) -> str:
    """``text`` in the colour for ``style`` (a status, ``dim`` or ``bold``) where colour is wanted."""
    code = _STYLES.get(style)
    return f"\x1b[{code}m{text}{_PLAIN}" if code and text and colour_wanted() else text


def say(text: str = "") -> None:
    """One line on standard output, there at once also when that is a pipe."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"pyjama: {safe(text, 1000)}", file=sys.stderr, flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of aligned columns. A cell that is a known status is coloured; columns in ``right`` are right-aligned."""
    widths = [max(map(width_of, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - width_of(cell))
            shown = paint(cell, "dim") if row is heads else paint(cell, cell)
            cells.append(gap + shown if index in right else shown + gap)
        lines.append("  ".join(cells).rstrip())
    return lines


def width_of(text: str) -> int:
    """Columns that ``text``, printable and without colours, takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")


def fit(line: str, width: int) -> str:
    """A line, colours and all, cut to ``width`` columns."""
    shown, left, coloured = [], width, False
    for part in _COLOUR.split(line):
        if _COLOUR.fullmatch(part):
            coloured = part != _PLAIN
            shown.append(part)
            continue
        for character in part:
            left -= _columns(character)
            if left < 0:
                return "".join(shown) + (_PLAIN if coloured else "")
            shown.append(character)
    return "".join(shown)
