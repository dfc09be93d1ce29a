"""Dashboard data and session trees as self-contained HTML, for notebooks and for the HTML report. Pure.

The input is a ``DashboardData`` or a ``SessionTree``, which are not imported here, since they import this module. Names
and values in them may be hostile, so each one is made printable and escaped. The HTML has no scripts, links or style
attributes, and its colours are readable on light and dark backgrounds. ``Limits`` bounds its size.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from typing import Any

from pyjama_instrument.presentation.formatting import (
    count,
    duration,
    join_names,
    json_or_repr,
    moment,
    printable,
    problem,
)

__all__ = ["STYLE", "Limits", "dashboard_html", "notebook", "session_html"]

STYLE = """
.pyjama { font: 13px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; text-align: left; }
.pyjama p, .pyjama pre, .pyjama h2, .pyjama h3 { margin: 4px 0; }
.pyjama h2 { font-size: 15px; font-weight: 650; }
.pyjama h3 { font-size: 12px; font-weight: 650; margin-top: 12px; opacity: .8; }
.pyjama .faint { opacity: .7; }
.pyjama table { border-collapse: collapse; margin: 4px 0 12px; font-size: 13px; color: inherit; }
.pyjama th, .pyjama td {
  padding: 2px 14px 2px 0; text-align: left; vertical-align: top; border: 0; max-width: 460px; overflow-wrap: anywhere;
}
.pyjama th { font-weight: 500; opacity: .7; }
.pyjama tr, .pyjama tr:hover { background: none !important; }
.pyjama tbody tr { border-top: 1px solid #8885; }
.pyjama .num { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.pyjama pre {
  font: 12px/1.4 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; background: none; color: inherit; padding: 0;
}
.pyjama .state, .pyjama .when { white-space: nowrap; }
.pyjama svg.dot { width: 9px; height: 9px; margin-right: 5px; overflow: visible; }
.pyjama svg .running { fill: #0b93d5; } .pyjama svg .ok, .pyjama svg .completed { fill: #2f9e5b; }
.pyjama svg .error, .pyjama svg .failed { fill: #e5484d; } .pyjama svg .cancelled { fill: #c98a0c; }
.pyjama svg .crashed { fill: #e5484d; stroke: currentColor; stroke-width: 2; }
.pyjama svg .ended, .pyjama svg .other { fill: #8b8d98; }
.pyjama .wrong { border-left: 3px solid #e5484d; padding-left: 8px; overflow-wrap: anywhere; }
.pyjama .note { border-left: 3px solid #c98a0c; padding-left: 8px; overflow-wrap: anywhere; }
.pyjama details.in, .pyjama .leaf.in { margin-left: 16px; }
.pyjama .row {
  display: grid; grid-template-columns: minmax(0, 1fr) 30vw 84px 92px; gap: 10px; align-items: center;
  padding: 1px 0; border-top: 1px solid #8883;
}
.pyjama .bar { display: block; width: 100%; height: 10px; overflow: hidden; }
.pyjama .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pyjama summary { cursor: pointer; list-style: none; } .pyjama summary::-webkit-details-marker { display: none; }
.pyjama summary .name::before { content: "▸ "; opacity: .7; }
.pyjama details[open] > summary .name::before { content: "▾ "; }
.pyjama .leaf .name { padding-left: 13px; }
.pyjama .leaf { content-visibility: auto; contain-intrinsic-height: auto 21px; }
.pyjama .facts { margin: 2px 0 6px 16px; }
"""

_STATES = frozenset({"running", "completed", "ok", "failed", "error", "crashed", "cancelled", "ended"})
_URGENCY = {"running": 0, "crashed": 1, "failed": 2, "cancelled": 3, "completed": 4, "ended": 5}
_DEEP = 12
_DEEPEST = 100
_LARGE = 500
_WELL = ("ok", "completed", "ended")


class Limits:
    """The maximum number of rows of a table, of spans of a tree, and of characters of a value."""

    def __init__(self, *, rows: int = 20, spans: int = 200, text: int = 300) -> None:
        self.rows = rows
        self.spans = spans
        self.text = text


def notebook(content: str) -> str:
    """The content with its style sheet, as the output of a notebook cell."""
    return f'<div class="pyjama"><style>{STYLE}</style>\n{content}\n</div>'


def dashboard_html(data: Any, limits: Limits) -> str:
    """Agents, tools, and notes about the health of the data."""
    overall = data.metrics.global_
    states: dict[str, int] = {}
    for agent in data.agents.values():
        states[agent.status] = states.get(agent.status, 0) + 1
    parts = [f"{_state(status)} {number:,}" for status, number in sorted(states.items(), key=_by_urgency)]
    calls = [count(overall.count, "call"), count(overall.error, "error")]
    if overall.p50_ms is not None:
        calls += [f"p50 {duration(overall.p50_ms)}", f"p95 {duration(overall.p95_ms)}"]
    headline = " &nbsp; ".join([*parts, _text(" · ".join(calls))])
    shown = [f"<p>{headline} <span class=faint>{moment(data.timestamp * 1000)}</span></p>"]
    if not data.agents and not data.metrics.tools:
        shown.append("<p>Nothing recorded yet.</p>")
    shown += _agents(data, limits)
    shown += _tools(data.metrics.tools, limits)
    shown += [f"<p class=note>{_text(note, 500)}</p>" for note in data.health.notes]
    return "\n".join(shown)


def session_html(tree: Any, limits: Limits) -> str:
    """One run: its outcome, its tags and attributes, and its spans on a time line."""
    run, root = tree.session, tree.root
    took = "" if root.duration_ms is None else f" <span class=faint>{duration(root.duration_ms)}</span>"
    shown = [
        f"<h2><bdi>{_text(run.agent_id)}</bdi> {_state(run.status)}{took}</h2>",
        f"<p class=faint>{_text(_about(tree))}</p>",
    ]
    if run.error:
        shown.append(_exception(run.error.type, run.error.message, None, run.status, limits))
    if interrupted := join_names([_text(call.tool) for call in run.interrupted], limits.rows):
        shown.append(f"<p class=wrong>interrupted in {interrupted}</p>")
    values = [("tag", run.tags), ("attribute", run.attributes)]
    facts = [(f"{kind} {name}", value) for kind, given in values for name, value in given.items()]
    if facts:
        shown.append(_table([], [[_text(name), _value(value, limits)] for name, value in facts[: limits.rows]]))
    return "\n".join([*shown, *_Waterfall(tree, limits).rows()])


# -- tables


def _by_urgency(item: tuple[str, Any]) -> int:
    return _URGENCY.get(item[0], 9)


def _agents(data: Any, limits: Limits) -> list[str]:
    agents = sorted(data.agents.items(), key=lambda item: (_URGENCY.get(item[1].status, 9), -(item[1].last_seen or 0)))
    rows = [
        [
            f"<bdi>{_text(name)}</bdi>",
            _state(agent.status),
            _doing(agent, data.sessions.get(agent.session or "")),
            f"{agent.runs.count:,}",
            f"<span class=when>{moment((agent.last_seen or 0) * 1000)}</span>",
        ]
        for name, agent in agents[: limits.rows]
    ]
    return _section("Agents", ["agent", "status", "now", "#runs", "last seen"], rows, len(agents))


def _doing(agent: Any, session: Any) -> str:
    if session is None:
        return _text(agent.current_step or "")
    if agent.status in ("failed", "cancelled") and session.error:
        return _text(problem(session.error.type, session.error.message))
    if agent.status not in ("running", "crashed"):
        return ""
    calls = session.in_flight if agent.status == "running" else session.interrupted
    parts = [agent.current_step or "", *(f"in {call.tool}" for call in calls[:3])]
    return _text(", ".join(filter(None, parts)))


def _tools(tools: dict[str, Any], limits: Limits) -> list[str]:
    by_count = sorted(tools.items(), key=lambda item: -item[1].count)
    rows = [
        [
            f"<bdi>{_text(name)}</bdi>",
            f"{tool.count:,}",
            f"{tool.error:,}",
            *(duration(each) for each in (tool.p50_ms, tool.p95_ms, tool.p99_ms)),
        ]
        for name, tool in by_count[: limits.rows]
    ]
    return _section("Tools", ["tool", "#calls", "#errors", "#p50", "#p95", "#p99"], rows, len(tools))


def _section(title: str, heads: list[str], rows: list[list[str]], total: int) -> list[str]:
    if not rows:
        return []
    more = [f"<p class=faint>… and {total - len(rows):,} more</p>"] if total > len(rows) else []
    return [f"<h3>{title}</h3>", _table(heads, rows), *more]


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    """A table of HTML cells. If a column's head begins with ``#``, the column holds numbers."""
    numbers = [head.startswith("#") for head in heads]
    cells = ["".join(_cell("th", head.lstrip("#"), is_number) for head, is_number in zip(heads, numbers, strict=True))]
    lines = [f"<thead><tr>{cells[0]}</tr></thead>"] if heads else []
    for row in rows:
        kinds = numbers or [False] * len(row)
        lines.append(f"<tr>{''.join(_cell('td', cell, kind) for cell, kind in zip(row, kinds, strict=True))}</tr>")
    return f"<table>{lines[0] if heads else ''}<tbody>{''.join(lines[bool(heads) :])}</tbody></table>"


def _cell(tag: str, content: str, is_number: bool) -> str:
    return f"<{tag}{' class=num' if is_number else ''}>{content}</{tag}>"


# -- the tree


class _Waterfall:
    """The spans of a tree with their bars on one time line."""

    def __init__(self, tree: Any, limits: Limits) -> None:
        self._tree = tree
        self._limits = limits
        run = tree.session
        begins = [span.start_us for span in _all(tree.root) if span.start_us] or [0]
        self._begin = min(begins)
        self._last_us = max(1000 * (run.end_time or run.last_seen or 0), *begins)
        spans = list(_all(tree.root))
        self._is_large = len(spans) > _LARGE
        self._notable: set[int] = set()
        for span in reversed(spans):  # children before their parents
            if span.status not in _WELL or any(id(child) in self._notable for child in span.children):
                self._notable.add(id(span))
        self._length = max(max(map(self._end, _all(tree.root))) - self._begin, 1)

    def rows(self) -> list[str]:
        """The rows of the tree, and a note about missing ones. Without recursion, since a tree may be very deep."""
        shown: list[str] = []
        left = self._limits.spans
        todo: list[tuple[Any, int]] = [(self._tree.root, 0)]
        while todo:
            span, depth = todo.pop()
            if span is None:
                shown.append("</details>")
            elif left > 0:
                left -= 1
                facts = self._facts(span)
                shown.append(self._opened(span, depth, facts))
                below = [(child, depth + 1) for child in reversed(span.children)]
                if facts or below:
                    # Browsers nest only some hundred elements: deeper spans are placed side by side.
                    todo += [(None, depth), *below] if depth < _DEEPEST else [*below, (None, depth)]
        missing = self._tree.truncated + sum(1 for _ in _all(self._tree.root)) - self._limits.spans
        if missing > 0:
            shown.append(f"<p class=note>{count(missing, 'more span')} not shown</p>")
        return shown

    def _opened(self, span: Any, depth: int, facts: list[str]) -> str:
        inside = " in" if 0 < depth <= _DEEP else ""
        if not facts and not span.children:
            return f'<div class="leaf{inside}">{self._row(span)}</div>'
        is_open = " open" if self._is_open(span, depth) else ""
        shown = f'<details class="span{inside}"{is_open}><summary>{self._row(span)}</summary>'
        return f"{shown}<div class=facts>{''.join(facts)}</div>" if facts else shown

    def _is_open(self, span: Any, depth: int) -> bool:
        """Whether a span is expanded: in a large tree, only if a span in it failed or still runs."""
        if depth == 0 or id(span) in self._notable:
            return True
        return bool(span.children) and not self._is_large

    def _row(self, span: Any) -> str:
        left = min(max((span.start_us - self._begin) / self._length, 0.0), 1.0)
        width = min(max((self._end(span) - span.start_us) / self._length, 0.003), 1.0)
        name, took = _text(span.name), duration(span.duration_ms)
        bar = (
            f'<svg class=bar aria-hidden=true><rect class="{_tone(span.status)}" x="{100 * min(left, 0.997):.2f}%" '
            f'y=1 width="{100 * width:.2f}%" height=8 rx=2 /></svg>'
        )
        return (
            f'<div class=row><span class=name title="{name}"><bdi>{name}</bdi></span>{bar}'
            f"<span class=num>{took}</span>{_state(span.status)}</div>"
        )

    def _facts(self, span: Any) -> list[str]:
        error = span.error or {}
        fields = (error.get("type"), error.get("message"), error.get("traceback"))
        facts = [_exception(*fields, span.status, self._limits)] if error else []
        if span.items is not None:
            first = f", the first after {duration(span.first_item_ms)}" if span.first_item_ms is not None else ""
            facts.append(f"<p>{_text(count(span.items, 'item'))}{first}</p>")
        arguments = list((span.arguments or {}).items())[: self._limits.rows]
        lines = [f"{_text(name)} = {_value(value, self._limits)}" for name, value in arguments]
        if span.result is not None:
            lines.append(f"→ {_value(span.result, self._limits)}")
        return [*facts, f"<pre>{chr(10).join(lines)}</pre>"] if lines else facts

    def _end(self, span: Any) -> Any:
        """Where the bar ends, in µs. The bar of an open span ends at the run's last event."""
        begin, took = span.start_us, span.duration_ms
        if took is not None and math.isfinite(took):
            return begin + max(took, 0.0) * 1000
        return max(begin, self._last_us)


def _all(root: Any) -> Iterator[Any]:
    todo = [root]
    while todo:
        span = todo.pop()
        yield span
        todo += span.children


def _about(tree: Any) -> str:
    run = tree.session
    parts = [f"run {tree.id}", f"started {moment(tree.root.start_us)}"]
    parts += [f"{count(run.calls, 'call')}, {count(run.errors, 'error')}"]
    if run.pid is not None:
        parts.append(f"pid {run.pid}" + (f" on {run.host}" if run.host else ""))
    if run.parent_session:
        parts.append(f"child of run {run.parent_session}")
    if tree.child_sessions:
        parts.append(count(len(tree.child_sessions), "child run"))
    return " · ".join(parts)


def _exception(kind: Any, message: Any, frames: Any, status: str, limits: Limits) -> str:
    summary = f"<p>{_text(problem(str(kind or ''), str(message or ''), limits.text), limits.text)}</p>"
    lines = [_text(line, limits.text) for line in frames[:50]] if isinstance(frames, list | tuple) else []
    traceback = f"<pre>{chr(10).join(lines)}</pre>" if lines else ""
    return f"<div class={'reason' if status == 'cancelled' else 'wrong'}>{summary}{traceback}</div>"


# -- text


def _tone(status: str) -> str:
    return status if status in _STATES else "other"


def _state(status: str) -> str:
    return (
        f'<span class=state><svg class=dot viewBox="0 0 9 9" aria-hidden=true>'
        f'<circle class="{_tone(status)}" cx=4.5 cy=4.5 r=4 /></svg>{_text(status, 40)}</span>'
    )


def _text(value: object, limit: int = 200) -> str:
    return html.escape(printable(value, limit))


def _value(value: Any, limits: Limits) -> str:
    """A recorded value: a string unchanged, anything else as JSON."""
    return _text(value if isinstance(value, str) else json_or_repr(value), limits.text)
