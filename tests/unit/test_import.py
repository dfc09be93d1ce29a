"""Importing the package costs nothing and changes nothing until the first event is recorded."""

from __future__ import annotations

import json

import pytest

from tests.conftest import RunPython

_REPORT = """
import atexit, json, os, sys, threading
import asyncio, logging, wrapt  # what these do by themselves is not ours to answer for

def seen():
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "files": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
        "at exit": atexit._ncallbacks(),
        "home": sorted(os.listdir(os.environ["HOME"])),
        "store": os.path.exists(os.environ["PYJAMA_HOME"]),
    }

before = seen()
import pyjama_instrument
from pyjama_instrument import agent_session, configure, current_session, flush, tool
after = seen()

@tool
def double(x):
    return 2 * x
run = agent_session("imported-only")
decorated = seen()
print(json.dumps({"before": before, "after": after, "decorated": decorated, "modules": sorted(sys.modules)}))
"""

_NOT_FOR_RECORDING = {
    "argparse",
    "filelock",
    "pydantic",
    "starlette",
    "uvicorn",
    "pyjama_instrument.cli",
    "pyjama_instrument.document",
    "pyjama_instrument.events",
    "pyjama_instrument.fold",
    "pyjama_instrument.reader",
    "pyjama_instrument.storage.compaction",
    "pyjama_instrument.storage.decoding",
    "pyjama_instrument.viewer",
}


@pytest.fixture
def report(run_python: RunPython) -> dict[str, object]:
    return json.loads(run_python(_REPORT).stdout)  # type: ignore[no-any-return]  # json gives Any


def test_import_starts_no_thread_opens_no_file_and_registers_nothing_at_exit(report: dict[str, object]) -> None:
    assert report["after"] == report["before"]


def test_decorating_a_function_and_naming_a_session_record_nothing_yet(report: dict[str, object]) -> None:
    assert report["decorated"] == report["before"]


def test_import_leaves_what_recording_does_not_need_unloaded(report: dict[str, object]) -> None:
    assert isinstance(report["modules"], list)
    assert _NOT_FOR_RECORDING.isdisjoint(report["modules"])


def test_running_the_package_as_a_module_is_the_command(run_python: RunPython) -> None:
    done = run_python(
        "import runpy, sys; sys.argv = ['pyjama', '--version']; runpy.run_module('pyjama_instrument', None, '__main__')"
    )
    assert done.stdout.startswith("pyjama")
