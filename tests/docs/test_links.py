"""Every link in the documentation leads to a page that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, links, pages

_EVERY_PAGE = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def _inside(page: Path) -> list[tuple[str, Path, str]]:
    """The page's links into this repository: as written, the file meant, the anchor meant."""
    found = []
    for link in links(page):
        if "://" not in link and not link.startswith("mailto:"):
            path, _, anchor = link.partition("#")
            found.append((link, (page.parent / path).resolve() if path else page, anchor))
    return found


@_EVERY_PAGE
def test_links_lead_to_files_that_exist(page: Path) -> None:
    assert [link for link, target, _ in _inside(page) if not target.exists()] == []


@_EVERY_PAGE
def test_anchors_lead_to_headings_that_exist(page: Path) -> None:
    broken = [
        link
        for link, target, anchor in _inside(page)
        if anchor and target.suffix == ".md" and target.exists() and anchor not in anchors(target)
    ]
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        ahead += [target for _, target, _ in _inside(page)]
    assert [str(page.relative_to(ROOT)) for page in pages() if page not in reached] == []


def test_readme_fits_on_a_hundred_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
