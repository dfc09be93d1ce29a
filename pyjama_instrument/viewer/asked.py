"""What a page asks for: which page, searched and filtered for what, sorted how. Pure.

It comes out of an address, so anything may be in it; what makes no sense is left out. It is hashable: pages that
ask for the same share one view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MAX_SHOWN", "PAGES", "Asked", "asked_of"]

PAGES = ("overview", "tools", "tool", "activity")
MAX_SHOWN = 2500
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """``shown``: how many rows of each list, where that is more than the page shows unasked."""

    page: str = "overview"
    name: str = ""
    text: str = ""
    status: str = ""
    agent: str = ""
    tool: str = ""
    sort: str = ""
    shown: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The words searched for, in lower case; a row must hold them all."""
        return tuple(self.text.casefold().split())


def asked_of(query: Mapping[str, str]) -> Asked:
    """From the parameters ``page``, ``name``, ``q``, ``status``, ``agent``, ``tool``, ``sort`` and ``show``."""
    page, shown = query.get("page", ""), query.get("show", "")
    return Asked(
        page=page if page in PAGES else "overview",
        name=query.get("name", "")[:1000],  # names are longer than what is searched for
        text=query.get("q", "")[:_LONGEST],
        status=query.get("status", "")[:_LONGEST],
        agent=query.get("agent", "")[:1000],
        tool=query.get("tool", "")[:1000],
        sort=query.get("sort", "")[:_LONGEST],
        shown=min(int(shown), MAX_SHOWN) if shown.isascii() and shown.isdecimal() and len(shown) < 9 else 0,
    )
