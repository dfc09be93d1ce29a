"""From a session's events to the tree of its spans."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.document import SessionSummary, SessionTree, Span
from pyjama_instrument.reader.span_tree import build_tree
from tests.stores import (
    ROOT_SPAN,
    SESSION,
    START_US,
    Record,
    a_call,
    call_begins,
    session_begins,
    session_ends,
    step_begins,
)


def tree(*records: Record, status: str = "running", limit: int = 1000, **summary: Any) -> SessionTree:
    session = SessionSummary.model_validate({"agent-id": "researcher", "status": status} | summary)
    return build_tree(SESSION, session, [("a" * 16, record) for record in records], [], limit=limit)


def outline(span: Span) -> Any:
    return {f"{child.name} {child.status}": outline(child) for child in span.children}


def test_calls_hang_from_the_span_they_were_made_in() -> None:
    outer, inner = call_begins("outer", span="1" * 16), call_begins("inner", span="2" * 16, parent="1" * 16)
    built = tree(session_begins(), outer, inner)
    assert built.root.kind == "session"
    assert outline(built.root) == {"outer running": {"inner running": {}}}


def test_a_spec_that_is_none_is_left_out() -> None:
    assert tree(session_begins(spec={"model": "m"})).spec == {"model": "m"}
    assert tree(session_begins(spec="m")).spec is None
    assert tree(a_call()).spec is None


def test_steps_and_calls_are_told_apart() -> None:
    built = tree(session_begins(), step_begins("fetch", "1" * 16), a_call("get", parent="1" * 16))
    (step,) = built.root.children
    assert (step.kind, step.name, step.children[0].kind) == ("step", "fetch", "tool")


def test_a_call_that_ended_has_its_duration_and_one_that_did_not_has_none() -> None:
    built = tree(session_begins(), a_call("done", duration_ns=3_000_000), call_begins("open"))
    assert {span.name: span.duration_ms for span in built.root.children} == {"done": 3.0, "open": None}


def test_a_call_whose_start_was_not_written_began_its_duration_before_its_end() -> None:
    (call,) = tree(session_begins(), a_call(ts=START_US + 5_000, duration_ns=2_000_000)).root.children
    assert call.start_us == START_US + 3_000


def test_children_are_in_the_order_in_which_they_began() -> None:
    records = [call_begins(name, ts=START_US + at) for name, at in (("c", 3), ("a", 1), ("b", 2))]
    assert [span.name for span in tree(session_begins(), *records).root.children] == ["a", "b", "c"]


def test_what_a_call_was_asked_to_capture_is_shown() -> None:
    error = {"type": "ValueError", "message": "bad", "traceback": ["f.py:1 in f"]}
    record = a_call(status="error", arguments={"q": 1}, result=[2], items=3, first_item_ns=500_000, error=error)
    (call,) = tree(session_begins(), record).root.children
    assert (call.arguments, call.result, call.items, call.first_item_ms) == ({"q": 1}, [2], 3, 0.5)
    assert call.error == error


def test_an_ended_session_s_root_has_its_status_and_duration() -> None:
    built = tree(session_begins(), session_ends(duration_ns=7_000_000), status="completed")
    assert (built.root.status, built.root.duration_ms) == ("completed", 7.0)


def test_all_that_was_open_in_a_crashed_session_crashed() -> None:
    records = [step_begins("fetch", "1" * 16), call_begins("get", span="2" * 16, parent="1" * 16), a_call("done")]
    built = tree(session_begins(), *records, status="crashed")
    assert outline(built.root) == {"fetch crashed": {"get crashed": {}}, "done ok": {}}


def test_a_call_cut_off_in_another_process_crashed_though_the_session_runs() -> None:
    records = [call_begins("lost", span="1" * 16), call_begins("open", span="2" * 16)]
    interrupted = [{"tool": "lost", "span": "1" * 16, "start-time": 0}]
    built = tree(session_begins(), *records, interrupted=interrupted)
    assert outline(built.root) == {"lost crashed": {}, "open running": {}}


def test_a_span_whose_parent_is_not_there_is_shown_at_the_top() -> None:
    assert outline(tree(session_begins(), a_call("orphan", parent="9" * 16)).root) == {"orphan ok": {}}


def test_a_session_whose_start_is_gone_still_has_a_tree() -> None:
    built = tree(a_call("search"))
    assert (built.root.kind, built.root.name) == ("session", "researcher")
    assert outline(built.root) == {"search ok": {}}


def test_a_start_told_twice_is_one_span() -> None:
    begun = call_begins("search")
    assert len(tree(session_begins(), begun, session_begins(), begun).root.children) == 1


def test_spans_beyond_the_limit_are_counted() -> None:
    built = tree(session_begins(), *[a_call() for _ in range(9)], limit=4)
    assert (len(built.root.children), built.truncated) == (3, 6)


def test_a_damaged_record_takes_no_other_with_it() -> None:
    damaged = [a_call() | change for change in ({"span": ["x"]}, {"ts": "x"}, {"duration_ns": None})]
    assert "good ok" in outline(tree(session_begins(), *damaged, a_call("good")).root)


def test_a_recursion_deeper_than_json_goes_can_be_shown() -> None:
    calls = [a_call(span=f"{n:016x}", parent=f"{n - 1:016x}", ts=START_US + n) for n in range(2, 1500)]
    built = tree(session_begins(), *calls, limit=2000)
    assert SessionTree.model_validate_json(built.to_json()).root.span == ROOT_SPAN
    assert built.to_json().count('"kind"') == 1 + len(calls)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20))
def test_any_parents_make_a_tree(edges: list[tuple[int, int]]) -> None:
    calls = [a_call(span=f"{span:016x}", parent=f"{parent:016x}") for span, parent in edges]
    tree(session_begins(), *calls).to_json()
