"""The command lines that the documentation shows are run, one by one, each on a store with something in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, fences, pages
from tests.stores import START_US, a_call, dead_journal, fold, session_begins, session_ends

_ENDLESS = re.compile(r"pyjama (dashboard|demo)\b(?!.*--once)")
_OTHERS = re.compile(r"(pip|make|python3 -m venv) ")


def _lines() -> list[tuple[str, str]]:
    """Page and line of everything that can be run here. What follows is made to end; watch is taken off."""
    found = []
    for page in pages():
        for fence in fences(page, "console"):
            for line in fence.text.splitlines():
                if not _ENDLESS.match(line) and not _OTHERS.match(line):
                    once = re.sub(r"^watch -n 1 '(.*)'", r"\1", line).replace("pyjama tail -f", "pyjama tail")
                    found.append((str(page.relative_to(ROOT)), once))
    return found


@pytest.fixture
def shell_store(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store where the documentation says it is, with a run of each agent that it names, live and in history."""
    store = Path(os.environ["HOME"], ".pyjama")
    monkeypatch.delenv("PYJAMA_HOME")
    for agent, digit in (("crawler", "1"), ("calculator", "2"), ("researcher", "3")):
        session = digit * 32
        call = a_call("fetch", session, agent, ts=START_US + 5_000)
        ended = session_ends(session, agent, ts=START_US + 9_000)
        dead_journal(store, session_begins(session, agent), call, ended)
        fold(store)
    fold(store)
    dead_journal(store, session_begins("4" * 32, "crawler"), session_ends("4" * 32, "crawler"))
    return store


@pytest.mark.parametrize(("page", "line"), _lines(), ids=lambda value: value)
def test_a_command_line_of_the_documentation_works(page: str, line: str, shell_store: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pyjama").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pyjama_instrument "$@"\n')
    (tmp_path / "backup.sh").write_text("#!/bin/sh\necho backed up\n")
    for program in (programs / "pyjama", tmp_path / "backup.sh"):
        program.chmod(0o755)
    if "jq" in line and shutil.which("jq") is None:
        pytest.skip("no jq on this machine")
    (Path(os.environ["HOME"]) / ".local/share/bash-completion/completions").mkdir(parents=True)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        input="y\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expected = 2 if line.startswith("pyjama clear ") and "--yes" not in line else 0  # it asks a person at a terminal
    assert (done.returncode, "Traceback" in done.stderr) == (expected, False), done.stderr


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {
        line.split()[1]
        for page in pages()
        for fence in fences(page, "console")
        for line in fence.text.splitlines()
        if line.startswith("make ")
    }
    assert shown <= targets
