"""``pyjama show``: one session as a tree, with times, errors and what is in flight."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from pyjama_instrument.cli._sessions import find_session
from pyjama_instrument.cli._terminal import paint, say, table, width_of
from pyjama_instrument.presentation.formatting import count, duration, moment, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.document import SessionSummary, SessionTree, Span

__all__ = ["show"]

_MOST_ALIKE = 6
_SHOWN_OF_THEM = 3
_MOST_INSIDE = 5
_NAME_LIMIT = 60
_VALUE_LIMIT = 200
_LEVELS_DRAWN = 30
_WELL = ("ok", "completed", "ended")


def show(options: argparse.Namespace) -> int:
    """Show the session that is meant.

    Raises:
        ConfigError: several sessions are meant.
        SessionNotFound: none is.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.reader import Reader

    reader = Reader()
    tree = reader.session(find_session(reader, options.session))
    if options.json:
        say(json.dumps(tree.to_dict(), indent=2))
        return 0
    for line in (*_header(tree), *_tree(tree, everything=options.all, values=options.values)):
        say(line)
    return 0


def _header(tree: SessionTree) -> list[str]:
    from pyjama_instrument.viewer.run_header import run_figures  # the page adds them up in the same way

    run = tree.session
    figures = {figure["key"]: figure for figure in run_figures(tree, tree.relatives)}
    inside = [_relative(key, tree.relatives) for key in tree.child_sessions[:_MOST_INSIDE]]
    if len(tree.child_sessions) > _MOST_INSIDE:
        inside.append(f"and {len(tree.child_sessions) - _MOST_INSIDE:,} more")
    reason = "Reason" if run.status == "cancelled" else "Error"
    facts = [
        ("Agent", f"{printable(run.agent_id)}  {paint(printable(run.status), run.status)}"),
        ("Run", printable(tree.id)),
        ("Began", moment(tree.root.start_us)),
        ("Process", f"{run.pid} on {printable(run.host)}" if run.pid is not None else ""),
        ("Calls", _calls(run, figures)),
        (reason, problem(run.error.type, run.error.message) if run.error else ""),
        ("Cut off", ", ".join(f"in {printable(call.tool)}" for call in run.interrupted[:5])),
        ("Part of", _relative(run.parent_session, tree.relatives) if run.parent_session else ""),
        ("Runs inside", ", ".join(inside)),
    ]
    facts += [(f"tag {printable(name, 30)}", _value(value)) for name, value in run.tags.items()]
    facts += [(f"spec {printable(name, 30)}", _value(value)) for name, value in (tree.spec or {}).items()]
    facts += [(printable(name, 30), value) for name, value in _attributes(run, figures).items()]
    shown = [(name, value) for name, value in facts if value]
    width = max(width_of(name) for name, _ in shown)
    return [f"{paint(name, 'dim')}{' ' * (width - width_of(name))}  {value}" for name, value in shown]


def _calls(run: SessionSummary, figures: Mapping[str, dict[str, str]]) -> str:
    """``2 calls and 3 in 1 run inside, 0 errors``."""
    counts = {"calls": count(run.calls, "call"), "errors": count(run.errors, "error")}
    return ", ".join(f"{text} {figures[key]['note']}".rstrip() for key, text in counts.items())


