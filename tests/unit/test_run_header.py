"""The head of a session's page: what became of it, its figures and its relatives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from pyjama_instrument.document import Failure, SessionSummary, SessionTree, Span
from pyjama_instrument.viewer.run_header import MAX_RELATED_RUNS, run_header
from tests.unit.test_overview import runs
from tests.viewer.fakes import NOW, call_of, run_of, session_id, tree_of

ME, CHILD, GRANDCHILD, OTHER = (session_id(number) for number in range(1, 5))


def head(run: SessionSummary, *spans: Span, sessions: dict[str, SessionSummary] | None = None) -> dict[str, Any]:
    return run_header(tree_of(1, run, *spans), {ME: run} | (sessions or {}))


def crashed_span(name: str, span: str, *inside: Span, kind: str = "tool") -> Span:
    return Span(name=name, span=span, kind=kind, status="crashed", start_us=NOW * 1000 - 9, children=list(inside))


def tiles(shown: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {tile["name"]: (tile["value"], tile["note"]) for tile in shown["tiles"]}


def times(shown: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(part["text"], part["at"]) for part in shown["times"]]


def kin(shown: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    return {some["title"]: [(other["agent"], other["status"]) for other in some["rows"]] for some in shown["related"]}


# ── what became of it ───────────────────────────────────────────────────────────────────────────────────


def test_the_head_says_which_process_when_and_how_long() -> None:
    shown = head(run_of("me", "completed", pid=7, host="box"))
    assert times(shown) == [
        ("started", NOW - 60_000), ("ended", NOW - 10), ("took 1 min 00 s", None), ("pid 7 on box", None),
    ]  # fmt: skip
    assert shown["title"] == "me · completed · pyjama"


def test_what_goes_on_has_not_ended() -> None:
    shown = head(run_of())
    assert times(shown) == [("running for", NOW - 60_000)]
    assert shown["problem"] is None


def test_a_crash_names_the_innermost_tool_and_where_it_was_called() -> None:
    step = crashed_span("analyze", "s", crashed_span("outer", "o", crashed_span("inner", "i")), kind="step")
    shown = head(run_of(status="crashed", pid=7, host="box"), step)
    assert shown["problem"] == {
        "tone": "dead", "title": "Crashed in inner", "span": "i", "at": NOW - 10, "mode": "ago",
        "text": "Its process (pid 7 on box) died during this call (step analyze › outer).",
    }  # fmt: skip
    assert times(shown)[1:3] == [("last event", NOW - 10), ("took at least 1 min 00 s", None)]


def test_a_crash_during_parallel_calls_names_them_all() -> None:
    verdict = head(run_of(status="crashed"), crashed_span("a", "1"), crashed_span("b", "2"))["problem"]
    assert (verdict["title"], verdict["text"]) == ("Crashed in a and b", "Its process died during these calls.")


def test_a_crash_of_which_only_the_summary_is_left_still_names_the_tool() -> None:
    verdict = head(run_of(status="crashed", interrupted=[call_of("lost")]))["problem"]
    assert (verdict["title"], verdict["span"]) == ("Crashed in lost", "")


def test_a_crash_between_calls_names_the_step() -> None:
    verdict = head(run_of(status="crashed", workflow=["a", "b"], done=1))["problem"]
    assert verdict["title"] == "Crashed in step b"
    assert head(run_of(status="crashed"))["problem"]["title"] == "Crashed between tool calls"


def test_a_worker_process_that_died_is_no_crash_of_the_session() -> None:
    run = run_of(interrupted=[call_of("lost")])
    verdict = head(run, crashed_span("lost", "1"))["problem"]
    assert (verdict["title"], verdict["span"], verdict["at"]) == ("A worker process died in lost", "1", None)


def test_a_failure_names_the_innermost_span_that_raised_it() -> None:
    error = {"type": "builtins.ValueError", "message": "bad"}
    earlier = Span(name="earlier", span="e", status="error", start_us=1, error=error)
    inner = Span(name="inner", span="i", status="error", start_us=3, error=error)
    outer = Span(name="outer", span="o", status="error", start_us=2, error=error, children=[inner])
    run = run_of(status="failed", error=Failure(type="builtins.ValueError", message="bad"))
    verdict = head(run, earlier, outer)["problem"]
    assert (verdict["title"], verdict["text"], verdict["span"]) == ("Failed in inner", "ValueError: bad", "i")


def test_a_failure_that_no_span_raised_is_the_sessions_own() -> None:
    verdict = head(run_of(status="failed", error=Failure(type="KeyError", message="k")))["problem"]
    assert (verdict["title"], verdict["span"]) == ("Failed", "")


def test_what_was_cancelled_says_so() -> None:
    assert head(run_of(status="cancelled"))["problem"]["title"] == "Cancelled"


def test_the_head_does_not_change_while_nothing_happens() -> None:
    tree = tree_of(1, run_of("me", workflow=["a"], in_flight=[call_of("t")]))
    assert run_header(tree, {}) == run_header(tree, {})


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_added_up_over_child_sessions_at_any_depth() -> None:
    family = {
        CHILD: run_of("child", parent_session=ME, calls=3, attributes={"tokens": 20, "cost": 0.1}),
        GRANDCHILD: run_of("grandchild", parent_session=CHILD, errors=1, attributes={"tokens": 3, "cost": 0.2}),
        OTHER: run_of("other", attributes={"tokens": 1000}),
    }
    shown = tiles(head(run_of(calls=2, attributes={"tokens": 1200}), sessions=family))
    assert shown["tokens"] == ("1,223", "1,200 here, 23 in 2 child runs")
    assert shown["cost"] == ("0.3", "none here, 0.3 in 2 child runs")
    assert shown["calls"] == ("2", "and 3 in 2 child runs")
    assert shown["errors"] == ("0", "and 1 in 2 child runs")


def test_an_attribute_of_this_session_alone_is_just_its_value() -> None:
    assert tiles(head(run_of(attributes={"tokens": 1234})))["tokens"] == ("1,234", "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (-1234, "-1,234"), (0.0, "0"), (0.0123, "0.0123"), (1234.5, "1,234.5"), (0.00012345, "0.0001234"),
        (1e300, "1e+300"), (10**20, "1e+20"), (10**400, "1" + "0" * 22 + "…"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_they_are_worth(value: float, words: str) -> None:
    assert tiles(head(run_of(attributes={"n": value})))["n"] == (words, "")


@pytest.mark.parametrize("value", [True, "12", None, [1], float("nan"), float("inf")])
def test_what_is_no_number_is_not_added_up(value: Any) -> None:
    shown = head(run_of(attributes={"n": value}))
    assert "n" not in tiles(shown)
    assert [fact["name"] for fact in shown["facts"]] == ["attribute n"]


def test_sessions_that_contain_each_other_are_added_up_once() -> None:
    family = {CHILD: run_of("child", parent_session=ME, attributes={"n": 1})}
    assert tiles(head(run_of(parent_session=CHILD, attributes={"n": 1}), sessions=family))["n"][0] == "2"


def test_tags_are_told_with_any_key() -> None:
    shown = head(run_of(tags={"__proto__": "x", "": "y"}))
    assert [(fact["name"], fact["value"]) for fact in shown["facts"]] == [
        ("tag __proto__", "x"),
        ("tag (no name)", "y"),
    ]


def test_the_spec_is_told_beside_the_tags() -> None:
    tree = tree_of(1, run_of(tags={"t": 1}))
    tree.spec = {"model": "large", "limits": {"turns": 5}}
    assert [(fact["name"], fact["value"]) for fact in run_header(tree, {})["facts"]] == [
        ("tag t", "1"),
        ("spec model", "large"),
        ("spec limits", '{"turns": 5}'),
    ]


# ── workflow ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_workflow_is_drawn_written_and_read_out() -> None:
    shown = head(run_of(workflow=["a", "b", "c"], done=1))
    assert (shown["step"], shown["done"], shown["fraction"]) == ("b", "1/3", 0.3333)
    assert shown["steps"] == "a: done, b: running, c: pending"
    assert [node["state"] for node in shown["diagram"]["nodes"]] == ["done", "running", "pending"]
    assert shown["mermaid"].startswith("flowchart LR")


def test_without_a_workflow_there_is_no_diagram() -> None:
    shown = head(run_of())
    assert (shown["diagram"]["nodes"], shown["mermaid"]) == ([], "")


# ── relatives ───────────────────────────────────────────────────────────────────────────────────────────


def test_parent_children_and_sessions_of_the_same_agent_are_named() -> None:
    run = run_of("me", parent_session=OTHER)
    family = {
        CHILD: run_of("child", "crashed", parent_session=ME),
        OTHER: run_of("parent"),
        "b" * 32: run_of("me", "failed", start_time=NOW - 5),
        "c" * 32: run_of("me", "completed", start_time=NOW - 9),
    }
    tree = tree_of(1, run)
    tree.child_sessions = [CHILD]
    assert kin(run_header(tree, {ME: run} | family)) == {
        "Parent run": [("parent", "running")],
        "Child runs": [("child", "crashed")],
        "Other runs of this agent": [("me", "failed"), ("me", "completed")],
    }


def test_a_relative_that_has_been_forgotten_is_still_linked() -> None:
    (other,) = head(run_of(parent_session="f" * 32))["related"][0]["rows"]
    assert (other["agent"], other["session"], other["status"]) == ("fffffffffff…", "f" * 32, "")


def test_many_relatives_are_counted_beyond_the_newest() -> None:
    others = {session_id(number): run_of("me") for number in range(10, 10 + MAX_RELATED_RUNS + 7)}
    (siblings,) = head(run_of("me"), sessions=others)["related"]
    assert (len(siblings["rows"]), siblings["title"]) == (MAX_RELATED_RUNS, "Other runs of this agent (50 of 57)")


def test_spans_that_are_not_shown_are_counted() -> None:
    tree = tree_of(1, run_of())
    tree.truncated = 1234
    assert run_header(tree, {})["more"] == "1,234 more spans are not shown."


@given(runs, runs)
def test_any_sessions_give_a_head_that_json_can_carry(run: SessionSummary, other: SessionSummary) -> None:
    tree = SessionTree(id=ME, session=run, root=Span(start_us=-5, status=run.status))
    json.dumps(run_header(tree, {ME: run, OTHER: other}), allow_nan=False)
