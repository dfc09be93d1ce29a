"""Programs that PyInstaller freezes record, read and show the page."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pyjama_instrument import viewer
from tests.scale import full

PROGRAM = """
import sys, urllib.request
from pyjama_instrument import agent_session, cli, tool
from pyjama_instrument.reader import get_dashboard_data
from pyjama_instrument.viewer import start_dashboard

@tool
def search(): pass

with agent_session("frozen"):
    search()
assert get_dashboard_data().metrics.tools["search"].count == 1
with start_dashboard(0) as dashboard:
    for path in ("", "static/app.js", "static/style.css"):
        assert urllib.request.urlopen(dashboard.url + path).read()
assert cli.main(["status"]) == 0
print(sys.frozen)
"""


def test_pyinstaller_is_told_where_the_hooks_are() -> None:
    points = entry_points(group="pyinstaller40", name="hook-dirs")
    (point,) = (each for each in points if each.value.startswith("pyjama_instrument."))
    (directory,) = point.load()()
    assert sorted(path.name for path in Path(directory).glob("hook-*.py")) == [
        "hook-pyjama_instrument.cli.py",
        "hook-pyjama_instrument.viewer.py",
    ]


@pytest.mark.skipif(not full(True, False), reason="freezing takes 40 s of CPU: make stress does it")
@pytest.mark.timeout(600)
def test_a_frozen_program_records_reads_and_shows_the_page(own_store: Path, tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")
    (tmp_path / "program.py").write_text(PROGRAM)
    hooks = Path(viewer.__file__).parent.parent / "_pyinstaller"
    options = ["--noconfirm", "--log-level", "ERROR", "--additional-hooks-dir", str(hooks)]
    options += [f"--exclude-module={name}" for name in ("hypothesis", "mypy", "pytest", "setuptools")]  # to be quicker
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", *options, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")},
        check=True,
    )
    done = subprocess.run([tmp_path / "dist/program/program"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "True"