def _attributes(run: SessionSummary, figures: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """What was set, as it was set; numbers that runs inside this one have, too, as sums."""
    sums = {key.removeprefix("attribute "): each for key, each in figures.items() if key.startswith("attribute ")}
    shown = {name: _value(value) for name, value in run.attributes.items()}
    return shown | {name: f"{each['value']} ({each['note']})" for name, each in sums.items() if each["note"]}


def _relative(key: str, relatives: Mapping[str, SessionSummary]) -> str:
    """``crawler 5e551011 (completed)``, or the id alone of a run whose history is not kept any more."""
    if (run := relatives.get(key)) is None:
        return printable(key[:8])
    return f"{printable(run.agent_id, _NAME_LIMIT)} {printable(key[:8])} ({paint(printable(run.status), run.status)})"


class _Row(NamedTuple):
    """One line of the tree: a span, or what was left out; with the lines that belong under it."""

    cells: list[str]
    under: list[str]


def _tree(tree: SessionTree, *, everything: bool, values: bool) -> list[str]:
    rows = list(_rows(tree, everything=everything, values=values))
    heads, *lines = table(["SPAN", "AT", "TOOK", "STATUS"], [row.cells for row in rows], right=frozenset({1, 2}))
    shown = ["", heads]
    for line, row in zip(lines, rows, strict=True):
        shown += [line, *row.under]
    if tree.truncated:
        shown.append(f"… and {count(tree.truncated, 'more span')} that are not shown")
    return shown


def _rows(tree: SessionTree, *, everything: bool, values: bool) -> Iterator[_Row]:
    """Depth first. Without recursion: a tool may call itself thousands deep."""
    now_us = time.time_ns() // 1000
    begin_us = tree.root.start_us
    ahead: list[tuple[str, str, Span | list[Span]]] = [("", "", tree.root)]
    while ahead:
        first, others, item = ahead.pop()
        if isinstance(item, list):
            yield _left_out(first, item)
            continue
        under = [f"{others}{line}" for line in _under(item, values=values)]
        yield _Row(_cells(first, item, begin_us, now_us), under)
        parts = list(_parts(item.children, everything=everything))
        for at, part in reversed(list(enumerate(parts))):
            fork, below = ("└─ ", "   ") if at == len(parts) - 1 else ("├─ ", "│  ")
            deep = len(others) >= 3 * _LEVELS_DRAWN  # from here on side by side, or no terminal were wide enough
            ahead.append((others + fork, others if deep else others + below, part))


def _parts(children: list[Span], *, everything: bool) -> Iterator[Span | list[Span]]:
    """The children; of many alike in a row that went well, some, and the rest as one."""
    for _, group in groupby(children, key=lambda span: (span.kind, span.name, _is_plain(span) or id(span))):
        alike = list(group)
        if everything or len(alike) <= _MOST_ALIKE:
            yield from alike
        else:
            yield from alike[:_SHOWN_OF_THEM]
            yield alike[_SHOWN_OF_THEM:]


def _is_plain(span: Span) -> bool:
    return span.status in _WELL and not span.children


def _left_out(first: str, alike: list[Span]) -> _Row:
    took = duration(sum(span.duration_ms or 0.0 for span in alike))
    return _Row([f"{first}… {len(alike):,} more {printable(alike[0].name, _NAME_LIMIT)}", "", took, "ok"], [])


def _cells(first: str, span: Span, begin_us: int, now_us: int) -> list[str]:
    after = f"+{duration((span.start_us - begin_us) / 1000)}" if span.start_us > begin_us else ""
    took = duration(span.duration_ms)
    if span.status == "running" and span.start_us:
        took = f"{duration((now_us - span.start_us) / 1000)} so far"
    return [first + (printable(span.name, _NAME_LIMIT) or "(no name)"), after, took, printable(span.status)]


def _under(span: Span, *, values: bool) -> list[str]:
    lines = []
    error = span.error or {}
    if error:
        lines.append(paint(problem(str(error.get("type") or ""), str(error.get("message") or "")), span.status))
        frames = error.get("traceback")
        lines += [f"  {printable(line)}" for line in frames] if values and isinstance(frames, list | tuple) else []
    if span.items is not None:
        first = f", the first after {duration(span.first_item_ms)}" if span.first_item_ms is not None else ""
        lines.append(f"{count(span.items, 'item')}{first}")
    if values:
        lines += [f"{printable(name, 40)} = {_value(value)}" for name, value in (span.arguments or {}).items()]
        lines += [f"→ {_value(span.result)}"] if span.result is not None else []
    return [f"  {line}" for line in lines]


def _value(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, default=repr), _VALUE_LIMIT)
