"""Tables that fit the terminal: columns are left out and cells cut until every row takes one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyjama_instrument.cli.terminal import cut, fit, style, width_of

__all__ = ["Column", "table"]

_GAP = "  "


class Column(NamedTuple):
    """A column of a table."""

    head: str
    right: bool = False
    status: bool = False  # a cell has the colour of the status that it names
    least: int | None = None  # cells may be cut to this width; None: never
    leave_out: int = 0  # if the terminal is too narrow, the column with the highest number goes first; 0: never


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The head and the rows as lines of aligned columns, at most ``width`` wide if that is given."""
    widths = [max(map(width_of, cells)) for cells in zip([column.head for column in columns], *rows, strict=True)]
    if width is not None:
        kept = _kept(columns, widths, width)
        columns, widths = [columns[index] for index in kept], [widths[index] for index in kept]
        rows = [[row[index] for index in kept] for row in rows]
        widths = _narrowed(columns, widths, width)
    lines = [_line(columns, widths, [style(column.head, "dim") for column in columns])]
    for row in rows:
        cells = [cut(cell, limit) for cell, limit in zip(row, widths, strict=True)]
        cells = [style(cell, cell) if column.status else cell for column, cell in zip(columns, cells, strict=True)]
        lines.append(_line(columns, widths, cells))
    return lines if width is None else [fit(line, width).rstrip() for line in lines]


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The indices of the columns that fit if all cells are cut as far as they may be."""
    kept = list(range(len(columns)))
    while _total([_least(columns[index], widths[index]) for index in kept]) > width:
        first = max(kept, key=lambda index: columns[index].leave_out)
        if not columns[first].leave_out:
            break
        kept.remove(first)
    return kept


def _narrowed(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The widths after cutting the widest columns."""
    narrowed = list(widths)
    least = [_least(column, natural) for column, natural in zip(columns, widths, strict=True)]
    while _total(narrowed) > width and narrowed != least:
        uncut = [index for index in range(len(narrowed)) if narrowed[index] > least[index]]
        narrowed[max(uncut, key=lambda index: narrowed[index])] -= 1
    return narrowed


def _least(column: Column, natural: int) -> int:
    return natural if column.least is None else min(natural, max(column.least, width_of(column.head)))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    padded = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        gap = " " * (width - width_of(cell))
        padded.append(gap + cell if column.right else cell + gap)
    return _GAP.join(padded).rstrip()
