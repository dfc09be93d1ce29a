"""What the documentation shows, works: every fenced ``python`` example is run, every ``json`` one is JSON."""

from __future__ import annotations

import html
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument.document import AgentSummary
from pyjama_instrument.reader import get_dashboard_data, tail_events
from tests.conftest import RunPython
from tests.docs.claims import CLAIMS, Claim
from tests.docs.pages import ROOT, Fence, fences, pages

_PYTEST = "import sys, pytest; sys.exit(pytest.main(['-p', 'no:cacheprovider', *sys.argv[1:]]))"


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _with(language: str) -> list[Path]:
    return [page for page in pages() if fences(page, language)]


def _example(page: str, number: int) -> Fence:
    return fences(ROOT / page, "python")[number]


def _directory(tmp_path: Path) -> Path:
    directory = tmp_path / "empty"
    directory.mkdir(exist_ok=True)
    return directory


def _save(example: Fence, name: str, directory: Path) -> Path:
    """The example as a program whose line numbers are the page's."""
    program = directory / name
    program.write_text("\n" * (example.line - 1) + example.text, encoding="utf-8")
    return program


def _run_alone(example: Fence, claim: Claim, tmp_path: Path, run_python: RunPython) -> str:
    """Run an example in an empty directory, the way its page says; returns what it prints."""
    directory = _directory(tmp_path)
    program = _save(example, claim.file, directory)
    if claim.agents.get("thinker") == "crashed" and claim.file == "thinker.py":
        return _run_and_kill(program)
    if claim.file.startswith("test_"):
        return run_python(_PYTEST, str(program), cwd=directory, PYTHONPATH=str(ROOT)).stdout
    done = run_python(program, cwd=directory, PYTHONPATH=str(ROOT))
    assert done.stderr == ""
    return done.stdout


