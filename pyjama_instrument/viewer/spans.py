"""The spans of a run as rows of its waterfall, and the details of one span. Pure.

A row is a list in the order of ``ROW``; its times are µs after the run's start. A row keeps its position in the table,
so that a page needs to receive only the rows that have changed since its last request.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyjama_instrument.document import SessionSummary, SessionTree, Span
from pyjama_instrument.viewer.labels import (
    clip,
    count,
    duration,
    error_text,
    format_count,
    json_or_repr,
    label,
    status_tone,
)

__all__ = ["ROW", "SpanNode", "SpanTable", "child_run_spans", "end_us", "span_details", "walk_spans"]

ROW = ("at", "parent", "span", "name", "kind", "status", "tone", "start", "end", "took", "error")
ERROR_LIMIT = 160
TEXT_LIMIT = 100_000
LONGEST_MS = 1e12
MAX_FRAMES = 100
MAX_CHILD_RUNS = 1000
_KINDS = {"session": "run", "step": "step", "tool": "tool call", "child": "child run"}

Row = list[Any]


class SpanNode(NamedTuple):
    """A span in the tree: the ``key`` of its row, and its parent."""

    key: str
    parent: SpanNode | None
    span: Span


def walk_spans(root: Span) -> Iterator[SpanNode]:
    """All spans depth first, in order of start. Without recursion: a tool may call itself a thousand levels deep."""
    stack: list[tuple[SpanNode | None, Span]] = [(None, root)]
    for at in itertools.count():
        if not stack:
            return
        parent, span = stack.pop()
        node = SpanNode(span.span or f"at {at}", parent, span)
        yield node
        stack += [(node, child) for child in sorted(span.children, key=_sort_key, reverse=True)]


def child_run_spans(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[Span]:
    """The known child runs as spans of their parent run; ``span`` holds the child's session id."""
    runs = ((sid, tree.relatives.get(sid) or sessions.get(sid)) for sid in tree.child_sessions[:MAX_CHILD_RUNS])
    known = [(sid, run) for sid, run in runs if run is not None]
    return [_child_run_span(sid, run, _begin_us(tree.root)) for sid, run in known]


def _child_run_span(session_id: str, run: SessionSummary, not_before: int) -> Span:
    start = run.start_time or run.last_seen or 0
    ended = run.end_time or run.last_seen or start
    return Span(
        kind="child",
        name=run.agent_id,
        span=session_id,
        parent=run.parent_span,
        writer=run.writer or "",
        status=run.status,
        start_us=max(start * 1000, not_before),
        duration_ms=None if run.status == "running" else max(0, ended - start),
        error={"type": run.error.type, "message": run.error.message} if run.error else None,
    )


def _nodes(tree: SessionTree, child_runs: Sequence[Span]) -> Iterator[SpanNode]:
    """All spans, then the child runs, each with the span that started it as its parent."""
    known: dict[str, SpanNode] = {}
    for node in walk_spans(tree.root):
        known[node.key] = node
        yield node
    root = next(iter(known.values()))
    for span in child_runs:
        yield SpanNode(span.span, known.get(span.parent or "", root), span)


def _sort_key(span: Span) -> tuple[int, str]:
    return span.start_us, span.span


def _took_us(span: Span) -> int | None:
    """How long it took; None if it has not ended, or if its duration is impossible."""
    ms = span.duration_ms
    return round(max(ms, 0.0) * 1000) if ms is not None and ms < LONGEST_MS else None


def end_us(span: Span, run: SessionSummary) -> int | None:
    """When a span ended, in µs since the epoch; None while it runs. An interrupted span ended with its run."""
    took = _took_us(span)
    if took is not None:
        return span.start_us + took
    if span.status == "running":
        return None
    return max(span.start_us, (run.end_time or run.last_seen or 0) * 1000)


class SpanTable:
    """The rows of one run, and the version in which each of them last changed.

    Args:
        token: identifies this table. Versions of other tables have another token, so that they are recognized.
    """

    def __init__(self, token: str) -> None:
        self.begin = 0
        self.rows: list[Row] = []
        self._token = token
        self._version = 0
        self._positions: dict[str, int] = {}
        self._changed: list[int] = []

    def update(self, tree: SessionTree, child_runs: Sequence[Span] = ()) -> bool:
        """Bring the rows up to date. Returns False if it needs a new table: its start differs, or rows are gone.

        ``child_runs`` is the result of :func:`child_run_spans`.
        """
        begin = _begin_us(tree.root)
        if self.rows and begin != self.begin:
            return False
        self.begin = begin
        self._version += 1
        seen = {self._put(node, tree.session) for node in _nodes(tree, child_runs)}
        return len(seen) == len(self.rows)

    def changes_since(self, version: str) -> tuple[str, bool, list[Row]]:
        """The current version, whether all rows are returned, and the rows that changed since ``version``."""
        token, _, number = version.partition(".")
        known = token == self._token and number.isascii() and number.isdigit() and len(number) < 16
        last = int(number) if known else 0
        rows = [row for row, changed in zip(self.rows, self._changed, strict=True) if changed > last]
        return f"{self._token}.{self._version}", not known, rows

    def _put(self, node: SpanNode, run: SessionSummary) -> int:
        at = self._positions.setdefault(node.key, len(self.rows))
        row = [at, self._parent_row(at, node), *_cells(node, run, self.begin)]
        if at == len(self.rows):
            self.rows.append(row)
            self._changed.append(self._version)
        elif self.rows[at] != row:
            self.rows[at] = row
            self._changed[at] = self._version
        return at

    def _parent_row(self, at: int, node: SpanNode) -> int:
        """The row of the parent that the span recorded: the tree's parent differs where a deep tree was flattened."""
        if node.parent is None:
            return -1
        found = self._positions.get(node.span.parent or "", self._positions[node.parent.key])
        return found if found != at else 0


