"""The view model: what the page shows, in which order and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    Failure,
    GlobalMetrics,
    Health,
    LogEntry,
    RunCounts,
    SessionSummary,
    StepSummary,
    ToolMetrics,
    Workflow,
)
from pyjama_instrument.viewer.labels import clip, duration, format_percent, format_rate, join_names, label
from pyjama_instrument.viewer.overview import (
    MAX_ACTIVE,
    MAX_ATTENTION,
    MAX_CHIPS,
    MAX_LOG,
    MAX_PAST,
    MAX_TOOLS,
    build_overview,
)
from pyjama_instrument.viewer.steps import step_states, workflow_progress
from tests.viewer.fakes import HOSTILE, NOW, call_of, data_of, run_of, session_id

FIVE = ("discover", "analyze", "resolve", "report", "notify")


def agents(rows: list[dict[str, Any]]) -> list[str]:
    return [row["agent"] for row in rows]


def tile(view: dict[str, Any], name: str) -> dict[str, Any]:
    return next(tile for tile in view["totals"] if tile["key"] == name)


# ── which run goes where ────────────────────────────────────────────────────────────────────────────────


def test_runs_are_parted_into_running_went_wrong_and_past() -> None:
    statuses = ["running", "completed", "failed", "cancelled", "crashed"]
    view = build_overview(data_of(*(run_of(status, status) for status in statuses)))
    assert agents(view["active"]) == ["running"]
    assert sorted(agents(view["attention"])) == ["crashed", "failed"]
    assert sorted(agents(view["past"])) == ["cancelled", "completed"]


def test_two_sessions_of_one_agent_at_once_are_two_rows() -> None:
    view = build_overview(data_of(run_of("twin", pid=1, calls=1), run_of("twin", pid=2, calls=2)))
    assert agents(view["active"]) == ["twin", "twin"]
    assert {row["process"] for row in view["active"]} == {"pid 1", "pid 2"}
    assert {row["calls"] for row in view["active"]} == {"1", "2"}
    assert len({row["key"] for row in view["active"]}) == 2


def test_running_runs_are_listed_newest_first() -> None:
    old, new = run_of("old", start_time=NOW - 9000), run_of("new", start_time=NOW - 1000)
    assert agents(build_overview(data_of(old, new))["active"]) == ["new", "old"]


def test_what_went_wrong_last_is_listed_first() -> None:
    old, new = run_of("old", "failed", end_time=NOW - 9000), run_of("new", "crashed", end_time=NOW - 1000)
    assert agents(build_overview(data_of(old, new))["attention"]) == ["new", "old"]


def test_an_agent_of_which_no_session_is_kept_is_still_shown() -> None:
    data = data_of(run_of("kept"))
    data.agents["only-summary"] = AgentSummary(status="completed", start_time=NOW - 5000, end_time=NOW)
    view = build_overview(data)
    assert [(row["agent"], row["session"], row["took"]) for row in view["past"]] == [("only-summary", None, "5.0 s")]


def test_failures_beyond_the_limit_move_to_the_past_runs() -> None:
    view = build_overview(data_of(*(run_of(f"a{n}", "failed", end_time=NOW - n) for n in range(MAX_ATTENTION + 3))))
    assert len(view["attention"]) == MAX_ATTENTION
    assert agents(view["past"]) == [f"a{n}" for n in range(MAX_ATTENTION, MAX_ATTENTION + 3)]


def test_every_list_is_bounded_and_says_how_many_are_left_out() -> None:
    runs = [run_of(f"r{n}") for n in range(MAX_ACTIVE + 7)] + [
        run_of(f"c{n}", "completed") for n in range(MAX_PAST + 5)
    ]
    data = data_of(*runs)
    data.metrics.tools = {f"t{n}": ToolMetrics(count=1) for n in range(MAX_TOOLS + 4)}
    data.recent_logs = [LogEntry(timestamp=n, agent_id="a", status="ok") for n in range(MAX_LOG + 9)]
    view = build_overview(data)
    assert (len(view["active"]), view["active_more"]) == (MAX_ACTIVE, 7)
    assert (len(view["past"]), view["past_more"]) == (MAX_PAST, 5)
    assert (len(view["tools"]), view["tools_more"]) == (MAX_TOOLS, 4)
    assert len(view["log"]) == MAX_LOG


# ── one run ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_run_says_where_in_its_workflow_it_is() -> None:
    (row,) = build_overview(data_of(run_of(workflow=FIVE, done=1)))["active"]
    assert (row["step"], row["done"], row["fraction"]) == ("analyze", "1/5", 0.2)
    assert [step["state"] for step in row["steps"]] == ["done", "running", "pending", "pending", "pending"]


def test_a_run_between_two_steps_says_how_many_are_done() -> None:
    steps = [StepSummary(step_id="discover", status="ok", start_time=1, end_time=2)]
    (row,) = build_overview(data_of(run_of(workflow=FIVE, steps=steps, current_step=None)))["active"]
    assert (row["step"], row["done"]) == ("", "1/5")


def test_without_a_declared_workflow_there_is_a_step_but_no_progress() -> None:
    steps = [StepSummary(step_id="thinking", start_time=1)]
    (row,) = build_overview(data_of(run_of(steps=steps, current_step="thinking")))["active"]
    assert (row["step"], row["done"], row["fraction"]) == ("thinking", "", None)


def test_calls_in_flight_are_named_with_their_start_the_longest_first() -> None:
    calls = [call_of("short", NOW - 10), call_of("long", NOW - 9000)]
    (row,) = build_overview(data_of(run_of(in_flight=calls)))["active"]
    assert [(call["tool"], call["since"]) for call in row["in_flight"]] == [("long", NOW - 9000), ("short", NOW - 10)]


def test_many_calls_in_flight_are_counted_beyond_the_first_few() -> None:
    (row,) = build_overview(data_of(run_of(in_flight=[call_of(f"t{n}") for n in range(40)])))["active"]
    assert len(row["in_flight"]) + row["in_flight_more"] == 40


def test_a_crash_names_the_tool() -> None:
    crashed = run_of(status="crashed", interrupted=[call_of("write_file")])
    assert build_overview(data_of(crashed))["attention"][0]["reason"] == "process died in write_file"


def test_the_end_of_a_crashed_run_is_its_last_sign_of_life() -> None:
    runs = run_of("dead", "crashed"), run_of("ended", "failed", start_time=NOW - 2010)
    rows = {row["agent"]: row for row in build_overview(data_of(*runs))["attention"]}
    assert (rows["dead"]["ending"], rows["dead"]["took"]) == ("last event", "")
    assert (rows["ended"]["ending"], rows["ended"]["took"]) == ("took 2.0 s", "2.0 s")


def test_hosts_are_named_only_where_there_are_several() -> None:
    one = build_overview(data_of(run_of(pid=1, host="here")))["active"]
    two = build_overview(data_of(run_of(pid=1, host="here"), run_of(pid=2, host="there")))["active"]
    assert [row["process"] for row in one] == ["pid 1"]
    assert [row["process"] for row in two] == ["pid 1 on here", "pid 2 on there"]


def test_a_crash_names_several_tools() -> None:
    calls = [call_of(name, NOW - at) for name, at in (("a", 50), ("b", 40), ("c", 30), ("d", 20), ("e", 15))]
    crashed = run_of(status="crashed", interrupted=calls)
    assert build_overview(data_of(crashed))["attention"][0]["reason"] == "process died in a, b, c and 2 more"


def test_a_crash_outside_any_tool_names_the_step() -> None:
    crashed = run_of(status="crashed", workflow=FIVE, done=1)
    assert (
        build_overview(data_of(crashed))["attention"][0]["reason"] == "process died in step analyze, between tool calls"
    )


def test_a_failure_is_shown_as_python_prints_it() -> None:
    failed = run_of(status="failed", error=Failure(type="builtins.ValueError", message="no such key"))
    assert build_overview(data_of(failed))["attention"][0]["reason"] == "ValueError: no such key"


def test_a_failure_without_an_error_says_so() -> None:
    assert build_overview(data_of(run_of(status="failed")))["attention"][0]["reason"] == "failed; no error was recorded"


def test_a_child_run_names_its_parent() -> None:
    view = build_overview(data_of(run_of("parent"), run_of("child", parent_session=session_id(0))))
    assert {row["agent"]: row["part_of"] for row in view["active"]} == {"parent": None, "child": "parent"}


def test_a_long_workflow_shows_the_steps_around_the_current_one() -> None:
    (row,) = build_overview(data_of(run_of(workflow=[f"s{n}" for n in range(100)], done=50)))["active"]
    assert len(row["steps"]) == MAX_CHIPS
    assert "running" in [step["state"] for step in row["steps"]]
    assert row["steps_more"] == 100 - MAX_CHIPS


def test_only_remarkable_steps_are_named_where_not_all_names_fit() -> None:
    (row,) = build_overview(data_of(run_of(workflow=["a long step name " * 2] * 2 + ["now", *FIVE], done=2)))["active"]
    assert [step["name"] for step in row["steps"] if not step["brief"]] == ["now"]


# ── steps ───────────────────────────────────────────────────────────────────────────────────────────────


def test_steps_that_an_ended_run_never_began_are_skipped() -> None:
    assert [step.state for step in step_states(run_of(status="failed", workflow=FIVE, done=2))] == [
        "done", "done", "error", "skipped", "skipped",
    ]  # fmt: skip


def test_a_step_left_open_shares_the_fate_of_its_run() -> None:
    run = run_of(status="crashed", steps=[StepSummary(step_id="a", status="running", start_time=1)])
    assert [step.state for step in step_states(run)] == ["crashed"]


def test_steps_that_were_not_declared_follow_those_that_were() -> None:
    steps = [StepSummary(step_id=name, status="ok") for name in ("extra", "discover")]
    run = run_of(steps=steps, workflow=["discover"], current_step=None)
    run.steps = steps
    assert [(step.name, step.declared) for step in step_states(run)] == [("discover", True), ("extra", False)]


def test_a_step_begun_again_shows_its_latest_state_and_how_often() -> None:
    run = run_of(workflow=["loop"])
    run.steps = [StepSummary(step_id="loop", status=status) for status in ("ok", "error", "ok")]
    assert [(step.state, step.times) for step in step_states(run)] == [("done", 3)]


def test_a_step_declared_twice_takes_its_runs_one_after_the_other() -> None:
    run = run_of(workflow=["test", "fix", "test"])
    run.steps = [StepSummary(step_id="test", status="error"), StepSummary(step_id="fix", status="running")]
    assert [step.state for step in step_states(run)] == ["error", "running", "pending"]
    assert workflow_progress(run, step_states(run)).done == "0/3"


def test_a_number_of_steps_without_their_names_still_gives_progress() -> None:
    run = AgentSummary(workflow=Workflow(total_steps=4))
    assert workflow_progress(run, step_states(run)).done == "0/4"


# ── totals, tools, log, notes ───────────────────────────────────────────────────────────────────────────


def test_nothing_recorded_is_empty_and_every_figure_is_blank_or_nought() -> None:
    view = build_overview(DashboardData(timestamp=NOW), "/somewhere")
    assert view["empty"] is True
    assert view["store"] == "/somewhere"
    assert tile(view, "success rate")["value"] == "–"
    assert tile(view, "tool calls")["value"] == "0"


@pytest.mark.parametrize("status", ["running", "completed", "crashed"])
def test_any_run_makes_the_page_not_empty(status: str) -> None:
    assert build_overview(data_of(run_of(status=status)))["empty"] is False


def test_the_totals_count_tool_calls_of_all_agents() -> None:
    data = data_of(run_of())
    data.metrics.global_ = GlobalMetrics(count=1560, error=4, success_rate=0.9974, p50_ms=40.0, p95_ms=90, p99_ms=1200)
    view = build_overview(data)
    assert tile(view, "tool calls")["value"] == "1,560"
    assert tile(view, "errors") == {
        "key": "errors",
        "label": "errors",
        "value": "4",
        "tone": "bad",
        "target": "#/activity?status=error",
    }
    assert tile(view, "success rate")["value"] == "99.7 %"
    assert tile(view, "p50 / p95 / p99")["value"] == "40 ms / 90 ms / 1.2 s"


def test_the_tile_of_finished_runs_counts_those_that_its_link_lists() -> None:
    runs = RunCounts(completed=4, cancelled=2, ended=1)  # of runs that are no longer listed
    view = build_overview(data_of(*(run_of(each, each) for each in ("completed", "cancelled", "ended")), runs=runs))
    assert tile(view, "finished")["value"] == "10"
    assert len(view["past"]) == 3


def test_finished_runs_are_counted_even_when_they_are_no_longer_kept() -> None:
    data = data_of(*(run_of("loser", "failed") for _ in range(7)), run_of(), runs=RunCounts(completed=3000, failed=182))
    view = build_overview(data)
    assert tile(view, "finished")["value"] == "3,000"
    assert tile(view, "failed")["value"] == "189"
    assert view["title"] == "1 running · 189 failed · pyjama"


def test_the_title_says_what_matters_when_the_tab_is_in_the_background() -> None:
    assert build_overview(data_of(run_of(), run_of(status="crashed")))["title"] == "1 running · 1 crashed · pyjama"
    assert build_overview(DashboardData())["title"] == "pyjama"


def test_the_tools_that_took_most_time_come_first() -> None:
    data = DashboardData()
    data.metrics.tools = {
        "quick": ToolMetrics(count=9, total_duration=5.0),
        "slow": ToolMetrics(count=1, total_duration=50.0),
    }
    rows = build_overview(data)["tools"]
    assert [(row["tool"], row["share"]) for row in rows] == [("slow", 1.0), ("quick", 0.1)]


def test_a_tool_shows_its_last_error() -> None:
    data = DashboardData()
    data.metrics.tools = {"t": ToolMetrics(count=1, error=1, last_error=Failure(type="OSError", message="gone"))}
    assert build_overview(data)["tools"][0]["last_error"] == "OSError: gone"


def test_tools_beyond_the_limit_of_the_store_are_named_as_such() -> None:
    data = DashboardData()
    data.metrics.tools = {"__other__": ToolMetrics(count=7)}
    assert build_overview(data)["tools"][0]["tool"] == "other tools"


def test_the_activity_log_is_newest_first() -> None:
    data = DashboardData(recent_logs=[LogEntry(timestamp=at, agent_id=str(at)) for at in (2, 3, 1)])
    assert [row["at"] for row in build_overview(data)["log"]] == [3, 2, 1]


def test_a_log_entry_keeps_its_key_while_newer_ones_arrive() -> None:
    same = [LogEntry(timestamp=5, agent_id="a", tool="t", status="ok") for _ in range(3)]
    before = [row["key"] for row in build_overview(DashboardData(recent_logs=same))["log"]]
    newer = [*same, LogEntry(timestamp=6, agent_id="a", tool="t", status="ok")]
    assert [row["key"] for row in build_overview(DashboardData(recent_logs=newer))["log"]][1:] == before
    assert len(set(before)) == 3


def test_damage_to_the_data_is_said_in_sentences() -> None:
    health = Health(torn=1, dropped={"ENOSPC": 1200}, overflow={"tools": 3}, notes=["Upgrade."])
    notes = build_overview(DashboardData(health=health))["notes"]
    assert [note["text"] for note in notes] == [
        "Upgrade.",
        "1,200 events could not be written (ENOSPC): counts are too low.",
        "1 half-written record skipped: a process died while writing, or a file was truncated.",
        "3 more tools exceed the limit and are counted together.",
    ]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, "–"), (float("nan"), "–"), (-1, "0 ms"), (1e-9, "1 µs"), (0.0071, "7 µs"), (0.0994, "99 µs"),
        (0.0996, "0.10 ms"), (0.423, "0.42 ms"), (0.996, "1.0 ms"), (9.94, "9.9 ms"),
        (9.96, "10 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (59_949, "59.9 s"), (59_951, "1 min 00 s"),
        (245_000, "4 min 05 s"), (7_380_000, "2 h 03 min"), (273_600_000, "3 d 04 h"),
    ],
)  # fmt: skip
def test_durations_are_short_and_never_round_over_their_unit(ms: float | None, words: str) -> None:
    assert duration(ms) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [(None, "–"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0.0, "0 %"), (0.974, "97.4 %")],
)
def test_only_all_is_a_hundred_percent_and_only_none_is_nought(rate: float | None, words: str) -> None:
    assert format_percent(rate) == words


@pytest.mark.parametrize(("rate", "words"), [(None, "–"), (0.0, "0"), (1.25, "1.2"), (12345.6, "12,346")])
def test_rates_have_the_digits_they_are_worth(rate: float | None, words: str) -> None:
    assert format_rate(rate) == words


def test_names_become_one_line_that_is_never_empty() -> None:
    assert label(" a\n\tb ") == "a b"
    assert label("\n ") == "(no name)"
    assert len(label("x" * 1_000_000)) <= 200
    assert clip("abcdef", 4) == "abc…"


def test_lists_of_names_read_as_a_sentence() -> None:
    assert [join_names(list(names)) for names in ("", "a", "ab", "abc", "abcde")] == [
        "", "a", "a and b", "a, b and c", "a, b, c and 2 more",
    ]  # fmt: skip


# ── whatever the data ───────────────────────────────────────────────────────────────────────────────────

names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))
times = st.one_of(st.none(), st.integers(min_value=-1, max_value=2**53))
floats = st.floats(allow_nan=True, allow_infinity=True)
statuses = st.sampled_from(["running", "completed", "failed", "cancelled", "crashed", "something new", ""])
values = st.one_of(st.none(), floats, names, st.lists(st.integers(), max_size=3))
steps = st.builds(StepSummary, step_id=names, status=statuses, start_time=times, end_time=times)
failures = st.none() | st.builds(Failure, type=names, message=names)
calls = st.lists(st.builds(call_of, names, st.integers(-1, 2**53)), max_size=6)
runs = st.builds(
    SessionSummary,
    agent_id=names, status=statuses, start_time=times, last_seen=times, end_time=times, current_step=st.none() | names,
    steps=st.lists(steps, max_size=8),
    workflow=st.none() | st.builds(Workflow, total_steps=st.integers(-1, 9), steps=st.lists(names, max_size=6)),
    in_flight=calls, interrupted=calls, error=failures, tags=st.dictionaries(names, values, max_size=3),
    attributes=st.dictionaries(names, values, max_size=3), total_duration=floats, pid=st.none() | st.integers(),
    parent_session=st.none() | names,
)  # fmt: skip
tools = st.builds(
    ToolMetrics, count=st.integers(), total_duration=floats, success_rate=floats, p50_ms=floats, last_error=failures
)
logs = st.builds(LogEntry, timestamp=st.integers(0, 5), agent_id=names, tool=st.none() | names, status=names)


@given(st.lists(runs, max_size=5), st.dictionaries(names, tools, max_size=4), st.lists(logs, max_size=6))
def test_any_data_give_a_view_that_json_can_carry(
    sessions: list[SessionSummary], by_name: dict[str, ToolMetrics], entries: list[LogEntry]
) -> None:
    data = DashboardData(sessions=dict(enumerate_ids(sessions)), recent_logs=entries, timestamp=NOW)
    data.metrics.tools = by_name
    view = json.loads(json.dumps(build_overview(data), allow_nan=False))
    for name in ("active", "attention", "past", "tools", "log"):
        keys = [row["key"] for row in view[name]]
        assert len(keys) == len(set(keys))
    shown = [row for name in ("active", "attention", "past") for row in view[name]]
    assert len(shown) == len(sessions)


def enumerate_ids(sessions: list[SessionSummary]) -> list[tuple[str, SessionSummary]]:
    return [(session_id(number), session) for number, session in enumerate(sessions)]
