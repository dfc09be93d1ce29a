"""What a person or an original agent may do to the files while agents run, and ``metrics.json`` at every moment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pyjama_instrument.reader import Reader, get_dashboard_data
from tests.process.children import ended, line_from, started, tell, until
from tests.stores import fold, remove, snapshot

STEADY = """
import select
with agent_session(sys.argv[1], workflow=["go"]) as run, run.step("go"):
    say("ready")
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        work()
"""

JITTER = 50
"""Calls that a clear may leave standing: the time of a removal is known to a few milliseconds only."""

IDLE = 'with agent_session("idle"):\n    work()\n    say("ready")\n    wait()'


@contextlib.contextmanager
def agents(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """That many agents that make a call every few milliseconds, all under way."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(started(STEADY, f"agent-{number}")) for number in range(count)]
        for child in children:
            assert line_from(child) == "ready"
        yield children


@contextlib.contextmanager
def as_an_original(home: Path) -> Iterator[None]:
    """Hold the original's lock, the way it does."""

    def got() -> bool:
        try:
            os.close(os.open(home / "metrics.lock", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    until(got)
    try:
        yield
    finally:
        (home / "metrics.lock").unlink()


def finish(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        tell(child)
    for child in children:
        ended(child)


def folded(home: Path, count: int) -> bool:
    return (home / "metrics.json").exists() and snapshot(home)["global"]["count"] >= count


def recorded(home: Path) -> int:
    """Calls in all journals, cleared ones included."""
    return sum(path.read_bytes().count(b'"tool.ended"') for path in home.glob("*/*.jsonl"))


def running(home: Path) -> set[str]:
    return {name for name, agent in get_dashboard_data(home).agents.items() if agent.status == "running"}


def test_a_removed_store_is_there_again_with_every_running_agent(own_store: Path) -> None:
    with agents(2) as children:
        until(lambda: (own_store / "metrics.json").exists())
        shutil.rmtree(own_store, ignore_errors=True)
        until(lambda: running(own_store) == {"agent-0", "agent-1"})
        until(lambda: (own_store / "metrics.json").exists() and len(snapshot(own_store)["agents"]) == 2)
        finish(children)
    data = get_dashboard_data()
    assert {agent.status for agent in data.agents.values()} == {"completed"}
    assert [agent.runs.count for agent in data.agents.values()] == [1, 1]
    assert {agent.current_step for agent in data.agents.values()} == {None}


def test_after_a_removal_of_the_store_totals_begin_at_zero(own_store: Path) -> None:
    with started(IDLE) as child:
        line_from(child)
        assert get_dashboard_data().metrics.global_.count == 1
        remove(own_store)
        until(lambda: running(own_store) == {"idle"})
        assert get_dashboard_data().metrics.global_.count == 0
        tell(child)
        ended(child)


def test_after_a_removal_of_the_snapshot_agents_re_appear_and_totals_begin_anew(own_store: Path) -> None:
    with agents(2) as children:
        until(lambda: (own_store / "metrics.json.prev").exists() and snapshot(own_store)["global"]["count"] > 50)
        before = get_dashboard_data().metrics.global_.count
        (own_store / "metrics.json").unlink()
        assert get_dashboard_data().metrics.global_.count <= recorded(own_store) - before + JITTER
        assert running(own_store) == {"agent-0", "agent-1"}
        until(lambda: (own_store / "metrics.json").exists())
        assert set(snapshot(own_store)["agents"]) == {"agent-0", "agent-1"}
        finish(children)
    data = get_dashboard_data()
    assert {agent.status for agent in data.agents.values()} == {"completed"}
    assert [agent.runs.count for agent in data.agents.values()] == [1, 1]


def test_an_agent_that_records_nothing_re_appears_too(own_store: Path) -> None:
    with started(IDLE) as child:
        line_from(child)
        until(lambda: (own_store / "metrics.json.prev").exists())
        (own_store / "metrics.json").unlink()
        until(lambda: (own_store / "metrics.json").exists())
        assert snapshot(own_store)["agents"]["idle"]["status"] == "running"
        tell(child)
        ended(child)


def test_an_original_s_clear_is_taken_up(own_store: Path) -> None:
    with agents(1) as children:
        until(lambda: (own_store / "metrics.json.prev").exists() and snapshot(own_store)["global"]["count"] > 50)
        before = snapshot(own_store)["global"]["count"]
        with as_an_original(own_store):
            (own_store / "metrics.json").write_text("{}")
        until(lambda: "journals" in snapshot(own_store))
        assert snapshot(own_store)["global"]["count"] <= recorded(own_store) - before + JITTER
        assert running(own_store) == {"agent-0"}
        finish(children)


def test_clearing_again_and_again_disturbs_no_agent(own_store: Path) -> None:
    with agents(2) as children:
        for _ in range(5):
            until(lambda: (own_store / "metrics.json").exists())
            (own_store / "metrics.json").unlink()
            shutil.rmtree(own_store, ignore_errors=True)
        until(lambda: running(own_store) == {"agent-0", "agent-1"})
        finish(children)


def test_the_snapshot_is_whole_at_every_moment_and_never_goes_back(own_store: Path) -> None:
    with agents(4) as children:
        path = own_store / "metrics.json"
        until(path.exists)
        counts, generations = [0], set()
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            document = json.loads(path.read_bytes())
            counts.append(document["global"]["count"])
            generations.add(document["generation"])
        assert counts == sorted(counts)
        assert len(generations) >= 2
        finish(children)
    for _ in range(3):
        fold(own_store)
    assert snapshot(own_store)["global"]["count"] == get_dashboard_data().metrics.global_.count


def test_what_is_recorded_reaches_the_snapshot_by_itself(own_store: Path) -> None:
    reader = Reader()
    with agents(2) as children:
        until(lambda: reader.dashboard().metrics.global_.count > 0)
        for _ in range(3):
            recorded = reader.dashboard().metrics.global_.count
            until(partial(folded, own_store, recorded))
        finish(children)


def test_an_original_s_stale_lock_stops_neither_recording_nor_the_end_of_a_program(own_store: Path) -> None:
    own_store.mkdir()
    (own_store / "metrics.lock").touch()
    os.utime(own_store / "metrics.lock", (0, 0))
    with agents(2) as children:
        until(lambda: get_dashboard_data().metrics.global_.count > 20)
        assert any("metrics.lock" in note for note in get_dashboard_data().health.notes)
        finish(children)
    assert (own_store / "metrics.lock").exists()
    assert not (own_store / "metrics.json").exists()
    assert {agent.status for agent in get_dashboard_data().agents.values()} == {"completed"}
    (own_store / "metrics.lock").unlink()
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == get_dashboard_data().metrics.global_.count


def test_a_lock_of_ours_left_behind_by_a_kill_is_removed_by_the_next(own_store: Path) -> None:
    source = """
from pyjama_instrument.storage import compaction
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
compaction.catch_up = die
work()
flush()
"""
    with started(source) as child:
        child.communicate(timeout=60)
    assert (own_store / "metrics.lock").exists()
    with started("work()") as child:
        ended(child)
    assert not (own_store / "metrics.lock").exists()
    assert snapshot(own_store)["global"]["count"] == 2


def test_a_stopped_process_that_holds_the_lock_stops_nobody_from_recording_or_ending(own_store: Path) -> None:
    source = """
from pyjama_instrument.storage import compaction
def stop(*_, **__):
    say("folding")
    os.kill(os.getpid(), signal.SIGSTOP)
compaction.catch_up = stop
work()
flush()
"""
    with started(source) as stopped:
        assert line_from(stopped) == "folding"
        with started("[work() for _ in range(10)]") as child:
            ended(child)
        assert get_dashboard_data().metrics.global_.count == 11
        assert not (own_store / "metrics.json").exists()
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 11
