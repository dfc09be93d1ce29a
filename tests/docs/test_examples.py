"""What the documentation shows, works: every fenced ``python`` example is run, every ``json`` one is JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import RunPython
from tests.docs.pages import ROOT, Fence, fences, pages


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _with(language: str) -> list[Path]:
    return [page for page in pages() if fences(page, language)]


def _script(examples: list[Fence]) -> str:
    """The examples as one program whose line numbers are the page's."""
    lines: list[str] = []
    for example in examples:
        lines += [""] * (example.line - 1 - len(lines)) + example.text.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", _with("python"), ids=_name)
def test_the_python_examples_of_a_page_run_one_after_the_other(
    page: Path, tmp_path: Path, run_python: RunPython
) -> None:
    script = tmp_path / f"{page.stem.lower().replace('-', '_')}.py"
    script.write_text(_script(fences(page, "python")), encoding="utf-8")
    run_python(script, PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))


@pytest.mark.parametrize("page", _with("json"), ids=_name)
def test_the_json_examples_of_a_page_are_json(page: Path) -> None:
    for example in fences(page, "json"):
        json.loads(example.text)
