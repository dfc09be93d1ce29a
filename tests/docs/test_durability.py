"""The durability page names tests that exist, and shows each fault that is tested."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

_PAGE = (ROOT / "docs" / "explanation" / "durability.md").read_text(encoding="utf-8")
_NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", _PAGE)))


@pytest.mark.parametrize(("file", "function"), _NAMED)
def test_every_test_that_the_page_names_exists(file: str, function: str) -> None:
    found = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
    assert any(f"\ndef {function}(" in text for text in found)


def test_every_promise_names_the_test_that_shows_it() -> None:
    table = _PAGE.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert [row for row in rows if "`test_" not in row] == []


def test_every_file_of_fault_tests_is_named_by_the_page() -> None:
    files = {path.name for path in (ROOT / "tests" / "faults").glob("test_*.py")}
    assert files - {file for file, _ in _NAMED} == set()
