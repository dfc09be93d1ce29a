"""The documentation uses plain words: a run is a run, "if" is "if", and only people say something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, prose

_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_SPEECH = re.compile(r"\b(says?|said|tells?|told|who(?:so)?ever)\b", re.IGNORECASE)
_WHERE = re.compile(r"(?:^|[.:;] |\| )Where (?!the )", re.MULTILINE)
_DEFINES_SESSION = {"glossary.md", "api.md"}  # the name of a run in the API and in the files

_EVERY_PAGE = pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def _words(page: Path) -> str:
    """The page without its code and without the targets of its links."""
    return re.sub(r"\]\([^)]*\)|`[^`\n]*`", " ", prose(page))


@_EVERY_PAGE
def test_a_page_does_not_have_things_speak(page: Path) -> None:
    assert [found[0] for found in _SPEECH.finditer(_words(page))] == []


@_EVERY_PAGE
def test_no_sentence_begins_with_where_in_the_sense_of_if(page: Path) -> None:
    assert [found[0] for found in _WHERE.finditer(_words(page))] == []


@_EVERY_PAGE
def test_a_run_is_called_a_run(page: Path) -> None:
    used = re.findall(r"\bsessions?\b", _words(page), re.IGNORECASE)
    assert page.name in _DEFINES_SESSION or used == []
