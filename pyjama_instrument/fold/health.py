"""The section ``health``: damaged records, dropped events, and entries beyond the limits."""

from __future__ import annotations

from pyjama_instrument.fold.fields import Document, Record, integer, number, text
from pyjama_instrument.fold.section import FoldState, Section

__all__ = ["HEALTH", "count_damaged", "count_overflow"]


def count_damaged(document: Document, count: int) -> None:
    """Count records that cannot be read."""
    if count:
        health = document["health"]
        health["torn"] = number(health, "torn") + count


def count_overflow(document: Document, what: str, count: int = 1) -> None:
    """Count events of tools or agents that are beyond the limit."""
    _add(document, "overflow", what, count)


def _writer_dropped(state: FoldState, event: Record) -> None:
    reason, count = text(event, "reason"), integer(event, "count")
    _add(state.document, "dropped", reason, count)


def _add(document: Document, part: str, name: str, count: int) -> None:
    counts = document["health"].setdefault(part, {})
    counts[name] = counts.get(name, 0) + count


def _repair(document: Document) -> None:
    for key, kind in (("torn", int), ("dropped", dict), ("overflow", dict)):
        if type(document["health"].get(key)) is not kind:
            document["health"].pop(key, None)


HEALTH = Section({"health": dict}, {"writer.dropped": _writer_dropped}, _repair)