def _begin_us(root: Span) -> int:
    return root.start_us or min((child.start_us for child in root.children), default=0)


def _cells(node: SpanNode, run: SessionSummary, begin: int) -> Row:
    span = node.span
    end = end_us(span, run)
    return [
        node.key,
        label(span.name),
        span.kind,
        "" if span.status in ("ok", "completed") else clip(span.status, 40),
        status_tone(span.status),
        span.start_us - begin,
        None if end is None else end - begin,
        _took(span),
        clip(_error_text(span), ERROR_LIMIT),
    ]


def _took(span: Span) -> str:
    """How long it took; empty for a running span, whose time the page counts, and for an interrupted one."""
    return "" if span.duration_ms is None else duration(span.duration_ms)


def _error_text(span: Span) -> str:
    error = span.error or {}
    return error_text(str(error.get("type") or ""), str(error.get("message") or ""))


# ── one span in full ────────────────────────────────────────────────────────────────────────────────────


def span_details(tree: SessionTree, key: str, child_runs: Sequence[Span] = ()) -> dict[str, Any] | None:
    """Everything recorded about the span whose row has this key; None if there is no such span."""
    node = next((node for node in _nodes(tree, child_runs) if node.key == key), None)
    if node is None:
        return None
    span = node.span
    return {
        "name": label(span.name),
        "session": node.key if span.kind == "child" else "",
        "status": clip(span.status, 40),
        "tone": status_tone(span.status),
        "facts": _facts(tree, node),
        "error": clip(_error_text(span), TEXT_LIMIT),
        "blocks": _blocks(node),
    }


def _facts(tree: SessionTree, node: SpanNode) -> list[dict[str, Any]]:
    span = node.span
    facts = [("kind", _KINDS.get(span.kind, label(span.kind)))]
    if node.parent is not None:
        facts.append(("parent", label(node.parent.span.name)))
        facts.append(("started at", f"+{duration((span.start_us - _begin_us(tree.root)) / 1000)}"))
    facts.append(("took", _took(span) or ("" if span.status == "running" else "did not end")))
    own = _own_ms(span)
    if span.children and own is not None:
        facts.append(("self time", duration(own)))
    if span.children:
        facts.append(("children", count(len(span.children), "span")))
    if span.items is not None:
        facts.append(("items", format_count(span.items)))
    if span.first_item_ms is not None:
        facts.append(("first item after", duration(span.first_item_ms)))
    facts.append(("process (writer id)", clip(span.writer, 40)))
    started = {"key": "started", "name": "started", "at": span.start_us // 1000}
    return [{"key": name, "name": name, "value": value} for name, value in facts if value] + [started]


def _own_ms(span: Span) -> float | None:
    """The time during which none of its children ran; None while it runs."""
    took = _took_us(span)
    if took is None:
        return None
    end, reached, covered = span.start_us + took, span.start_us, 0
    for child in sorted(span.children, key=_sort_key):
        child_took = _took_us(child)
        child_end = end if child_took is None else min(end, child.start_us + child_took)
        covered += max(0, child_end - max(child.start_us, reached))
        reached = max(reached, child_end)
    return max(0, took - covered) / 1000


def _blocks(node: SpanNode) -> list[dict[str, str]]:
    """The longer texts, each of which can be copied."""
    span = node.span
    texts = [
        ("Traceback", _traceback(span)),
        ("Arguments", _pretty(span.arguments)),
        ("Result", _pretty(span.result)),
        ("Run id" if span.kind == "child" else "Span id", node.key),
    ]
    return [{"key": title, "title": title, "text": text} for title, text in texts if text]


def _traceback(span: Span) -> str:
    frames = (span.error or {}).get("traceback")
    return "\n".join(clip(str(frame), 500) for frame in frames[-MAX_FRAMES:]) if isinstance(frames, list) else ""


def _pretty(value: Any) -> str:
    """A captured value as indented JSON; empty if nothing was captured."""
    if value is None:
        return ""
    return clip(json_or_repr(value, indent=2), TEXT_LIMIT)
