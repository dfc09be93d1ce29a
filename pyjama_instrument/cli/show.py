"""``pyjama show``: one run as a tree, with times, errors and the calls in flight."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from pyjama_instrument.cli.run_argument import find_run
from pyjama_instrument.cli.table import Column, table
from pyjama_instrument.cli.terminal import print_line, style, terminal_columns, width_of, wrap
from pyjama_instrument.presentation.formatting import count, duration, join_names, moment, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.document import SessionSummary, SessionTree, Span

__all__ = ["show"]

_MOST_ALIKE = 6
_SHOWN_OF_ALIKE = 3
_MOST_NAMED = 5
_NAME_LIMIT = 60
_VALUE_LIMIT = 200
_MOST_LEVELS = 30
_GOOD = ("ok", "completed", "ended")
_COLUMNS = [
    Column("SPAN", least=16),
    Column("AT", right=True, leave_out=1),
    Column("TOOK", right=True),
    Column("STATUS", status=True),
]


def show(options: argparse.Namespace) -> int:
    """Print the run.

    Raises:
        ConfigError: several runs match.
        SessionNotFound: no run matches.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.reader import Reader

    reader = Reader()
    tree = reader.session(find_run(reader, options.run))
    if options.json:
        print_line(json.dumps(tree.to_dict(), indent=2))
        return 0
    columns = terminal_columns()
    for line in (*_header(tree, columns), "", *_tree(tree, columns, everything=options.all, values=options.values)):
        print_line(line)
    return 0


def _header(tree: SessionTree, columns: int | None) -> list[str]:
    facts = [(name, value) for name, value in _facts(tree) if value]
    width = max(width_of(name) for name, _ in facts)
    lines = []
    for name, value in facts:
        label = style(name, "dim") + " " * (width - width_of(name))
        lines += wrap(f"{label}  {value}", columns, " " * (width + 2))
    return lines


def _facts(tree: SessionTree) -> list[tuple[str, str]]:
    """Labels and texts; some of the texts are empty."""
    from pyjama_instrument.viewer.run_header import run_figures  # the page adds them up in the same way

    run = tree.session
    figures = {figure["key"]: figure for figure in run_figures(tree, tree.relatives)}
    return [
        ("Agent", f"{printable(run.agent_id)}  {style(printable(run.status), run.status)}"),
        ("Run", printable(tree.id)),
        ("Began", moment(tree.root.start_us)),
        ("Process", f"{run.pid} on {printable(run.host)}" if run.pid is not None else ""),
        ("Calls", _calls(run, figures)),
        ("Reason" if run.status == "cancelled" else "Error", _error(run)),
        ("Cut off", join_names([f"in {printable(call.tool)}" for call in run.interrupted], _MOST_NAMED)),
        ("Part of", _relative(run.parent_session, tree.relatives) if run.parent_session else ""),
        ("Child runs", join_names([_relative(key, tree.relatives) for key in tree.child_sessions], _MOST_NAMED)),
        *((f"tag {printable(name, 30)}", _value(value)) for name, value in run.tags.items()),
        *((f"spec {printable(name, 30)}", _value(value)) for name, value in (tree.spec or {}).items()),
        *((printable(name, 30), text) for name, text in _attributes(run, figures).items()),
    ]


def _error(run: SessionSummary) -> str:
    return problem(run.error.type, run.error.message) if run.error else ""


def _calls(run: SessionSummary, figures: Mapping[str, dict[str, str]]) -> str:
    """``2 calls and 3 in 1 child run, 0 errors``."""
    counts = {"calls": count(run.calls, "call"), "errors": count(run.errors, "error")}
    return ", ".join(f"{text} {figures[key]['note']}".rstrip() for key, text in counts.items())


