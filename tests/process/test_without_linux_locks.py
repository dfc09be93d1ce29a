"""macOS and the BSDs: processes and faults without open-file-description locks and without memory wiped by a fork.

Other tests are run once more in a Python from which both were taken away, before the package is imported and in every
process that is started: see ``tests/without_linux``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RunPython

TESTS = Path(__file__).parents[1]

AGAIN = [
    "process/test_crash.py",
    "process/test_fork.py",
    "process/test_two_sessions.py",
    "process/test_wipe.py",
    "faults/test_kill_storm.py",
]
LONG_AND_ALIKE = "workers_of_multiprocessing or workers_outside_any_session"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there it is so without a simulation")


def _path() -> str:
    return os.pathsep.join(filter(None, (str(TESTS / "without_linux"), os.environ.get("PYTHONPATH"))))


def test_neither_is_there_to_be_used(run_python: RunPython) -> None:
    source = """
import fcntl
from pyjama_instrument import _fork_detection
from pyjama_instrument.storage import liveness
assert not any(name.startswith("F_OFD") for name in dir(fcntl))
assert "F_OFD" not in str(liveness.hold.__code__.co_names)
assert type(_fork_detection.fork_marker()) is _fork_detection._ProcessNumber
"""
    run_python(source, PYTHONPATH=_path())


@pytest.mark.timeout(900)
def test_what_holds_for_processes_and_faults_holds_without_them() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYJAMA_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *(str(TESTS / name) for name in AGAIN),
    ]
    done = subprocess.run(
        command,
        cwd=TESTS.parent,
        env=environment | {"PYTHONPATH": _path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
