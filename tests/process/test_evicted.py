"""Real runs that are pushed out of the list of the latest 500: each is what it was, wherever it is looked up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyjama_instrument.cli import main
from pyjama_instrument.export import export
from pyjama_instrument.reader import Reader, get_dashboard_data, load_session
from pyjama_instrument.viewer.overview import build_overview
from tests.conftest import RunPython

CRASHES = """
import os, signal
from pyjama_instrument import agent_session, tool

@tool
def stuck():
    os.kill(os.getpid(), signal.SIGKILL)

with agent_session("indexer", tags={"ticket": "A-7"}, workflow=["load", "index"]) as run:
    run.annotate(tokens=100)
    with agent_session("helper") as inner:
        inner.annotate(tokens=20)
    with run.step("load"):
        stuck()
"""
FAILS = """
from pyjama_instrument import agent_session, tool

@tool
def save(order):
    raise KeyError(order)

with agent_session("backup", tags={"host": "db1"}):
    save("order")
"""
CROWD = """
from pyjama_instrument import agent_session, flush, tool

@tool
def work():
    pass

for _ in range(510):
    with agent_session("crowd"):
        work()
assert flush()
"""


@pytest.fixture
def ids(own_store: Path, run_python: RunPython) -> dict[str, str]:
    """By agent, the ids of a crashed run, of the one inside it, and of a failed one."""
    run_python(CRASHES, returncode=-9)
    run_python(FAILS, returncode=1)
    return {run.agent_id: sid for sid, run in get_dashboard_data().sessions.items()}


def test_runs_read_the_same_before_and_after_they_are_evicted(ids: dict[str, str], run_python: RunPython) -> None:
    before = {agent: load_session(sid) for agent, sid in ids.items()}
    totals = get_dashboard_data().runs
    exported = {agent: b"".join(export(None, sid)) for agent, sid in ids.items()}
    run_python(CROWD)
    data = get_dashboard_data()
    assert not set(ids.values()) & set(data.sessions)
    after = {agent: load_session(sid) for agent, sid in ids.items()}
    assert after == before
    assert {agent: b"".join(export(None, sid)) for agent, sid in ids.items()} == exported
    crashed = after["indexer"].session
    assert (crashed.status, [call.tool for call in crashed.interrupted]) == ("crashed", ["stuck"])
    assert (crashed.tags, crashed.attributes) == ({"ticket": "A-7"}, {"tokens": 100})
    assert after["indexer"].relatives[ids["helper"]].attributes == {"tokens": 20}
    failed = after["backup"].session
    assert failed.error is not None
    assert (failed.status, failed.errors, failed.error.type) == ("failed", 1, "KeyError")
    assert (data.runs.crashed, data.runs.failed) == (totals.crashed, totals.failed) == (1, 1)
    assert data.runs.completed == 511
    tiles = {tile["key"]: tile["value"] for tile in build_overview(data)["totals"]}
    assert (tiles["crashed"], tiles["failed"], tiles["finished"]) == ("1", "1", "511")


def test_what_status_names_show_finds(
    ids: dict[str, str], run_python: RunPython, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python(CROWD)
    capsys.readouterr()
    assert main(["status"]) == 1
    named = capsys.readouterr().out
    assert "in stuck" in named
    assert "KeyError" in named
    for agent, sid in ids.items():
        assert agent in named
        for said in (agent, sid, sid[:8], sid[:10].upper()):
            assert main(["show", said, "--json"]) == 0
            shown = json.loads(capsys.readouterr().out)
            assert (shown["id"], shown["session"]["agent-id"]) == (sid, agent)


def test_a_reader_that_stays_says_the_same_while_runs_are_evicted(ids: dict[str, str], run_python: RunPython) -> None:
    reader = Reader()
    before = {sid: reader.session(sid) for sid in ids.values()}
    run_python(CROWD)
    assert {sid: reader.session(sid) for sid in ids.values()} == before
