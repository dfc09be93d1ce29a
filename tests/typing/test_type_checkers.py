"""mypy and pyright see decorated functions as they see undecorated ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


def _mypy(file: Path) -> dict[int, str]:
    """Line numbers and messages of the errors that mypy finds in the file."""
    done = _run("mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-color-output", str(file))
    found = re.findall(rf"^{re.escape(str(file.relative_to(_ROOT)))}:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert done.returncode == 0 or found, done.stdout + done.stderr
    return {int(line): message for line, message in found}


def _pyright(file: Path) -> dict[int, str]:
    """Line numbers and messages of the errors that pyright finds in the file."""
    done = _run("pyright", "--outputjson", "--pythonpath", sys.executable, str(file))
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1: each["message"] for each in found if each["severity"] == "error"}


def _run(checker: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Both from the package index, neither downloads anything: pyright brings its script, and node is a wheel.
    environment = os.environ | {"MYPYPATH": str(_ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(
        [sys.executable, "-m", checker, *arguments],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


_BOTH = pytest.mark.parametrize("errors_in", [_mypy, _pyright], ids=["mypy", "pyright"])


@_BOTH
def test_correct_use_is_accepted(errors_in: Callable[[Path], dict[int, str]]) -> None:
    assert errors_in(_HERE / "accepted.py") == {}


@_BOTH
def test_mistakes_are_found_where_they_are(errors_in: Callable[[Path], dict[int, str]]) -> None:
    lines = (_HERE / "refused.py").read_text(encoding="utf-8").splitlines()
    marked = [number for number, line in enumerate(lines, 1) if line.endswith("# error")]
    assert sorted(errors_in(_HERE / "refused.py")) == marked


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("pyjama_instrument").joinpath("py.typed").is_file()
