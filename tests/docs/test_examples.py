"""What the documentation shows, works: every fenced ``python`` example is run, every ``json`` one is JSON."""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path

import pytest

from pyjama_instrument.document import AgentSummary
from pyjama_instrument.reader import get_dashboard_data
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


_ALONE = [(page, example) for page in _with("python") for example in fences(page, "python")]


@pytest.mark.parametrize(("page", "example"), _ALONE, ids=[f"{_name(page)}:{each.line}" for page, each in _ALONE])
def test_each_python_example_runs_by_itself(page: Path, example: Fence, tmp_path: Path, run_python: RunPython) -> None:
    script = tmp_path / "example.py"
    script.write_text(_script([example]), encoding="utf-8")
    run_python(script, PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))


def _run(examples: list[Fence], names: list[str], tmp_path: Path, run_python: RunPython) -> dict[str, AgentSummary]:
    for name, example in zip(names, examples, strict=True):
        (tmp_path / name).write_text(example.text, encoding="utf-8")
        run_python(tmp_path / name, PYTHONPATH=str(ROOT))
    return get_dashboard_data().agents


def test_the_readme_s_programs_show_up_as_it_says(tmp_path: Path, run_python: RunPython) -> None:
    agents = _run(fences(ROOT / "README.md", "python"), ["hello.py", "researcher.py", "look.py"], tmp_path, run_python)
    assert {name: agent.status for name, agent in agents.items()} == {"hello": "completed", "researcher": "completed"}
    steps = agents["researcher"].steps
    assert [(step.step_id, step.status) for step in steps] == [("discover", "ok"), ("analyze", "ok")]


def test_the_tutorial_s_programs_show_up_as_it_says(tmp_path: Path, run_python: RunPython) -> None:
    names = ["greeter.py", "reader.py", "calculator.py", "look.py"]
    agents = _run(fences(ROOT / "docs" / "tutorial.md", "python"), names, tmp_path, run_python)
    assert {name: (agent.status, [step.step_id for step in agent.steps]) for name, agent in agents.items()} == {
        "greeter": ("completed", []),
        "reader": ("completed", ["fetch", "count"]),
        "calculator": ("failed", []),
    }


def test_the_code_of_the_empty_page_is_recorded_when_it_is_run(tmp_path: Path, run_python: RunPython) -> None:
    page = (ROOT / "pyjama_instrument" / "viewer" / "static" / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<code id="start">(.*?)</code>', page, re.DOTALL)
    assert found is not None
    agents = _run([Fence("python", html.unescape(found[1]), 1)], ["hello.py"], tmp_path, run_python)
    assert {name: agent.status for name, agent in agents.items()} == {"hello": "completed"}
    assert get_dashboard_data().metrics.tools["search"].count == 1


@pytest.mark.parametrize("page", _with("json"), ids=_name)
def test_the_json_examples_of_a_page_are_json(page: Path) -> None:
    for example in fences(page, "json"):
        json.loads(example.text)
