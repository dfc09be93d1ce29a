"""The documentation as data: its pages, their fenced examples, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Fence", "anchors", "fences", "links", "pages", "prose", "section"]

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


class Fence(NamedTuple):
    """One fenced block: its language, its text, and the line of the page its text begins on."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def fences(page: Path, language: str) -> list[Fence]:
    """The page's fenced blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Fence(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in _FENCE.finditer(text)
        if found[1] == language
    ]


def links(page: Path) -> Iterator[str]:
    """Where the page's links lead, as written."""
    return (found[1] for found in _LINK.finditer(prose(page)))


def anchors(page: Path) -> set[str]:
    """The names that ``#…`` may lead to on the page, made from its headings the way code hosts do it."""
    headings = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(page: Path, heading: str) -> str:
    """The text under the heading that is exactly ``heading``, up to the next of the same or a higher level."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)} *$", text, re.MULTILINE)
    if found is None:
        raise AssertionError(f"{page.relative_to(ROOT)} has no heading {heading!r}")
    end = re.search(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], re.MULTILINE)
    return text[found.end() :][: end.start() if end else None]


def prose(page: Path) -> str:
    """The text of the page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))
