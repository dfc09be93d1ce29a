"""The fold: what each event does to the document, and what it never does."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.events import to_json
from pyjama_instrument.fold.document import cleared_document, new_document, repaired
from pyjama_instrument.fold.fold import Fold
from pyjama_instrument.fold.limits import LIMITS, OTHER
from pyjama_instrument.testing import events
from tests.stores import (
    AGENT,
    SESSION,
    START_US,
    Record,
    a_call,
    call_begins,
    session_begins,
    session_ends,
    step_begins,
    step_ends,
)

W, W2 = "000000000000000a", "000000000000000b"
START_MS = START_US // 1000


def folded(*records: Record, document: Record | None = None, writer: str = W) -> Record:
    fold = Fold(new_document() if document is None else document)
    fold.add(writer, records)
    fold.finish()
    return fold.document


def died(document: Record, *writers: str) -> Record:
    fold = Fold(document)
    fold.writers_died(set(writers))
    fold.finish()
    return fold.document


def session_of(document: Record, sid: str = SESSION) -> Any:
    return document["sessions"][sid]


# -- tool calls


@pytest.mark.parametrize(
    ("status", "counted_as"), [("ok", "success"), ("error", "error"), ("cancelled", "cancelled"), ("odd", "cancelled")]
)
def test_a_call_is_counted_once_by_its_outcome_everywhere(status: str, counted_as: str) -> None:
    document = folded(a_call("search", status=status, duration_ns=2_500_000))
    for counts in (document["global"], document["tools"]["search"], document["agents"][AGENT]["calls"]):
        assert {key: counts[key] for key in ("count", "success", "error", "cancelled", "total-duration")} == {
            "count": 1, "success": 0, "error": 0, "cancelled": 0, "total-duration": 2.5,
        } | {counted_as: 1}  # fmt: skip


def test_a_call_counts_in_its_session() -> None:
    session = session_of(folded(a_call(), a_call(status="error")))
    assert (session["calls"], session["errors"], session["total-duration"]) == (2, 1, 4.0)


def test_agent_runs_are_counted_apart_from_tool_calls() -> None:
    document = folded(session_begins(), session_ends())
    assert document["global"]["count"] == document["agents"][AGENT]["calls"]["count"] == 0
    assert document["agents"][AGENT]["runs"]["count"] == 1


def test_a_tool_remembers_how_it_failed_last() -> None:
    errors = [{"type": "E", "message": text} for text in ("first", "last")]
    document = folded(*[a_call("search", status="error", error=error) for error in errors], a_call("search"))
    assert document["tools"]["search"]["last-error"] == {"type": "E", "message": "last"}


def test_durations_are_kept_as_a_histogram_not_as_a_list() -> None:
    document = folded(*[a_call("search", duration_ns=1024) for _ in range(1000)])
    assert document["tools"]["search"]["latency"] == {"scale": 3, "unit": "ns", "buckets": {"79": 1000}}


def test_calls_are_counted_by_the_second_they_ended_in() -> None:
    document = folded(a_call(ts=5_900_000), a_call(ts=5_000_000), a_call(ts=6_000_000))
    assert document["rate"] == {"5": 2, "6": 1}


def test_what_has_begun_and_not_ended_is_in_flight() -> None:
    begun = call_begins("download")
    document = folded(session_begins(), begun)
    assert session_of(document)["in-flight"] == {
        begun["span"]: {"tool": "download", "start-time": START_MS, "writer": W}
    }
    folded(begun | {"kind": "tool.ended", "status": "ok", "duration_ns": 1}, document=document)
    assert session_of(document)["in-flight"] == {}


# -- sessions


def test_a_session_runs_until_it_ends() -> None:
    document = folded(session_begins(tags={"k": 1}))
    session = session_of(document)
    assert (session["status"], session["start-time"], session["end-time"]) == ("running", START_MS, None)
    assert session["tags"] == {"k": 1}
    folded(session_ends(ts=START_US + 5_000_000), document=document)
    assert (session["status"], session["end-time"]) == ("completed", START_MS + 5000)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_session_ends_as_it_says(status: str) -> None:
    document = folded(session_begins(), session_ends(status=status))
    assert session_of(document)["status"] == status
    assert document["agents"][AGENT]["runs"] == dict.fromkeys(
        ("count", "running", "completed", "failed", "cancelled", "crashed", "ended"), 0
    ) | {"count": 1, status: 1}


def test_two_runs_of_an_agent_are_counted_apart() -> None:
    document = folded(
        session_begins("a" * 32), session_begins("b" * 32), a_call(session="a" * 32), session_ends("a" * 32)
    )
    assert session_of(document, "a" * 32)["calls"] == 1
    assert session_of(document, "b" * 32)["calls"] == 0
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs["running"], runs["completed"]) == (2, 1, 1)


def test_an_agent_shows_its_latest_run_a_running_one_first() -> None:
    document = folded(
        session_begins("a" * 32, ts=1_000_000),
        session_begins("b" * 32, ts=2_000_000),
        session_begins("c" * 32, ts=3_000_000),
        session_ends("c" * 32, ts=4_000_000),
    )
    assert document["agents"][AGENT]["session"] == "b" * 32
    assert document["agents"][AGENT]["status"] == "running"


def test_an_agent_keeps_the_latest_spec_it_was_given() -> None:
    document = folded(session_begins(spec={"v": 1}), session_begins("b" * 32, spec={"v": 2}), session_begins("c" * 32))
    assert document["specs"] == {AGENT: {"v": 2}}


def test_events_may_come_before_the_session_s_start_when_another_process_is_folded_first() -> None:
    document = folded(a_call(), writer=W2)
    folded(session_begins(), document=document)
    assert (session_of(document)["calls"], session_of(document)["writer"]) == (1, W)
    assert document["agents"][AGENT]["runs"]["count"] == 1


def test_attributes_of_one_name_replace_each_other() -> None:
    notes = [{"tokens": 1, "model": "m"}, {"tokens": 2}]
    annotated = [a_call() | {"kind": "annotated", "attributes": note} for note in notes]
    assert session_of(folded(*annotated))["attributes"] == {"tokens": 2, "model": "m"}


def test_an_activity_is_a_line_in_the_log_and_no_call() -> None:
    activity = {"kind": "activity", "agent": AGENT, "session": SESSION, "ts": START_US, "status": "ok", "tool": "t"}
    document = folded(activity)
    assert document["recent-logs"] == [{"timestamp": START_MS, "agent-id": AGENT, "tool": "t", "status": "ok"}]
    assert document["global"]["count"] == 0


def test_the_log_is_in_the_order_of_time_over_all_writers() -> None:
    fold = Fold(new_document())
    fold.add(W, [a_call("first", ts=1_000_000), a_call("third", ts=3_000_000)])
    fold.add(W2, [a_call("second", ts=2_000_000)])
    fold.finish()
    assert [entry["tool"] for entry in fold.document["recent-logs"]] == ["first", "second", "third"]


# -- steps


def test_a_step_runs_until_it_ends_and_is_the_current_one_meanwhile() -> None:
    document = folded(session_begins(), step_begins("discover", "1" * 16))
    session = session_of(document)
    assert session["current-step"] == "discover"
    assert [(step["step-id"], step["status"]) for step in session["steps"]] == [("discover", "running")]
    folded(step_ends("discover", "1" * 16, ts=START_US + 1000), document=document)
    assert (session["current-step"], session["steps"][0]["status"]) == (None, "ok")
    assert session["steps"][0]["end-time"] == START_MS + 1


def test_after_an_inner_step_the_outer_one_is_current_again() -> None:
    document = folded(
        session_begins(),
        step_begins("outer", "1" * 16),
        step_begins("inner", "2" * 16),
        step_ends("inner", "2" * 16),
    )
    assert session_of(document)["current-step"] == "outer"


def test_the_declared_workflow_is_shown_with_its_length() -> None:
    declared = session_begins() | {"kind": "workflow.declared", "steps": ["a", "b"]}
    document = folded(session_begins(), declared)
    assert document["agents"][AGENT]["workflow"] == {"total-steps": 2, "steps": ["a", "b"]}


def test_steps_that_are_open_when_the_session_ends_end_as_cancelled() -> None:
    document = folded(session_begins(), step_begins("discover", "1" * 16), session_ends())
    assert session_of(document)["steps"][0]["status"] == "cancelled"


# -- death


def test_the_sessions_of_a_dead_writer_crashed_and_say_what_was_in_flight() -> None:
    document = folded(session_begins(), step_begins("fetch", "1" * 16), call_begins("download", ts=START_US + 2_000))
    died(document, W)
    session = session_of(document)
    assert (session["status"], session["end-time"]) == ("crashed", START_MS + 2)
    assert [call["tool"] for call in session["interrupted"]] == ["download"]
    assert (session["in-flight"], session["current-step"]) == ({}, None)
    assert session["steps"][0]["status"] == "crashed"
    runs = document["agents"][AGENT]["runs"]
    assert (runs["crashed"], runs["running"]) == (1, 0)
    assert document["recent-logs"][-1] == {
        "timestamp": START_MS + 2, "agent-id": AGENT, "tool": "download", "status": "crashed",
    }  # fmt: skip


def test_a_death_is_told_once() -> None:
    document = folded(session_begins())
    before = copy.deepcopy(died(document, W))
    assert died(document, W) == before


def test_a_session_that_ended_before_its_writer_died_did_not_crash() -> None:
    assert session_of(died(folded(session_begins(), session_ends()), W))["status"] == "completed"


def test_the_death_of_another_writer_is_no_concern() -> None:
    assert session_of(died(folded(session_begins()), W2))["status"] == "running"


def test_a_session_is_dead_with_the_writer_that_began_it_though_children_live() -> None:
    document = folded(session_begins())
    folded(call_begins("download"), document=document, writer=W2)
    died(document, W)
    assert session_of(document)["status"] == "crashed"


def test_an_idle_worker_of_a_pool_that_is_terminated_has_ended() -> None:
    document = folded(session_begins(implicit=True, worker=True), a_call())
    assert session_of(died(document, W))["status"] == "ended"


def test_an_ended_worker_that_records_on_was_not_gone() -> None:
    document = folded(session_begins(implicit=True, worker=True), a_call())
    folded(a_call(), document=died(document, W))
    assert session_of(document)["status"] == "running"
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs["running"], runs["ended"], runs["crashed"]) == (1, 1, 0, 0)


def test_a_worker_of_a_pool_that_is_killed_in_a_call_crashed() -> None:
    document = folded(session_begins(implicit=True, worker=True), call_begins("download"))
    assert session_of(died(document, W))["status"] == "crashed"


def test_a_session_known_only_from_its_calls_completes_with_the_process_it_was_seen_from() -> None:
    assert session_of(died(folded(a_call()), W))["status"] == "completed"


def test_a_writer_that_was_thought_dead_goes_on_where_it_was_with_its_next_event() -> None:
    begun = [session_begins(), step_begins("fetch", "1" * 16), call_begins("download"), call_begins("parse", span="b1")]
    document = died(folded(*begun), W)
    assert document["agents"][AGENT]["runs"]["crashed"] == 1
    folded(a_call(span="b1"), document=document)
    session = session_of(document)
    assert (session["status"], session["end-time"], session["current-step"]) == ("running", None, "fetch")
    assert [step["status"] for step in session["steps"]] == ["running"]
    assert [call["tool"] for call in session["in-flight"].values()] == ["download"]
    assert session["interrupted"] == []
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs["running"], runs["crashed"]) == (1, 1, 0)


def test_a_writer_that_was_thought_dead_ends_its_session_as_it_says() -> None:
    document = died(folded(session_begins()), W)
    folded(session_ends(), document=document)
    assert session_of(document)["status"] == "completed"
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs["completed"], runs["crashed"]) == (1, 1, 0)


def test_another_writer_s_event_brings_no_crashed_session_back() -> None:
    document = died(folded(session_begins()), W)
    folded(a_call(), document=document, writer="f" * 16)
    assert session_of(document)["status"] == "crashed"


def test_a_writer_that_is_found_alive_takes_its_crashed_sessions_up_again() -> None:
    document = died(folded(session_begins(), call_begins("download")), W)
    fold = Fold(document)
    fold.writers_live({W})
    fold.finish()
    assert session_of(document)["status"] == "running"
    assert [call["tool"] for call in session_of(document)["in-flight"].values()] == ["download"]


def test_a_writer_whose_journal_was_removed_comes_back_to_life_when_it_begins_another() -> None:
    begun = [session_begins(), step_begins("fetch", "1" * 16), call_begins("download")]
    document = died(folded(*begun), W)
    folded(*begun, document=document)
    session = session_of(document)
    assert (session["status"], session["end-time"], session["current-step"]) == ("running", None, "fetch")
    assert [step["status"] for step in session["steps"]] == ["running"]
    assert [call["tool"] for call in session["in-flight"].values()] == ["download"]
    assert session["interrupted"] == []
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs["crashed"], runs["running"]) == (1, 0, 1)


def test_a_session_told_again_counts_once() -> None:
    document = folded(session_begins(), step_begins("fetch", "1" * 16))
    folded(session_begins(), step_begins("fetch", "1" * 16), document=document)
    assert document["agents"][AGENT]["runs"]["count"] == 1
    assert len(session_of(document)["steps"]) == 1


def test_a_step_that_has_ended_is_not_begun_again_by_being_told_late() -> None:
    document = folded(session_begins(), step_begins("fetch", "1" * 16), step_ends("fetch", "1" * 16))
    folded(step_begins("fetch", "1" * 16), document=document)
    assert session_of(document)["steps"][0]["status"] == "ok"


# -- limits


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.setitem(LIMITS, name, 3)


@pytest.mark.usefixtures("small_limits")
def test_tools_beyond_the_limit_are_counted_together_and_the_total_is_exact() -> None:
    document = folded(*[a_call(f"tool-{number}") for number in range(10)])
    assert sorted(document["tools"]) == [OTHER, "tool-0", "tool-1", "tool-2"]
    assert (document["tools"][OTHER]["count"], document["global"]["count"]) == (7, 10)
    assert document["health"]["overflow"] == {"tools": 7}


@pytest.mark.usefixtures("small_limits")
def test_agents_beyond_the_limit_are_counted_together() -> None:
    document = folded(*[session_begins(f"{number:032x}", agent=f"agent-{number}") for number in range(5)])
    assert sorted(document["agents"]) == [OTHER, "agent-0", "agent-1", "agent-2"]
    assert document["agents"][OTHER]["runs"]["count"] == 2
    assert document["health"]["overflow"] == {"agents": 2}


@pytest.mark.usefixtures("small_limits")
def test_only_the_latest_ended_sessions_are_listed_and_the_running_ones_heard_of_last() -> None:
    running = [session_begins(f"{number:032x}", ts=START_US - number * 1000) for number in range(4)]
    ended = [
        record
        for number in range(10, 20)
        for record in (session_begins(f"{number:032x}"), session_ends(f"{number:032x}", ts=START_US + number * 1000))
    ]
    document = folded(*running, *ended)
    assert sorted(document["sessions"]) == [f"{number:032x}" for number in (0, 1, 2, 17, 18, 19)]
    assert document["agents"][AGENT]["runs"]["count"] == 14


def many_runs(count: int, kind: Any, **more: Any) -> list[Record]:
    return [kind(f"{number:032x}", ts=START_US + number * 1000, **more) for number in range(count)]


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_running_sessions_that_are_not_listed_count_as_they_end(status: str) -> None:
    document = folded(*many_runs(10, session_begins))
    assert len(document["sessions"]) == 3
    assert document["agents"][AGENT]["runs"]["running"] == 10
    folded(*many_runs(10, session_ends, status=status), document=document)
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs[status], runs["running"]) == (10, 10, 0)
    assert document["unlisted"] == {}


@pytest.mark.usefixtures("small_limits")
def test_running_sessions_that_are_not_listed_crash_with_their_writer() -> None:
    document = folded(*many_runs(10, session_begins))
    died(document, W)
    runs = document["agents"][AGENT]["runs"]
    assert (runs["count"], runs["crashed"], runs["running"], document["unlisted"]) == (10, 10, 0, {})


@pytest.mark.usefixtures("small_limits")
def test_a_session_that_was_not_listed_is_listed_again_when_heard_of_and_counts_once() -> None:
    document = folded(*many_runs(5, session_begins))
    first = f"{0:032x}"
    assert first in document["unlisted"]
    folded(session_begins(first), a_call(session=first, ts=later(1)), document=document)
    assert session_of(document, first)["writer"] == W
    assert document["agents"][AGENT]["runs"]["count"] == 5
    assert len(document["sessions"]) == 3
    assert document["agents"][AGENT]["status"] == "running"


@pytest.mark.usefixtures("small_limits")
def test_sessions_that_are_not_listed_are_carried_over_a_clear() -> None:
    cleared = cleared_document(folded(*many_runs(5, session_begins)))
    assert (cleared["agents"][AGENT]["runs"]["count"], cleared["agents"][AGENT]["runs"]["running"]) == (5, 5)
    folded(*many_runs(5, session_ends), document=cleared)
    assert cleared["agents"][AGENT]["runs"]["completed"] == 5


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(("calls", "counted_as"), [(0, "ended"), (1, "crashed")])
def test_a_worker_that_was_not_listed_ends_as_one_that_was(calls: int, counted_as: str) -> None:
    worker = session_begins("f" * 32, agent="worker", ts=START_US - 1000, implicit=True, worker=True)
    in_flight = [call_begins(session="f" * 32, agent="worker", ts=START_US - 1000)] * calls
    document = folded(worker, *in_flight)
    folded(*many_runs(5, session_begins), document=document, writer=W2)
    assert "f" * 32 in document["unlisted"]
    died(document, W)
    assert document["agents"]["worker"]["runs"][counted_as] == 1


@pytest.mark.usefixtures("small_limits")
def test_sessions_whose_start_was_never_seen_and_that_are_too_many_do_not_run_for_ever() -> None:
    document = folded(a_call(session="f" * 32, agent="late", ts=START_US - 1000), *many_runs(5, session_begins))
    assert (document["agents"]["late"]["runs"]["running"], document["agents"]["late"]["status"]) == (0, "completed")
    assert document["agents"][AGENT]["runs"]["running"] == 5


def test_a_quiet_session_ends_with_its_writer_as_one_that_was_not_quiet() -> None:
    records = [step_begins("s", "5" * 16, session="f" * 32), a_call(ts=later(60))]
    at_once = died(folded(*records), W)
    document = folded(records[0])
    for record in records[1:]:
        folded(record, document=document)
    assert session_of(document, "f" * 32)["status"] == "completed"
    died(document, W)
    assert session_of(document, "f" * 32) == session_of(at_once, "f" * 32)
    (step,) = session_of(document, "f" * 32)["steps"]
    assert (step["status"], session_of(document, "f" * 32)["current-step"]) == ("ok", None)


def later(minutes: float) -> int:
    return START_US + round(minutes * 60e6)


def test_a_session_whose_start_was_never_seen_runs_as_long_as_it_is_heard_of() -> None:
    late = a_call(session="f" * 32, agent="late")
    document = folded(late, session_begins(), a_call(ts=later(4)))
    assert document["agents"]["late"]["status"] == "running"
    folded(a_call(ts=later(6)), document=document)
    assert document["agents"]["late"]["status"] == "completed"
    assert document["agents"]["late"]["runs"]["running"] == 0
    assert session_of(document, "f" * 32)["end-time"] == START_MS
    assert session_of(document)["status"] == "running"
    folded(late | {"ts": later(7)}, document=document)
    assert (session_of(document, "f" * 32)["status"], document["agents"]["late"]["status"]) == ("running", "running")


def test_a_session_whose_start_was_never_seen_is_not_taken_for_ended_during_a_call() -> None:
    document = folded(call_begins(session="f" * 32), session_begins(), a_call(ts=later(60)))
    assert session_of(document, "f" * 32)["status"] == "running"


def test_a_session_that_was_quiet_counts_as_one_run_once_its_start_is_seen() -> None:
    document = folded(a_call(), a_call(session="f" * 32, ts=later(60)))
    assert session_of(document)["status"] == "completed"
    folded(session_begins(), document=document)
    assert document["agents"][AGENT]["runs"]["count"] == 1
    assert session_of(document)["status"] == "running"
    folded(session_ends(), document=document)
    assert document["agents"][AGENT]["runs"]["completed"] == 1


def test_a_session_that_ended_unseen_stays_ended_whatever_comes_later() -> None:
    document = folded(session_ends(status="failed"), a_call(ts=later(60)))
    assert session_of(document)["status"] == "failed"


@pytest.mark.usefixtures("small_limits")
def test_an_agent_is_known_by_its_last_run_although_that_is_forgotten() -> None:
    ended = [
        record
        for number in range(3)
        for record in (session_begins(f"{number:032x}"), session_ends(f"{number:032x}", ts=START_US + 9_000_000))
    ]
    document = folded(session_begins("f" * 32, agent="early"), session_ends("f" * 32, agent="early"), *ended)
    assert "f" * 32 not in document["sessions"]
    assert document["agents"]["early"]["status"] == "completed"


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("key", ["steps", "in-flight", "attributes"])
def test_lists_of_a_session_are_bounded(key: str) -> None:
    records = {
        "steps": [step_ends(f"s{number}", f"{number:016x}") for number in range(9)],
        "in-flight": [call_begins() for _ in range(9)],
        "attributes": [a_call() | {"kind": "annotated", "attributes": {f"k{number}": 1}} for number in range(9)],
    }
    assert len(session_of(folded(*records[key]))[key]) == 3


@pytest.mark.usefixtures("small_limits")
def test_the_log_and_the_rate_are_bounded_and_keep_the_newest() -> None:
    document = folded(*[a_call(ts=second * 1_000_000) for second in range(9)])
    assert [entry["timestamp"] for entry in document["recent-logs"]] == [6000, 7000, 8000]
    assert document["rate"] == {"6": 1, "7": 1, "8": 1}


# -- damage


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "tool.ended"},
        a_call() | {"duration_ns": -1},
        a_call() | {"duration_ns": "7"},
        a_call() | {"duration_ns": 10**400},
        a_call() | {"duration_ns": True},
        a_call() | {"ts": None},
        a_call() | {"ts": 1.5},
        a_call() | {"tool": 7},
        a_call() | {"session": None},
        a_call() | {"agent": ["x"]},
        a_call() | {"status": None},
        call_begins() | {"span": None},
        session_begins() | {"agent": None},
        session_ends() | {"status": 5},
        {"kind": "workflow.declared", "ts": 1, "agent": "a", "session": "s"},
        {"kind": "annotated", "ts": 1, "agent": "a", "session": "s", "attributes": None},
        step_ends("a", "1" * 16) | {"duration_ns": None},
        {"kind": ["a", "list"]},
        {"kind": "writer.dropped", "ts": 1, "reason": "x", "count": "many"},
        {"kind": "writer.opened", "ts": 1, "pid": "x", "host": "h"},
    ],
)
def test_a_damaged_event_changes_nothing_but_the_count_of_damage(event: Record) -> None:
    assert folded(event) == folded() | {"health": {"torn": 1}}


@pytest.mark.parametrize("event", [{"kind": "from.the.future", "x": 1}, {"kind": None}, {"no": "kind"}, {}])
def test_an_unknown_kind_is_passed_over(event: Record) -> None:
    assert folded(event) == folded()


def test_dropped_events_are_summed_by_reason() -> None:
    dropped = [{"kind": "writer.dropped", "ts": 1, "count": count, "reason": "ENOSPC"} for count in (2, 3)]
    assert folded(*dropped)["health"]["dropped"] == {"ENOSPC": 5}


# -- laws

RECORDS = st.lists(
    st.tuples(st.sampled_from([W, W2]), events().map(lambda event: json.loads(to_json(event)))), max_size=30
)


def in_portions(records: list[tuple[str, Record]], cuts: set[int]) -> Record:
    document = new_document()
    fold = Fold(document)
    for number, (writer, record) in enumerate(records):
        fold.add(writer, [copy.deepcopy(record)])
        if number in cuts:
            fold.finish()
            fold = Fold(json.loads(json.dumps(fold.document)))
    fold.finish()
    document = fold.document
    document["recent-logs"].sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]  # json gives Any


@given(RECORDS, st.sets(st.integers(0, 29)))
def test_folding_in_portions_equals_folding_in_one_go(records: list[tuple[str, Record]], cuts: set[int]) -> None:
    assert in_portions(records, cuts) == in_portions(records, set())


@given(RECORDS)
def test_whatever_is_folded_can_be_stored_and_shown(records: list[tuple[str, Record]]) -> None:
    from pyjama_instrument.reader.dashboard_data import DashboardBuilder

    shown = DashboardBuilder().dashboard(in_portions(records, set()), [])
    assert not [note for note in shown.health.notes if "not shown" in note]
    shown.to_json()


@given(RECORDS)
def test_every_call_is_counted_exactly_once(records: list[tuple[str, Record]]) -> None:
    calls = sum(record["kind"] == "tool.ended" for _, record in records)
    document = in_portions(records, set())
    assert document["global"]["count"] == calls
    assert sum(tool["count"] for tool in document["tools"].values()) == calls
    assert sum(agent.get("calls", {"count": 0})["count"] for agent in document["agents"].values()) == calls


def test_a_sound_document_needs_no_repair() -> None:
    document = folded(session_begins(), step_begins("a", "1" * 16), a_call(), call_begins())
    assert repaired(copy.deepcopy(document)) == document


# -- clearing


def test_what_runs_is_carried_over_with_its_counters_at_zero() -> None:
    document = folded(
        session_begins("a" * 32, spec={"v": 1}), step_begins("fetch", "1" * 16, "a" * 32), a_call(session="a" * 32),
        session_begins("b" * 32), session_ends("b" * 32),
    )  # fmt: skip
    fresh = cleared_document(document)
    assert list(fresh["sessions"]) == ["a" * 32]
    session = session_of(fresh, "a" * 32)
    assert (session["calls"], session["total-duration"], session["current-step"]) == (0, 0.0, "fetch")
    assert fresh["agents"][AGENT]["runs"]["count"] == 1
    assert fresh["agents"][AGENT]["calls"]["count"] == 0
    assert fresh["specs"] == {AGENT: {"v": 1}}
    assert (fresh["tools"], fresh["recent-logs"]) == ({}, [])


def test_what_somebody_else_put_in_place_of_a_cleared_document_stays() -> None:
    fresh = cleared_document(folded(session_begins()), {"global": {"count": 5}, "note": "mine"})
    assert (fresh["global"]["count"], fresh["note"]) == (5, "mine")
    assert session_of(fresh)["status"] == "running"


def test_a_run_whose_start_comes_after_a_clear_is_counted_once() -> None:
    fresh = cleared_document(folded(a_call(), writer=W2))
    folded(session_begins(), document=fresh)
    assert fresh["agents"][AGENT]["runs"]["count"] == 1
