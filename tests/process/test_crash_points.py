"""A run that dies at any of its calls leaves the old snapshot or the new one, and no count is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.crash_points import CALLS, WHEN

POINTS = [
    pytest.param(scenario, f"{number} {when}", id=f"{scenario}: {when} {number} {call}")
    for scenario, calls in CALLS.items()
    for number, call in enumerate(calls)
    for when in WHEN
]


@pytest.fixture(scope="module")
def report() -> Any:
    # In a process of its own: it forks, which this one, with its threads, had better not.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.process.crash_points"],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("scenario", CALLS)
def test_the_table_names_every_call_that_changes_the_disk(report: Any, scenario: str) -> None:
    assert report[scenario]["calls"] == CALLS[scenario]


@pytest.mark.parametrize(("scenario", "point"), POINTS)
def test_a_death_leaves_a_store_that_is_right_and_goes_on(report: Any, scenario: str, point: str) -> None:
    assert report[scenario]["wrong"][point] == []