def _attributes(run: SessionSummary, figures: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """The attributes as they were set; numbers that child runs have too, as sums."""
    sums = {key.removeprefix("attribute "): each for key, each in figures.items() if key.startswith("attribute ")}
    texts = {name: _value(value) for name, value in run.attributes.items()}
    return texts | {name: f"{each['value']} ({each['note']})" for name, each in sums.items() if each["note"]}


def _relative(key: str, relatives: Mapping[str, SessionSummary]) -> str:
    """``crawler 5e551011 (completed)``, or the id alone if the run's history is no longer kept."""
    if (run := relatives.get(key)) is None:
        return printable(key[:8])
    return f"{printable(run.agent_id, _NAME_LIMIT)} {printable(key[:8])} ({style(printable(run.status), run.status)})"


class _Row(NamedTuple):
    """One row of the tree: a span, or a number of spans that are left out; with the lines below it."""

    cells: list[str]
    below: list[str]


def _tree(tree: SessionTree, columns: int | None, *, everything: bool, values: bool) -> list[str]:
    rows = list(_rows(tree, columns, everything=everything, values=values))
    head, *lines = table(_COLUMNS, [row.cells for row in rows], columns)
    shown = [head]
    for line, row in zip(lines, rows, strict=True):
        shown += [line, *row.below]
    if tree.truncated:
        shown.append(f"… and {count(tree.truncated, 'more span')} that are not shown")
    return shown


def _rows(tree: SessionTree, columns: int | None, *, everything: bool, values: bool) -> Iterator[_Row]:
    """Depth first. Without recursion: a tool may call itself thousands of levels deep."""
    now_us = time.time_ns() // 1000
    begin_us = tree.root.start_us
    most_levels = _MOST_LEVELS if columns is None else min(_MOST_LEVELS, columns // 6)
    waiting: list[tuple[str, str, Span | list[Span]]] = [("", "", tree.root)]
    while waiting:
        branch, indent, item = waiting.pop()
        if isinstance(item, list):
            yield _left_out(branch, item)
            continue
        indent_of_text = f"{indent}  "
        texts = _texts_below(item, values=values)
        below = [line for text in texts for line in wrap(f"{indent_of_text}{text}", columns, indent_of_text)]
        yield _Row(_cells(branch, item, begin_us, now_us), below)
        children = list(_children(item.children, everything=everything))
        for at, child in reversed(list(enumerate(children))):
            fork, line = ("└─ ", "   ") if at == len(children) - 1 else ("├─ ", "│  ")
            deep = len(indent) >= 3 * most_levels  # deeper levels are not indented, so that they fit
            waiting.append((indent + fork, indent if deep else indent + line, child))


def _children(spans: list[Span], *, everything: bool) -> Iterator[Span | list[Span]]:
    """The children. If many in a row are equal and without an error, some of them, and the others as one list."""
    for _, group in groupby(spans, key=lambda span: (span.kind, span.name, _is_plain(span) or id(span))):
        alike = list(group)
        if everything or len(alike) <= _MOST_ALIKE:
            yield from alike
        else:
            yield from alike[:_SHOWN_OF_ALIKE]
            yield alike[_SHOWN_OF_ALIKE:]


def _is_plain(span: Span) -> bool:
    return span.status in _GOOD and not span.children


def _left_out(branch: str, alike: list[Span]) -> _Row:
    took = duration(sum(span.duration_ms or 0.0 for span in alike))
    return _Row([f"{branch}… {len(alike):,} more {printable(alike[0].name, _NAME_LIMIT)}", "", took, "ok"], [])


def _cells(branch: str, span: Span, begin_us: int, now_us: int) -> list[str]:
    at = f"+{duration((span.start_us - begin_us) / 1000)}" if span.start_us > begin_us else ""
    took = duration(span.duration_ms)
    if span.status == "running" and span.start_us:
        took = f"{duration((now_us - span.start_us) / 1000)} so far"
    return [branch + (printable(span.name, _NAME_LIMIT) or "(no name)"), at, took, printable(span.status)]


def _texts_below(span: Span, *, values: bool) -> list[str]:
    texts = []
    error = span.error or {}
    if error:
        texts.append(style(problem(str(error.get("type") or ""), str(error.get("message") or "")), span.status))
        frames = error.get("traceback")
        texts += [f"  {printable(line)}" for line in frames] if values and isinstance(frames, list | tuple) else []
    if span.items is not None:
        first = f", the first after {duration(span.first_item_ms)}" if span.first_item_ms is not None else ""
        texts.append(f"{count(span.items, 'item')}{first}")
    if values:
        texts += [f"{printable(name, 40)} = {_value(value)}" for name, value in (span.arguments or {}).items()]
        texts += [f"→ {_value(span.result)}"] if span.result is not None else []
    return texts


def _value(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, default=repr), _VALUE_LIMIT)
