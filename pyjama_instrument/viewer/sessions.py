"""The sessions that pages are open on: each is laid out once for all of them, and sent as changes.

A page says which version it has and is sent what changed since. The last few sessions asked for are remembered; one
that has been forgotten, or that a restarted server never knew, is sent in full.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pyjama_instrument.document import SessionSummary, SessionTree, Span
from pyjama_instrument.viewer.detail import head_of
from pyjama_instrument.viewer.spans import SpanTable, sessions_inside

__all__ = ["OpenSessions"]

MAX_OPEN = 8


class OpenSessions:
    """Not thread-safe: to be used from one thread."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def view(self, tree: SessionTree, sessions: Mapping[str, SessionSummary], now: int, since: str) -> dict[str, Any]:
        """What a page that has version ``since`` of the session needs to be current.

        ``full`` says that the rows are all there are, and that what the page had before is void. ``head`` is null
        if it is the one the page has.
        """
        known = self._open.pop(tree.id, None) or _Open()
        self._open[tree.id] = known
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]
        known.update(tree, sessions)
        return known.view(head_of(tree, sessions), now, since)


class _Open:
    def __init__(self) -> None:
        self._tree: SessionTree | None = None
        self._inside: list[Span] = []
        self._table = SpanTable(secrets.token_hex(4))
        self._head: dict[str, Any] = {}
        self._heads = 0

    def update(self, tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> None:
        inside = sessions_inside(tree, sessions)
        if tree is self._tree and inside == self._inside:
            return
        self._tree, self._inside = tree, inside
        if not self._table.update(tree, inside):
            self._table = SpanTable(secrets.token_hex(4))
            self._table.update(tree, inside)

    def view(self, head: dict[str, Any], now: int, since: str) -> dict[str, Any]:
        if head != self._head:
            self._head = head
            self._heads += 1
        rows_since, _, head_since = since.partition("/")
        version, full, rows = self._table.since(rows_since)
        return {
            "now": now,
            "version": f"{version}/{self._heads}",
            "begin": self._table.begin,
            "full": full,
            "rows": rows,
            "head": head if full or head_since != str(self._heads) else None,
        }
