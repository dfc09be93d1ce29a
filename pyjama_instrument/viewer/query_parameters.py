"""The query parameters of a page's address: which page, search words, filters and sort order. Pure.

An address may hold anything: values that make no sense are ignored. The result is hashable, so that pages with the
same parameters share one view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MAX_ROW_LIMIT", "PAGES", "QueryParameters", "parse_query_parameters"]

PAGES = ("overview", "tools", "tool", "activity")
MAX_ROW_LIMIT = 2500
_MAX_LENGTH = 300
_MAX_NAME_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """``row_limit`` is how many rows of each list to show, if that is more than the page's default."""

    page: str = "overview"
    name: str = ""
    text: str = ""
    status: str = ""
    agent: str = ""
    tool: str = ""
    sort: str = ""
    row_limit: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The search words in lower case. A row matches if it contains all of them."""
        return tuple(self.text.casefold().split())


def parse_query_parameters(query: Mapping[str, str]) -> QueryParameters:
    """Read the parameters ``page``, ``name``, ``q``, ``status``, ``agent``, ``tool``, ``sort`` and ``show``."""
    page, rows = query.get("page", ""), query.get("show", "")
    return QueryParameters(
        page=page if page in PAGES else "overview",
        name=query.get("name", "")[:_MAX_NAME_LENGTH],
        text=query.get("q", "")[:_MAX_LENGTH],
        status=query.get("status", "")[:_MAX_LENGTH],
        agent=query.get("agent", "")[:_MAX_NAME_LENGTH],
        tool=query.get("tool", "")[:_MAX_NAME_LENGTH],
        sort=query.get("sort", "")[:_MAX_LENGTH],
        row_limit=min(int(rows), MAX_ROW_LIMIT) if rows.isascii() and rows.isdecimal() and len(rows) < 9 else 0,
    )
