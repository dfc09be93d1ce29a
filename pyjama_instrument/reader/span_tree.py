"""From a session's events to the tree of its spans. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyjama_instrument.document import SessionSummary, SessionTree, Span

__all__ = ["build_tree"]

Record = dict[str, Any]

_MAX_DEPTH = 80  # a recursive tool may be deeper than JSON parsers go


def build_tree(
    session_id: str, session: SessionSummary, records: Iterable[tuple[str, Record]], children: list[str], *, limit: int
) -> SessionTree:
    """The tree of a session.

    Args:
        session_id: the session.
        session: its record.
        records: its events with the id of the writer, in the order of each writer.
        children: ids of the sessions inside it.
        limit: most spans to show; the others are counted as ``truncated``.
    """
    builder = _Builder(limit)
    for writer, record in records:
        try:
            builder.add(writer, record)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue  # the other records are not damaged
    builder.interrupt(session)
    root = builder.tree(session)
    return SessionTree(
        id=session_id,
        session=session,
        root=root,
        child_sessions=children,
        spec=builder.spec,
        truncated=builder.truncated,
    )


class _Builder:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spans: dict[str, Span] = {}
        self.root: Span | None = None
        self.agent = ""
        self.spec: dict[str, Any] | None = None
        self.truncated = 0

    def add(self, writer: str, record: Record) -> None:
        kind = record.get("kind")
        self.agent = self.agent or str(record.get("agent", ""))
        if kind == "session.started":
            self.root = self._span(writer, record, "session", str(record["agent"]))
            self.spec = spec if type(spec := record.get("spec")) is dict else None
        elif kind == "session.ended" and self.root is not None:
            self._end(self.root, record)
        elif kind in ("step.started", "tool.started"):
            self._open(writer, record, str(kind)[:4])
        elif kind in ("step.ended", "tool.ended"):
            self._close(writer, record, str(kind)[:4])

    def interrupt(self, session: SessionSummary) -> None:
        """Mark the spans that a crash has cut off."""
        cut_off = {call.span for call in session.interrupted}
        under_way = {call.span for call in session.in_flight}
        for span in self.spans.values():
            ended = session.status != "running" and span.span not in under_way
            if span.status == "running" and (ended or span.span in cut_off):
                span.status = "crashed"

    def tree(self, session: SessionSummary) -> Span:
        root = self.root or Span(
            kind="session", name=self.agent or session.agent_id, start_us=(session.start_time or 0) * 1000
        )
        root.status = session.status
        for span in sorted(self.spans.values(), key=lambda span: span.start_us):
            if span is not root:
                # If its parent belongs to another session or was never written, the span is shown at the top.
                self.spans.get(span.parent or "", root).children.append(span)
        _bound_depth(root)
        return root

    def _open(self, writer: str, record: Record, kind: str) -> None:
        if record["span"] not in self.spans:
            self._span(writer, record, kind, str(record["tool" if kind == "tool" else "step"]))

    def _close(self, writer: str, record: Record, kind: str) -> None:
        span = self.spans.get(record["span"])
        if span is None:
            span = self._span(writer, record, kind, str(record["tool" if kind == "tool" else "step"]))
            if span is None:
                return
            span.start_us = int(record["ts"]) - int(record["duration_ns"]) // 1000
        self._end(span, record)

    def _span(self, writer: str, record: Record, kind: str, name: str) -> Any:
        if len(self.spans) >= self.limit:
            self.truncated += 1
            return None
        span = Span(
            kind=kind, name=name, span=record["span"], parent=record.get("parent"), writer=writer,
            start_us=int(record["ts"]),
        )  # fmt: skip
        self.spans[span.span] = span
        return span

    def _end(self, span: Span, record: Record) -> None:
        span.status = str(record["status"])
        span.duration_ms = int(record["duration_ns"]) / 1e6
        error, arguments = record.get("error"), record.get("arguments")
        span.error = error if type(error) is dict else None
        span.arguments = arguments if type(arguments) is dict else None
        span.result = record.get("result")
        span.items = record.get("items")
        if type(first := record.get("first_item_ns")) is int:
            span.first_item_ms = first / 1e6


def _bound_depth(root: Span) -> None:
    """Show spans beyond the depth limit side by side at the deepest level."""
    level = [root]
    for _ in range(_MAX_DEPTH):
        level = [child for span in level for child in span.children]
    for span in level:
        deeper, span.children = span.children, []
        while deeper:
            span.children += deeper
            below = [child for inner in deeper for child in inner.children]
            for inner in deeper:
                inner.children = []
            deeper = below
