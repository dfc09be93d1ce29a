"""Text for a terminal: nothing out of the store reaches it unescaped, and colour only where it is wanted."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence

__all__ = ["colour_wanted", "complain", "paint", "problem", "safe", "say", "table"]

_STYLES = {
    "running": "36",
    "completed": "32",
    "ok": "32",
    "failed": "31",
    "error": "31",
    "fail": "31",
    "crashed": "1;31",
    "cancelled": "33",
    "warn": "33",
    "dim": "2",
    "bold": "1",
}


def safe(value: object, limit: int = 200) -> str:
    r"""``value`` as printable text on one line, of at most ``limit`` characters before escaping.

    Control characters (and with them every escape sequence), line ends, invisible and direction-changing
    characters are shown as ``\x1b`` or ``\u202e``.
    """
    text = str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def problem(kind: str, message: str) -> str:
    """One line for an error of that qualified type and message, either of which may be empty."""
    return safe(": ".join(part for part in (kind.rpartition(".")[2], message) if part))


def colour_wanted() -> bool:
    """Whether standard output is a terminal that may be coloured (see no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()


def paint(text: str, style: str) -> str:
    """``text`` in the colour for ``style`` (a status, ``dim`` or ``bold``) where colour is wanted."""
    code = _STYLES.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text and colour_wanted() else text


def say(text: str = "") -> None:
    """One line on standard output, there at once also when that is a pipe."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"pyjama: {safe(text, 1000)}", file=sys.stderr, flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of aligned columns. A cell that is a known status is coloured; columns in ``right`` are right-aligned."""
    widths = [max(map(_width, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - _width(cell))
            shown = paint(cell, "dim") if row is heads else paint(cell, cell)
            cells.append(gap + shown if index in right else shown + gap)
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )
