"""The spans of a session as rows of its waterfall, and one of them in full. Pure.

A row is a list, in the order of ``ROW``; times in it are µs after the session's beginning. A row keeps its place in
the table for good, so that a page can be sent the rows that have changed since it last asked, and nothing else.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyjama_instrument.document import SessionSummary, SessionTree, Span
from pyjama_instrument.viewer.view import TONES, failure_text
from pyjama_instrument.viewer.wording import clip, count, duration, json_text, label

__all__ = ["ROW", "Node", "SpanTable", "end_us", "sessions_inside", "span_of", "walk"]

ROW = ("at", "parent", "span", "name", "kind", "status", "tone", "start", "end", "took", "error")
ERROR_LIMIT = 160
TEXT_LIMIT = 100_000
LONGEST_MS = 1e12
MAX_FRAMES = 100
MAX_INSIDE = 1000
_KINDS = {"session": "run", "step": "step", "tool": "tool call", "child": "run inside"}

Row = list[Any]


class Node(NamedTuple):
    """A span in its place: its ``key``, which is its row's, and what it hangs from."""

    key: str
    above: Node | None
    span: Span


def walk(root: Span) -> Iterator[Node]:
    """All spans depth first, in order of start; without recursion, as a tool may call itself a thousand deep."""
    stack: list[tuple[Node | None, Span]] = [(None, root)]
    for at in itertools.count():
        if not stack:
            return
        above, span = stack.pop()
        node = Node(span.span or f"at {at}", above, span)
        yield node
        stack += [(node, child) for child in sorted(span.children, key=_order, reverse=True)]