def _run_and_kill(program: Path) -> str:
    """Run a program that prints how to kill it, and kill it once it is in the call that it sleeps in."""
    with subprocess.Popen([sys.executable, program], cwd=program.parent, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        command = child.stdout.readline()
        for event in tail_events(follow=True, poll_seconds=0.01):
            if event.kind == "tool.started" and event.agent == "thinker":
                break
        subprocess.run(shlex.split(command), check=True)
    return command


_EXAMPLES = [(_name(page), number) for page in _with("python") for number in range(len(fences(page, "python")))]


def test_every_example_has_a_claim() -> None:
    assert {page: len(claims) for page, claims in CLAIMS.items()} == {
        _name(page): len(fences(page, "python")) for page in _with("python")
    }


@pytest.mark.parametrize(("page", "number"), _EXAMPLES, ids=[f"{page}:{number}" for page, number in _EXAMPLES])
def test_each_python_example_alone_does_what_it_claims(
    page: str, number: int, tmp_path: Path, run_python: RunPython
) -> None:
    claim = CLAIMS[page][number]
    output = _run_alone(_example(page, number), claim, tmp_path, run_python)
    assert re.fullmatch(claim.output, output), output
    data = get_dashboard_data()
    agents = {name: agent.status for name, agent in data.agents.items()}
    tools = {name: tool.count for name, tool in data.metrics.tools.items()}
    assert (agents, tools) == (claim.agents, claim.tools)
    assert [pattern for pattern in claim.leaves if not list((tmp_path / "empty").glob(pattern))] == []


def _run_in_order(page: str, tmp_path: Path, run_python: RunPython) -> dict[str, AgentSummary]:
    for number, claim in enumerate(CLAIMS[page]):
        _run_alone(_example(page, number), claim, tmp_path, run_python)
    return get_dashboard_data().agents


def test_the_readme_s_programs_show_up_as_it_says(tmp_path: Path, run_python: RunPython) -> None:
    agents = _run_in_order("README.md", tmp_path, run_python)
    assert {name: agent.status for name, agent in agents.items()} == {"hello": "completed", "researcher": "completed"}
    steps = agents["researcher"].steps
    assert [(step.step_id, step.status) for step in steps] == [("discover", "ok"), ("analyze", "ok")]


def test_the_tutorial_s_programs_show_up_as_it_says(tmp_path: Path, run_python: RunPython) -> None:
    agents = _run_in_order("docs/tutorial.md", tmp_path, run_python)
    assert {name: (agent.status, [step.step_id for step in agent.steps]) for name, agent in agents.items()} == {
        "greeter": ("completed", []),
        "reader": ("completed", ["download", "count"]),
        "calculator": ("failed", []),
        "thinker": ("crashed", []),
    }
    assert [call.tool for call in agents["thinker"].interrupted] == ["think"]


def test_the_code_of_the_empty_page_is_recorded_when_it_is_run(tmp_path: Path, run_python: RunPython) -> None:
    page = (ROOT / "pyjama_instrument" / "viewer" / "static" / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<code id="start">(.*?)</code>', page, re.DOTALL)
    assert found is not None
    _run_alone(Fence("python", html.unescape(found[1]), 1), Claim(file="hello.py"), tmp_path, run_python)
    data = get_dashboard_data()
    assert {name: agent.status for name, agent in data.agents.items()} == {"hello": "completed"}
    assert data.metrics.tools["search"].count == 1


_LOOK = ("README.md", "docs/tutorial.md")  # the last example of each prints what there is


def test_the_program_that_looks_prints_what_the_other_programs_recorded(tmp_path: Path, run_python: RunPython) -> None:
    for page in _LOOK:
        _run_in_order(page, tmp_path, run_python)
    look, other = (_run_alone(_example(page, -1), Claim(), tmp_path, run_python) for page in _LOOK)
    assert {"hello completed 1", "researcher completed 1", "search 2 0"} <= set(look.splitlines())
    assert {"reader completed ['download', 'count']", "calculator failed ['divide']"} <= set(other.splitlines())


def test_the_secrets_of_the_redaction_page_are_masked(tmp_path: Path, run_python: RunPython) -> None:
    _run_alone(_example("docs/howto/redaction.md", 0), Claim(), tmp_path, run_python)
    (run,) = get_dashboard_data().sessions.values()
    assert run.attributes == {"api_key": "[redacted]", "tokens": 1234}
    (call,) = [event for event in tail_events() if event.kind == "tool.ended"]
    assert call.arguments == {"url": "postgres://[redacted]@db/sales", "password": "[redacted]"}


def test_the_function_of_the_redaction_page_decides_as_its_comments_say(tmp_path: Path, run_python: RunPython) -> None:
    _run_alone(_example("docs/howto/redaction.md", 1), Claim(), tmp_path, run_python)
    (call,) = [event for event in tail_events() if event.kind == "tool.ended"]
    assert (call.arguments, call.result) == ({"iban": "[redacted]", "amount": 5}, "[redacted]")


def test_the_figures_of_a_child_run_are_added_up_as_the_page_says(tmp_path: Path, run_python: RunPython) -> None:
    _run_alone(_example("docs/howto/read-a-run.md", 0), Claim(), tmp_path, run_python)
    shown = run_python(
        "from pyjama_instrument.cli import main; import sys; sys.exit(main(['show', 'planner']))", PYTHONPATH=str(ROOT)
    ).stdout
    assert re.search(r"\b1,?500\b", shown), shown


def test_calls_in_threads_workers_and_child_programs_belong_to_the_run(tmp_path: Path, run_python: RunPython) -> None:
    page = "docs/howto/threads-and-processes.md"
    for number, claim in enumerate(CLAIMS[page]):
        _run_alone(_example(page, number), claim, tmp_path, run_python)
    runs = get_dashboard_data().sessions.values()
    assert sorted(run.calls for run in runs if not run.implicit) == [1, 1, 2, 2, 4]
    assert [run for run in runs if run.implicit] == []


def test_the_conftest_of_the_testing_page_gives_each_test_its_own_store(tmp_path: Path, run_python: RunPython) -> None:
    directory = _directory(tmp_path)
    _save(_example("docs/howto/testing.md", 1), "conftest.py", directory)
    test = directory / "test_own_store.py"
    test.write_text("from pyjama_instrument import tool\ndef test_a_call(): tool(abs)(-1)\n", encoding="utf-8")
    run_python(_PYTEST, str(test), cwd=directory, PYTHONPATH=str(ROOT))
    assert get_dashboard_data().agents == {}


@pytest.mark.parametrize("page", _with("json"), ids=_name)
def test_the_json_examples_of_a_page_are_json(page: Path) -> None:
    for example in fences(page, "json"):
        json.loads(example.text)
