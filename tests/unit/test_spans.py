"""The rows of a session's waterfall, what of them is sent, and one span in full."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.document import Failure, SessionSummary, SessionTree, Span
from pyjama_instrument.reader.span_tree import build_tree
from pyjama_instrument.viewer.spans import ROW, SpanTable, child_run_spans, span_details
from tests.stores import SESSION, START_US, a_call, session_begins
from tests.viewer.fakes import HOSTILE, NOW, run_of, session_id, tree_of

BEGIN = (NOW - 60_000) * 1000  # when the runs of the fakes begin


def call(name: str, span: str, after: int = 0, took: float | None = 1.0, **more: Any) -> Span:
    """A call that began so many µs after the session, and took so many ms."""
    status = "running" if took is None else "ok"
    return Span(**{"name": name, "span": span, "status": status, "start_us": BEGIN + after, "duration_ms": took} | more)


def rows(tree: SessionTree) -> list[dict[str, Any]]:
    table = SpanTable("t")
    assert table.update(tree)
    return [dict(zip(ROW, row, strict=True)) for row in table.rows]


def test_the_session_is_the_first_row_and_the_others_hang_from_it() -> None:
    tree = tree_of(1, run_of("me"), call("outer", "a", children=[call("inner", "b", 5)]), call("later", "c", 90))
    assert [(row["at"], row["parent"], row["name"]) for row in rows(tree)] == [
        (0, -1, "me"), (1, 0, "outer"), (2, 1, "inner"), (3, 0, "later"),
    ]  # fmt: skip


def test_times_are_microseconds_after_the_beginning() -> None:
    (_, row) = rows(tree_of(1, run_of(), call("t", "a", 500, 2.5)))
    assert (row["start"], row["end"], row["took"]) == (500, 3000, "2.5 ms")


def test_what_goes_on_has_no_end() -> None:
    (root, row) = rows(tree_of(1, run_of(), call("t", "a", 500, None)))
    assert (root["end"], row["end"], row["took"], row["status"], row["tone"]) == (None, None, "", "running", "live")


def test_what_a_crash_cut_off_ends_with_its_run_and_nobody_knows_how_long_it_took() -> None:
    run = run_of(status="crashed")
    (_, row) = rows(tree_of(1, run, call("t", "a", 500, None, status="crashed")))
    assert (row["end"], row["took"], row["tone"]) == (60_000_000 - 10_000, "", "dead")


def test_an_error_is_told_in_short() -> None:
    error = {"type": "builtins.OSError", "message": "gone " * 100}
    (_, row) = rows(tree_of(1, run_of(), call("t", "a", status="error", error=error)))
    assert row["error"].startswith("OSError: gone gone")
    assert len(row["error"]) == 160


def test_a_session_whose_start_is_gone_begins_with_its_first_span() -> None:
    tree = tree_of(1, run_of(start_time=None), call("t", "a", 7))
    assert [row["start"] for row in rows(tree)][1] == 0


def test_rows_hang_from_the_span_they_name_however_deep() -> None:
    deep = [a_call(span=f"{n:016x}", parent=f"{n - 1:016x}", ts=START_US + 9_000 + n) for n in range(2, 500)]
    records = [("w", record) for record in [session_begins(), *deep]]
    shown = rows(build_tree(SESSION, SessionSummary(), records, [], limit=1000))
    assert [row["parent"] for row in shown] == list(range(-1, 498))


def test_calls_nested_thousands_deep_are_rows() -> None:
    span = call("leaf", "leaf")
    for n in range(3000):
        span = call("recurse", str(n), children=[span])
    assert len(rows(tree_of(1, run_of(), span))) == 3002


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_without_a_version_is_sent_everything() -> None:
    table = SpanTable("t")
    table.update(tree_of(1, run_of(), call("a", "a")))
    version, full, sent = table.changes_since("")
    assert (full, len(sent)) == (True, 2)
    assert table.changes_since(version) == (version, False, [])


def test_only_rows_that_are_new_or_have_changed_are_sent() -> None:
    table = SpanTable("t")
    table.update(tree_of(1, run_of(), call("a", "a", 1), call("b", "b", 2, None)))
    version, _, _ = table.changes_since("")
    assert table.update(tree_of(1, run_of(), call("a", "a", 1), call("b", "b", 2), call("c", "c", 3)))
    _, full, sent = table.changes_since(version)
    assert (full, [row[3] for row in sent]) == (False, ["b", "c"])


def test_a_row_keeps_its_place_when_an_earlier_span_is_learnt_of_later() -> None:
    table = SpanTable("t")
    table.update(tree_of(1, run_of(), call("inner", "b", 5)))
    assert table.update(tree_of(1, run_of(), call("outer", "a", 1, children=[call("inner", "b", 5)])))
    _, _, sent = table.changes_since("t.1")
    assert [row[:4] for row in sent] == [[1, 2, "b", "inner"], [2, 0, "a", "outer"]]


@pytest.mark.parametrize("version", ["u.1", "t", "t.", "t.x", "t.-1", "t.²", "t." + "9" * 5000, "\x00"])
def test_a_version_of_another_table_is_no_version_of_this(version: str) -> None:
    table = SpanTable("t")
    table.update(tree_of(1, run_of()))
    assert table.changes_since(version)[1:] == (True, table.rows)


def test_a_tree_that_lost_spans_needs_a_new_table() -> None:
    table = SpanTable("t")
    table.update(tree_of(1, run_of(), call("a", "a")))
    assert not table.update(tree_of(1, run_of()))


def test_a_tree_that_began_at_another_time_needs_a_new_table() -> None:
    table = SpanTable("t")
    table.update(tree_of(1, run_of()))
    assert not table.update(tree_of(1, run_of(start_time=NOW)))


# ── one span ────────────────────────────────────────────────────────────────────────────────────────────


def one(*spans: Span, key: str = "a") -> dict[str, Any]:
    shown = span_details(tree_of(1, run_of(), *spans), key)
    assert shown is not None
    return shown


def blocks(shown: dict[str, Any]) -> dict[str, str]:
    return {block["title"]: block["text"] for block in shown["blocks"] if block["title"] != "Span id"}


def facts(shown: dict[str, Any]) -> dict[str, str]:
    return {fact["name"]: fact["value"] for fact in shown["facts"] if "value" in fact}


def test_a_span_tells_its_times_and_what_it_hangs_from() -> None:
    shown = one(call("outer", "o", 1_000, 9.0, children=[call("t", "a", 2_000, 3.0)]))
    assert shown["facts"][-1] == {"key": "started", "name": "started", "at": (BEGIN + 2_000) // 1000}
    assert facts(shown) == {"kind": "tool call", "parent": "outer", "started at": "+2.0 ms", "took": "3.0 ms"}


def test_a_span_tells_its_error_with_the_traceback() -> None:
    error = {"type": "builtins.OSError", "message": "gone", "traceback": ["a.py:1 in f", "b.py:2 in g"]}
    shown = one(call("t", "a", status="error", error=error))
    assert shown["error"] == "OSError: gone"
    assert blocks(shown) == {"Traceback": "a.py:1 in f\nb.py:2 in g"}


def test_captured_values_are_indented_json() -> None:
    shown = one(call("t", "a", arguments={"path": "é"}, result=[1]))
    assert blocks(shown) == {"Arguments": '{\n  "path": "é"\n}', "Result": "[\n  1\n]"}


def test_a_generator_tells_its_items() -> None:
    shown = facts(one(call("t", "a", items=1200, first_item_ms=1.5)))
    assert (shown["items"], shown["first item after"]) == ("1,200", "1.5 ms")


def test_the_time_of_a_span_itself_leaves_out_its_children_once() -> None:
    overlapping = [call("x", "x", 1_000, 4.0), call("y", "y", 3_000, 4.0), call("z", "z", 9_000, None)]
    shown = facts(one(call("t", "a", 0, 10.0, children=overlapping)))
    assert (shown["self time"], shown["children"]) == ("3.0 ms", "3 spans")


def test_what_never_ended_says_so() -> None:
    shown = one(call("t", "a", took=None, status="crashed"))
    assert facts(shown)["took"] == "did not end"


def test_an_unknown_span_is_none() -> None:
    assert span_details(tree_of(1, run_of()), "f" * 16) is None


floats = st.none() | st.floats()
values = st.none() | st.floats() | st.sampled_from(HOSTILE) | st.dictionaries(st.sampled_from(HOSTILE), st.integers())
leaves = st.builds(
    Span, name=st.sampled_from(HOSTILE), span=st.sampled_from(["", "a", "b"]), parent=st.sampled_from(["a", "b"]),
    status=st.sampled_from(["ok", "running", "crashed", "error", "new", ""]), start_us=st.integers(-1, 2**60),
    duration_ms=floats, first_item_ms=floats, items=st.none() | st.integers(), result=values,
    error=st.none() | st.dictionaries(st.sampled_from(["type", "message", "traceback"]), values),
)  # fmt: skip


@given(st.recursive(leaves, lambda inner: st.builds(Span, name=st.just("n"), children=st.lists(inner, max_size=3))))
def test_any_span_gives_rows_and_details_that_json_can_carry(span: Span) -> None:
    tree = tree_of(1, run_of(), span)
    table = SpanTable("t")
    table.update(tree)
    for row in json.loads(json.dumps(table.rows, allow_nan=False)):
        assert -1 <= row[1] < len(table.rows)
        json.dumps(span_details(tree, row[2]), allow_nan=False)


# -- the sessions that were begun inside


def with_sessions_inside(*parents: str | None, **fields: Any) -> tuple[SessionTree, dict[str, SessionSummary]]:
    """A session with a call that lasts, and sessions that were begun in these spans."""
    tree = tree_of(1, run_of("outer"), call("delegate", "d" * 16, 100, None))
    runs = [run_of(f"inner-{n}", parent_span=parent, **fields) for n, parent in enumerate(parents)]
    tree.child_sessions = [session_id(10 + n) for n in range(len(runs))]
    return tree, dict(zip(tree.child_sessions, runs, strict=True))


def test_a_session_begun_inside_is_a_row_below_the_span_it_was_begun_in() -> None:
    tree, sessions = with_sessions_inside("d" * 16, None, "unknown", status="completed")
    table = SpanTable("t")
    assert table.update(tree, child_run_spans(tree, sessions))
    shown = [dict(zip(ROW, row, strict=True)) for row in table.rows]
    assert [(row["name"], row["kind"], row["parent"]) for row in shown] == [
        ("outer", "session", -1), ("delegate", "tool", 0),
        ("inner-0", "child", 1), ("inner-1", "child", 0), ("inner-2", "child", 0),
    ]  # fmt: skip
    assert (shown[2]["start"], shown[2]["end"], shown[2]["took"]) == (0, 59_990_000, "1 min 00 s")


@pytest.mark.parametrize(("status", "end"), [("running", None), ("crashed", 59_990_000), ("failed", 59_990_000)])
def test_a_session_inside_ends_when_it_ends(status: str, end: int | None) -> None:
    tree, sessions = with_sessions_inside(None, status=status)
    (span,) = child_run_spans(tree, sessions)
    table = SpanTable("t")
    table.update(tree, [span])
    assert dict(zip(ROW, table.rows[2], strict=True))["end"] == end


def test_a_session_inside_that_is_no_longer_known_is_no_row() -> None:
    tree, _ = with_sessions_inside(None)
    assert child_run_spans(tree, {}) == []


def test_a_session_inside_in_full_says_which_it_is() -> None:
    error = Failure(type="ValueError", message="no")
    tree, sessions = with_sessions_inside("d" * 16, status="failed", error=error)
    shown = span_details(tree, session_id(10), child_run_spans(tree, sessions))
    assert shown is not None
    assert (shown["name"], shown["session"], shown["error"]) == ("inner-0", session_id(10), "ValueError: no")
    facts = {fact["name"]: fact.get("value") for fact in shown["facts"]}
    assert (facts["kind"], facts["parent"]) == ("child run", "delegate")
    assert span_details(tree, session_id(10)) is None
