"""Runs that the document does not list any more: what is said of them, and what it costs to say it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NoReturn

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.document import SessionSummary, SessionTree
from pyjama_instrument.errors import SessionNotFound
from pyjama_instrument.export import export
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.reader import Reader, get_dashboard_data, journal_search, load_session
from pyjama_instrument.reader.session_history import SessionRecords
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.shared_metrics import clear_metrics
from pyjama_instrument.storage.lock_domains import mark_divided
from pyjama_instrument.viewer.run_header import run_header
from tests.stores import (
    AGENT,
    SESSION,
    START_US,
    Record,
    Writer,
    a_call,
    call_begins,
    dead_journal,
    fold,
    session_begins,
    session_ends,
)

PARENT, CHILD, GRANDCHILD = "a" * 32, "b" * 32, "c" * 32
ERROR = {"type": "builtins.KeyError", "message": "'order'"}


@pytest.fixture(autouse=True)
def few_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "ended-sessions", 2)
    monkeypatch.setitem(LIMITS, "running-sessions", 2)


def crowd(home: Path, number: int = 3) -> None:
    """So many later runs that none of the earlier ones is listed."""
    later = START_US + 3_600_000_000
    runs = [
        record
        for n in range(number)
        for record in (session_begins(f"{n:032x}", "crowd", later + n), session_ends(f"{n:032x}", "crowd", later + n))
    ]
    dead_journal(home, *runs)
    for _ in range(3):
        fold(home)


def begins(session: str, parent: str | None = None, **more: object) -> Record:
    return session_begins(session, f"agent {session[0]}", **({"parent_session": parent} if parent else {}), **more)


def a_family(home: Path) -> None:
    """A run with one inside it, and another inside that."""
    for session, parent in ((PARENT, None), (CHILD, PARENT), (GRANDCHILD, CHILD)):
        agent = f"agent {session[0]}"
        tokens = {"kind": "annotated", "agent": agent, "session": session, "ts": START_US, "attributes": {"tokens": 5}}
        ended = session_ends(session, agent, START_US + 1000)
        dead_journal(home, begins(session, parent), a_call("t", session, agent), tokens, ended)


def test_a_crashed_run_that_is_not_listed_has_crashed_and_names_the_call(own_store: Path) -> None:
    dead_journal(own_store, session_begins(tags={"k": "v"}), a_call(), call_begins("stuck"))
    crowd(own_store)
    assert SESSION not in get_dashboard_data().sessions
    run = load_session(SESSION).session
    assert (run.status, run.calls, run.tags, run.pid) == ("crashed", 1, {"k": "v"}, 4242)
    assert [call.tool for call in run.interrupted] == ["stuck"]


def test_a_failed_run_that_is_not_listed_keeps_its_error(own_store: Path) -> None:
    failed = a_call(status="error", error=ERROR)
    dead_journal(own_store, session_begins(), failed, session_ends(ts=START_US + 5000, status="failed", error=ERROR))
    crowd(own_store)
    run = load_session(SESSION).session
    assert run.error is not None
    assert (run.status, run.errors, run.error.message) == ("failed", 1, "'order'")
    assert (run.start_time, run.end_time, run.total_duration) == (START_US // 1000, START_US // 1000 + 5, 2.0)


def test_a_run_that_goes_on_and_is_not_listed_runs_until_its_process_dies(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    others = [Writer(own_store) for _ in range(3)]
    for n, other in enumerate(others):
        other.write(session_begins(f"{n:032x}", "other", START_US + 1_000_000 + n))
    fold(own_store)
    assert SESSION not in get_dashboard_data().sessions
    reader = Reader()
    run = reader.session(SESSION).session
    assert (run.status, run.calls) == ("running", 1)
    agent = reader.dashboard().agents[AGENT]
    assert (agent.status, agent.session) == ("running", SESSION)
    writer.die()
    assert load_session(SESSION).session.status == "crashed"
    for other in others:
        other.die()


def test_a_run_that_was_not_listed_for_a_while_counts_all_its_calls(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    others = [Writer(own_store) for _ in range(2)]
    for n, other in enumerate(others):
        other.write(session_begins(f"{n:032x}", "other", START_US + 1_000_000 + n))
    fold(own_store)
    writer.write(a_call(ts=START_US + 9_000_000))
    assert Reader().metrics()["sessions"][SESSION]["partial"]
    assert get_dashboard_data().sessions[SESSION].calls == load_session(SESSION).session.calls == 2
    for each in (writer, *others):
        each.die()


def test_a_late_call_of_a_run_that_was_forgotten_does_not_bring_it_back(own_store: Path) -> None:
    worker = Writer(own_store)
    dead_journal(own_store, session_begins(), session_ends(status="failed", error=ERROR))
    crowd(own_store)
    worker.write(a_call(ts=START_US + 7_200_000_000))
    fold(own_store)
    data = get_dashboard_data()
    assert (data.agents[AGENT].status, data.agents[AGENT].session) == ("failed", SESSION)
    assert (data.runs.failed, data.runs.count) == (1, 4)
    for run in (load_session(SESSION).session, data.sessions[SESSION]):
        assert (run.status, run.calls) == ("failed", 1)
    worker.die()


def related(tree: SessionTree) -> dict[str, tuple[str, str, object]]:
    return {sid: (run.agent_id, run.status, run.attributes.get("tokens")) for sid, run in tree.relatives.items()}


def test_the_children_of_a_run_are_known_whichever_of_them_are_listed(own_store: Path) -> None:
    a_family(own_store)
    before = {sid: load_session(sid) for sid in (PARENT, CHILD, GRANDCHILD)}
    crowd(own_store)
    after = {sid: load_session(sid) for sid in (PARENT, CHILD, GRANDCHILD)}
    assert after == before
    assert after[PARENT].child_sessions == [CHILD]
    assert related(after[PARENT]) == {CHILD: ("agent b", "completed", 5), GRANDCHILD: ("agent c", "completed", 5)}
    assert related(after[CHILD]) == {PARENT: ("agent a", "completed", 5), GRANDCHILD: ("agent c", "completed", 5)}
    (tokens,) = (tile for tile in run_header(after[PARENT], {})["tiles"] if tile["name"] == "tokens")
    assert tokens["value"] == "15"


def test_the_forgotten_children_of_a_listed_run_are_known(own_store: Path) -> None:
    parent = Writer(own_store)
    parent.write(begins(PARENT))
    dead_journal(own_store, begins(CHILD, PARENT), session_ends(CHILD, "agent b"))
    crowd(own_store)
    listed = get_dashboard_data().sessions
    assert (PARENT in listed, CHILD in listed) == (True, False)
    tree = load_session(PARENT)
    assert (tree.child_sessions, tree.relatives[CHILD].status) == ([CHILD], "completed")
    parent.die()


def test_an_export_of_a_forgotten_run_has_the_runs_inside_it(own_store: Path) -> None:
    a_family(own_store)
    crowd(own_store)
    lines = b"".join(export(None, PARENT)).splitlines()
    assert {session for session in (PARENT, CHILD, GRANDCHILD) if any(session.encode() in line for line in lines)} == {
        PARENT, CHILD, GRANDCHILD,
    }  # fmt: skip
    assert b"agent c" in b"".join(export(None, PARENT, "html"))
    with pytest.raises(SessionNotFound):
        export(None, "f" * 32)


def test_an_export_of_everything_knows_how_forgotten_runs_ended(own_store: Path) -> None:
    dead_journal(own_store, session_begins(), call_begins("stuck"))
    crowd(own_store)
    page = b"".join(export(None, None, "html")).decode()
    assert "crashed" in page[page.index("researcher", page.index("<section>")) :].partition("</section>")[0]


def test_a_run_is_found_by_the_beginning_of_its_id_though_it_is_forgotten(own_store: Path) -> None:
    dead_journal(own_store, session_begins(), session_ends())
    crowd(own_store)
    assert Reader().sessions_beginning(SESSION[:6]) == [SESSION]
    assert Reader().sessions_beginning("dead") == []


def test_summaries_are_given_for_listed_and_forgotten_runs_alike(own_store: Path) -> None:
    dead_journal(own_store, session_begins(), session_ends())
    crowd(own_store)
    found = Reader().sessions([SESSION, "0" * 31 + "2", "f" * 32])
    assert {sid: run.agent_id for sid, run in found.items()} == {SESSION: AGENT, "0" * 31 + "2": "crowd"}


def test_an_agent_of_which_no_run_is_listed_shows_its_latest_and_why_it_failed(own_store: Path) -> None:
    ended = session_ends(ts=START_US + 1, status="failed", error=ERROR)
    dead_journal(own_store, session_begins(), ended)
    crowd(own_store)
    agent = get_dashboard_data().agents[AGENT]
    assert agent.error is not None
    assert agent.last_ended is not None
    assert (agent.session, agent.error.message, agent.last_ended.status) == (SESSION, "'order'", "failed")


def test_an_earlier_run_that_ended_later_does_not_become_the_latest_when_the_latest_is_forgotten(
    own_store: Path,
) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(PARENT, AGENT, START_US))
    dead_journal(own_store, session_begins(CHILD, AGENT, START_US + 1000), session_ends(CHILD, ts=START_US + 2000))
    fold(own_store)
    writer.write(session_ends(PARENT, AGENT, START_US + 7_200_000_000, status="cancelled"))
    crowd(own_store, 1)
    dead_journal(own_store, session_begins("d" * 32, "x"), session_ends("d" * 32, "x", ts=START_US + 8_000_000_000))
    fold(own_store)
    writer.write(a_call("late", PARENT, AGENT, START_US + 7_300_000_000))
    data = get_dashboard_data()
    assert (PARENT in data.sessions, CHILD in data.sessions) == (True, False)
    agent = data.agents[AGENT]
    assert agent.last_ended is not None
    assert (agent.session, agent.status, agent.last_ended.session) == (CHILD, "completed", PARENT)
    writer.die()


def test_a_run_that_was_under_way_at_a_clear_counts_from_then_on_listed_or_not(own_store: Path) -> None:
    work, fail = tool("work")(len), tool("fail")(_fails)
    with contextlib.suppress(ValueError), agent_session("long") as run:
        for _ in range(3):
            work("")
        with contextlib.suppress(ValueError):
            fail("x")
        clear_metrics()
        work("")
        fail("y")
    recorder.flush()
    reader = Reader()
    before = reader.session(run.id)
    assert (before.session.calls, before.session.errors, len(before.root.children)) == (2, 1, 6)
    dead_journal(own_store, *_ended_in_the_future(3))
    fold(own_store)
    assert run.id not in get_dashboard_data().sessions
    for again in (reader, Reader()):
        after = again.session(run.id).session
        assert after.total_duration == pytest.approx(before.session.total_duration)
        assert after == before.session.model_copy(update={"total_duration": after.total_duration})
    assert reader.dashboard().agents["long"].runs.failed == 1


def test_where_locks_prove_nothing_a_forgotten_run_is_judged_by_its_process(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    writer.die()
    document = Reader().metrics()
    document["sessions"].clear()
    assert records_of(own_store, document)["status"] == "crashed"
    mark_divided(document, [writer.id])
    document["journals"] = {}
    # Of what kernel the writer's process is, it does not say: it may live.
    assert records_of(own_store, document)["status"] == "running"


def records_of(home: Path, document: Record) -> Record:
    records = SessionRecords(str(home), [SESSION])
    records.refresh(document)
    found = records.record(SESSION, document)
    assert found is not None
    return found


def _fails(text: str) -> NoReturn:
    raise ValueError(text)


def _ended_in_the_future(number: int) -> list[Record]:
    ts = time.time_ns() // 1000 + 60_000_000
    ids = [f"{n:032x}" for n in range(number)]
    return [record for sid in ids for record in (session_begins(sid, "crowd", ts), session_ends(sid, "crowd", ts))]


# -- what it costs


def test_a_run_asked_for_again_is_not_looked_for_again(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_family(own_store)
    crowd(own_store)
    assert os.listdir(own_store / "history")
    reader = Reader()
    first = reader.session(PARENT)
    reader.session(PARENT)
    opened: list[str] = []
    real = os.open

    def note(path: str, *args: int, **more: int) -> int:
        opened.append(str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(journal_search.os, "open", note)
    assert reader.session(PARENT) is first
    assert [path for path in opened if path.endswith(".jsonl") and (own_store / "history" / path).exists()] == []


def test_segments_of_the_history_without_a_run_are_not_parsed(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_journal(own_store, session_begins(), session_ends())
    crowd(own_store)
    parsed: list[int] = []
    decode = journal_search.decode_lines
    monkeypatch.setattr(journal_search, "decode_lines", lambda lines: (parsed.append(len(lines)), decode(lines))[1])
    load_session(SESSION)
    assert sum(parsed) == 3  # the two of the run, and who wrote them


def test_a_damaged_entry_of_the_document_is_made_up_for_by_the_history(own_store: Path) -> None:
    dead_journal(own_store, session_begins(), session_ends())
    reader = Reader()
    document = reader.metrics()
    document["sessions"][SESSION]["calls"] = "many"
    assert reader._lookup.tree(SESSION, document, reader._builder) is not None


def test_a_session_of_which_nothing_is_kept_is_not_found(own_store: Path) -> None:
    crowd(own_store)
    with pytest.raises(SessionNotFound):
        load_session("f" * 32)
    assert isinstance(load_session("0" * 32).session, SessionSummary)