def sessions_inside(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[Span]:
    """The child sessions that are known, as spans of the session they were begun in; ``span`` is the session's id."""
    runs = ((sid, tree.relatives.get(sid) or sessions.get(sid)) for sid in tree.child_sessions[:MAX_INSIDE])
    known = [(sid, run) for sid, run in runs if run is not None]
    return [_as_span(sid, run, _begin_us(tree.root)) for sid, run in known]


def _as_span(session_id: str, run: SessionSummary, not_before: int) -> Span:
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


def _nodes(tree: SessionTree, inside: Sequence[Span]) -> Iterator[Node]:
    """All spans, and then the child sessions, each below the span it was begun in."""
    known: dict[str, Node] = {}
    for node in walk(tree.root):
        known[node.key] = node
        yield node
    top = next(iter(known.values()))
    for span in inside:
        yield Node(span.span, known.get(span.parent or "", top), span)


def _order(span: Span) -> tuple[int, str]:
    return span.start_us, span.span


def _took_us(span: Span) -> int | None:
    """How long it took; None if it has not ended, or says something impossible."""
    ms = span.duration_ms
    return round(max(ms, 0.0) * 1000) if ms is not None and ms < LONGEST_MS else None


def end_us(span: Span, run: SessionSummary) -> int | None:
    """When a span ended, in µs since the epoch; None while it goes on. One that was cut off ended with its run."""
    took = _took_us(span)
    if took is not None:
        return span.start_us + took
    if span.status == "running":
        return None
    return max(span.start_us, (run.end_time or run.last_seen or 0) * 1000)


class SpanTable:
    """The rows of one session, and when each of them last changed.

    Args:
        token: tells this table from every other; a version of another table is no version of this one.
    """

    def __init__(self, token: str) -> None:
        self.begin = 0
        self.rows: list[Row] = []
        self._token = token
        self._version = 0
        self._places: dict[str, int] = {}
        self._changed: list[int] = []

    def update(self, tree: SessionTree, inside: Sequence[Span] = ()) -> bool:
        """Bring the rows up to date. False if the tree is another one by now, and a new table has to be made.

        ``inside`` are its child sessions, as :func:`sessions_inside` gives them.
        """
        begin = _begin_us(tree.root)
        if self.rows and begin != self.begin:
            return False
        self.begin = begin
        self._version += 1
        seen = {self._put(node, tree.session) for node in _nodes(tree, inside)}
        return len(seen) == len(self.rows)

    def since(self, version: str) -> tuple[str, bool, list[Row]]:
        """The version of now, whether all rows are given, and the rows that changed since ``version``."""
        token, _, number = version.partition(".")
        known = token == self._token and number.isascii() and number.isdigit() and len(number) < 16
        last = int(number) if known else 0
        rows = [row for row, changed in zip(self.rows, self._changed, strict=True) if changed > last]
        return f"{self._token}.{self._version}", not known, rows

    def _put(self, node: Node, run: SessionSummary) -> int:
        at = self._places.setdefault(node.key, len(self.rows))
        row = [at, self._above(at, node), *_cells(node, run, self.begin)]
        if at == len(self.rows):
            self.rows.append(row)
            self._changed.append(self._version)
        elif self.rows[at] != row:
            self.rows[at] = row
            self._changed[at] = self._version
        return at

    def _above(self, at: int, node: Node) -> int:
        """The row this one hangs from: what the span says, where trees too deep for JSON were made flatter."""
        if node.above is None:
            return -1
        found = self._places.get(node.span.parent or "", self._places[node.above.key])
        return found if found != at else 0


def _begin_us(root: Span) -> int:
    return root.start_us or min((child.start_us for child in root.children), default=0)


def _cells(node: Node, run: SessionSummary, begin: int) -> Row:
    span = node.span
    end = end_us(span, run)
    return [
        node.key,
        label(span.name),
        span.kind,
        "" if span.status in ("ok", "completed") else clip(span.status, 40),
        TONES.get(span.status, "idle"),
        span.start_us - begin,
        None if end is None else end - begin,
        _took(span),
        clip(_error_text(span), ERROR_LIMIT),
    ]


def _took(span: Span) -> str:
    """How long it took; nobody knows when a killed process died, and what goes on ticks on the page."""
    return "" if span.duration_ms is None else duration(span.duration_ms)


def _error_text(span: Span) -> str:
    error = span.error or {}
    return failure_text(str(error.get("type") or ""), str(error.get("message") or ""))


# ── one span in full ────────────────────────────────────────────────────────────────────────────────────


def span_of(tree: SessionTree, key: str, inside: Sequence[Span] = ()) -> dict[str, Any] | None:
    """All that was recorded of the span whose row has this key; None if there is none such."""
    node = next((node for node in _nodes(tree, inside) if node.key == key), None)
    if node is None:
        return None
    span = node.span
    return {
        "name": label(span.name),
        "session": node.key if span.kind == "child" else "",
        "status": clip(span.status, 40),
        "tone": TONES.get(span.status, "idle"),
        "facts": _facts(tree, node),
        "error": clip(_error_text(span), TEXT_LIMIT),
        "blocks": _blocks(node),
    }


def _facts(tree: SessionTree, node: Node) -> list[dict[str, Any]]:
    span = node.span
    facts = [("kind", _KINDS.get(span.kind, label(span.kind)))]
    if node.above is not None:
        facts.append(("inside", label(node.above.span.name)))
        facts.append(("after", f"{duration((span.start_us - _begin_us(tree.root)) / 1000)} of the session"))
    facts.append(("took", _took(span) or ("" if span.status == "running" else "never ended")))
    own = _own_ms(span)
    if span.children and own is not None:
        facts.append(("of that itself", duration(own)))
    if span.children:
        facts.append(("inside it", f"{count(len(span.children))} span{'' if len(span.children) == 1 else 's'}"))
    if span.items is not None:
        facts.append(("items", count(span.items)))
    if span.first_item_ms is not None:
        facts.append(("first item after", duration(span.first_item_ms)))
    facts.append(("written by", clip(span.writer, 40)))
    began = {"key": "began", "name": "began", "at": span.start_us // 1000}
    return [{"key": name, "name": name, "value": value} for name, value in facts if value] + [began]


def _own_ms(span: Span) -> float | None:
    """The time during which none of its children ran; None while it goes on."""
    took = _took_us(span)
    if took is None:
        return None
    end, reached, covered = span.start_us + took, span.start_us, 0
    for child in sorted(span.children, key=_order):
        inside = _took_us(child)
        child_end = end if inside is None else min(end, child.start_us + inside)
        covered += max(0, child_end - max(child.start_us, reached))
        reached = max(reached, child_end)
    return max(0, took - covered) / 1000


def _blocks(node: Node) -> list[dict[str, str]]:
    """What is to be read, and copied, as a text of its own."""
    span = node.span
    told = [
        ("Traceback", _traceback(span)),
        ("Arguments", _pretty(span.arguments)),
        ("Result", _pretty(span.result)),
        ("Session id" if span.kind == "child" else "Span id", node.key),
    ]
    return [{"key": title, "title": title, "text": text} for title, text in told if text]


def _traceback(span: Span) -> str:
    frames = (span.error or {}).get("traceback")
    return "\n".join(clip(str(frame), 500) for frame in frames[-MAX_FRAMES:]) if isinstance(frames, list) else ""


def _pretty(value: Any) -> str:
    """A captured value as indented JSON; empty if nothing was captured."""
    if value is None:
        return ""
    try:
        return clip(json.dumps(value, ensure_ascii=False, indent=2, default=repr), TEXT_LIMIT)
    except (TypeError, ValueError, RecursionError):
        return json_text(value, TEXT_LIMIT)
