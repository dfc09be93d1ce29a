"""The pages of open runs: each run is laid out once for all of its pages, and a page receives only what has changed.

A page sends the version it has. The runs requested last are kept in memory; a run that is not, such as after a
restart of the server, is sent in full.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pyjama_instrument.document import SessionSummary, SessionTree, Span
from pyjama_instrument.viewer.run_header import run_header
from pyjama_instrument.viewer.spans import SpanTable, child_run_spans

__all__ = ["RunViewCache"]

MAX_OPEN = 8


class RunViewCache:
    """The views of the last few runs. Not thread-safe: use it from one thread."""

    def __init__(self) -> None:
        self._runs: dict[str, _RunView] = {}

    def view(self, tree: SessionTree, sessions: Mapping[str, SessionSummary], now: int, since: str) -> dict[str, Any]:
        """What a page that has version ``since`` of the run is missing.

        If ``full`` is true, ``rows`` holds all rows and replaces those the page has. ``head`` is null if the page
        has it already.
        """
        known = self._runs.pop(tree.id, None) or _RunView()
        self._runs[tree.id] = known
        if len(self._runs) > MAX_OPEN:
            del self._runs[next(iter(self._runs))]
        known.update(tree, sessions)
        return known.view(run_header(tree, sessions), now, since)


class _RunView:
    def __init__(self) -> None:
        self._tree: SessionTree | None = None
        self._children: list[Span] = []
        self._table = SpanTable(secrets.token_hex(4))
        self._header: dict[str, Any] = {}
        self._header_version = 0

    def update(self, tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> None:
        children = child_run_spans(tree, sessions)
        if tree is self._tree and children == self._children:
            return
        self._tree, self._children = tree, children
        if not self._table.update(tree, children):
            self._table = SpanTable(secrets.token_hex(4))
            self._table.update(tree, children)

    def view(self, header: dict[str, Any], now: int, since: str) -> dict[str, Any]:
        if header != self._header:
            self._header = header
            self._header_version += 1
        rows_since, _, header_since = since.partition("/")
        version, full, rows = self._table.changes_since(rows_since)
        return {
            "now": now,
            "version": f"{version}/{self._header_version}",
            "begin": self._table.begin,
            "full": full,
            "rows": rows,
            "head": header if full or header_since != str(self._header_version) else None,
        }
