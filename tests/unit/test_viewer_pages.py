"""The views of the pages apart from the overview: query parameters, tools, activity, call rates, patches."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.document import DashboardData, Failure, ToolMetrics
from pyjama_instrument.fold.histogram import bounds_ms, bucket
from pyjama_instrument.viewer.activity import crash_entries, filter_names, merge_entries, record_filter, to_entries
from pyjama_instrument.viewer.call_rates import (
    SPARKLINE_SLOT_MS,
    SPARKLINE_SLOTS,
    TIMELINE_SLOT_MS,
    CallRates,
    TimeSeries,
    sparkline,
)
from pyjama_instrument.viewer.overview import MANY_RUNNING, MAX_ACTIVE, build_overview
from pyjama_instrument.viewer.patches import make_patch
from pyjama_instrument.viewer.query_parameters import MAX_ROW_LIMIT, QueryParameters, parse_query_parameters
from pyjama_instrument.viewer.reader_thread import ReaderThread
from pyjama_instrument.viewer.tools import DEFAULT_SORT, histogram, tool_page, tool_table
from pyjama_instrument.viewer.view_builder import ViewBuilder, older_entries
from tests.viewer.fakes import HOSTILE, NOW, FakeReader, apply_patch, call_of, data_of, run_of, session_id

TOOLS = {
    "read": ToolMetrics(count=5, error=0, total_duration=900.0, p95_ms=3.0, success_rate=1.0),
    "Parse": ToolMetrics(
        count=50, error=7, total_duration=100.0, p95_ms=9.0, success_rate=0.86,
        last_error=Failure(type="ValueError", message="line 3 makes no sense"),
    ),
    "ask": ToolMetrics(count=2, error=1, total_duration=5000.0, p95_ms=2500.0, success_rate=0.5),
}  # fmt: skip


def with_tools() -> DashboardData:
    data = DashboardData(timestamp=NOW)
    data.metrics.tools = dict(TOOLS)
    return data


def record(tool: str = "read", at: int = 0, **fields: Any) -> dict[str, Any]:
    """A call that ended ``at`` ms after NOW."""
    return {
        "kind": "tool.ended", "ts": (NOW + at) * 1000, "agent": "crawler", "session": session_id(0), "tool": tool,
        "status": "ok", "duration_ns": 2_000_000, "parent": "p", "span": "s",
    } | fields  # fmt: skip


# ── query parameters ────────────────────────────────────────────────────────────────────────────────────


@given(st.dictionaries(st.sampled_from(["page", "name", "q", "status", "agent", "tool", "sort", "show"]), st.text()))
def test_any_address_gives_query_parameters(parameters: dict[str, str]) -> None:
    query = parse_query_parameters(parameters)
    assert 0 <= query.row_limit <= MAX_ROW_LIMIT
    assert hash(query) == hash(parse_query_parameters(parameters))
    assert build_overview(data_of(run_of()), None, query)["active_more"] == 0


def test_an_unknown_page_is_the_overview() -> None:
    assert parse_query_parameters({"page": "../../etc/passwd"}) == QueryParameters()


# ── the overview, searched ──────────────────────────────────────────────────────────────────────────────


def overview(*runs: Any, **query: Any) -> list[str]:
    view = build_overview(data_of(*runs), None, QueryParameters(**query))
    return [row["agent"] for part in ("active", "attention", "past") for row in view[part]]


@pytest.mark.parametrize(
    "text", ["crawl", "CRAWLER", "prod", "env=prod", "ask_model", "pid 77", "elsewhere", "discover", "crawler prod"]
)
def test_a_run_is_found_by_what_is_shown_of_it(text: str) -> None:
    run = run_of(
        "crawler",
        workflow=["discover"],
        tags={"env": "prod"},
        pid=77,
        host="elsewhere",
        in_flight=[call_of("ask_model")],
    )
    assert overview(run, run_of("other"), text=text) == ["crawler"]


def test_a_run_is_found_by_why_it_went_wrong() -> None:
    failed = run_of("careless", "failed", error=Failure(type="KeyError", message="no such key"))
    assert overview(failed, run_of("other", "failed"), text="such key") == ["careless"]


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("running", ["running"]),
        ("wrong", ["crashed", "failed"]),
        ("crashed", ["crashed"]),
        ("finished", ["cancelled", "completed"]),
        ("nonsense", []),
    ],
)
def test_runs_are_filtered_by_status(status: str, found: list[str]) -> None:
    runs = [run_of(each, each) for each in ("running", "completed", "failed", "cancelled", "crashed")]
    assert sorted(overview(*runs, status=status)) == found


def test_the_totals_are_those_of_all_runs_whatever_is_searched_for() -> None:
    view = build_overview(data_of(run_of("a"), run_of("b")), None, QueryParameters(text="b"))
    assert view["totals"][0]["value"] == "2"
    assert view["found"] == 1


def test_more_rows_are_shown_when_asked_for() -> None:
    data = data_of(*(run_of(f"r{n}") for n in range(MAX_ACTIVE + 50)))
    view = build_overview(data, None, QueryParameters(row_limit=MAX_ACTIVE + 30))
    assert (len(view["active"]), view["active_more"]) == (MAX_ACTIVE + 30, 20)


def test_a_crash_is_said_on_top_where_many_runs_would_push_it_out_of_sight() -> None:
    runs = [run_of(f"r{n}") for n in range(MANY_RUNNING)]
    crash = run_of("unlucky", "crashed", interrupted=[call_of("ask_model")])
    assert build_overview(data_of(runs[0], crash))["headline"] is None
    headline = build_overview(data_of(*runs, crash))["headline"]
    assert headline["text"] == "unlucky crashed: process died in ask_model,"
    assert (headline["tone"], headline["target"]) == ("dead", "#/?status=wrong")


# ── call rates ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_total_has_grown_by_was_counted_now() -> None:
    series = TimeSeries(SPARKLINE_SLOT_MS, SPARKLINE_SLOTS)
    series.observe(NOW, {"a": 100})
    series.observe(NOW, {"a": 103, "new": 2})
    series.observe(NOW + SPARKLINE_SLOT_MS, {"a": 104, "new": 2})
    assert series.counts("a", NOW + SPARKLINE_SLOT_MS)[-2:] == [3, 1]
    assert sum(series.counts("a", NOW + SPARKLINE_SLOT_MS)) == 4
    assert series.counts("new", NOW)[-1] == 2


def test_a_total_that_was_cleared_counts_from_there() -> None:
    series = TimeSeries(SPARKLINE_SLOT_MS, SPARKLINE_SLOTS)
    for total in (100, 0, 2):
        series.observe(NOW, {"a": total})
    assert sum(series.counts("a", NOW)) == 2


def test_a_series_keeps_so_many_slots_of_what_exists_and_no_more() -> None:
    series = TimeSeries(SPARKLINE_SLOT_MS, SPARKLINE_SLOTS)
    for at in range(10 * SPARKLINE_SLOTS):
        series.observe(NOW + at * SPARKLINE_SLOT_MS, {"a": at})
    assert series.counts("a", NOW + at * SPARKLINE_SLOT_MS) == [1] * SPARKLINE_SLOTS
    series.observe(NOW, {})
    assert series._counts == {}


def test_calls_from_before_the_first_look_are_shown_too() -> None:
    data = data_of(run_of())
    data.metrics.tools = {"read": ToolMetrics(count=9)}
    rates = CallRates()
    rates.backfill([record(at=-30_000), record(at=-1), record(at=5_000)], NOW - 60_000, data)
    assert sum(rates.tools.counts("read", NOW)) == 2  # the third comes after this observation
    assert rates.since == NOW - 60_000


def test_a_sparkline_has_a_digit_for_each_slot_and_shows_the_smallest_count() -> None:
    assert sparkline([0, 1, 500, 1000]) == "0159"
    assert sparkline([0, 0]) == ""


# ── patches ─────────────────────────────────────────────────────────────────────────────────────────────

_rows = st.dictionaries(
    st.sampled_from([*HOSTILE[:6], "a", "b"]), st.fixed_dictionaries({"n": st.integers(0, 2), "t": st.text(max_size=2)})
).map(lambda rows: [{"key": key} | row for key, row in rows.items()])
_views = st.fixed_dictionaries({"title": st.text(max_size=2), "rows": _rows, "names": st.lists(st.text(max_size=1))})


@given(_views, _views)
def test_the_patch_applied_to_the_old_view_makes_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = make_patch(old, new)
    if old == new:
        assert patch is None
    else:
        assert apply_patch(old | {"now": 1}, {"now": 2, "patch": patch}) == new | {"now": 2}


def test_only_the_field_that_changed_of_the_row_that_changed_is_sent() -> None:
    old = {"rows": [{"key": key, "n": 0, "text": "x" * 100} for key in ("a", "b")]}
    new = {"rows": [old["rows"][0], old["rows"][1] | {"n": 1}]}
    assert make_patch(old, new) == {"set": {}, "rows": {"rows": {"set": [["b", {"n": 1}]]}}}


def test_rows_of_the_same_key_are_sent_as_a_whole() -> None:
    rows = [{"key": "a"}, {"key": "a"}]
    assert make_patch({"rows": []}, {"rows": rows}) == {"set": {"rows": rows}, "rows": {}}


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────


def names(**query: Any) -> list[str]:
    return [row["key"] for row in tool_table(with_tools(), QueryParameters(page="tools", **query), CallRates())["rows"]]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", ["ask", "read", "Parse"]),
        ("tool", ["ask", "Parse", "read"]),
        ("-tool", ["read", "Parse", "ask"]),
        ("-calls", ["Parse", "read", "ask"]),
        ("calls", ["ask", "read", "Parse"]),
        ("-errors", ["Parse", "ask", "read"]),
        ("success", ["ask", "Parse", "read"]),
        ("-p95", ["ask", "Parse", "read"]),
        ("nonsense", ["ask", "read", "Parse"]),
    ],
)
def test_tools_are_sorted_as_asked(sort: str, order: list[str]) -> None:
    assert names(sort=sort) == order


def test_tools_are_found_by_name_and_by_their_last_error() -> None:
    assert names(text="PARSE") == ["Parse"]
    assert names(text="no sense") == ["Parse"]
    assert names(status="wrong") == ["ask", "Parse"]


def test_the_sort_in_force_is_told() -> None:
    assert tool_table(with_tools(), QueryParameters(sort="x"), CallRates())["sort"] == DEFAULT_SORT


def test_tools_can_be_sorted_by_what_they_do_now() -> None:
    data, rates = with_tools(), CallRates()
    rates.observe(data)
    data.metrics.tools["Parse"] = TOOLS["Parse"].model_copy(update={"count": 60})
    rates.observe(data)
    data.timestamp += SPARKLINE_SLOT_MS
    view = tool_table(data, QueryParameters(sort="-now"), rates)
    assert (view["rows"][0]["key"], view["rows"][0]["now"]) == ("Parse", "1.0")


def test_an_unknown_tool_is_said_to_be_unknown() -> None:
    assert tool_page(with_tools(), QueryParameters(name="nothing"), CallRates(), {}, bounds_ms)["tool"] is None


def test_a_histogram_counts_every_call_and_puts_the_percentiles_in_order() -> None:
    durations = [10**6 * n for n in range(1, 200)]
    buckets: dict[int, int] = {}
    for duration in durations:
        buckets[int(bucket(duration))] = buckets.get(int(bucket(duration)), 0) + 1
    tool = ToolMetrics(count=len(durations), p50_ms=100.0, p95_ms=190.0, p99_ms=198.0)
    shown = histogram(buckets, bounds_ms, tool)
    assert shown is not None
    counted = [int(text.rsplit(": ", 1)[1].split()[0]) for _, text in shown["bars"]]
    assert sum(counted) == len(durations)
    assert max(height for height, _ in shown["bars"]) == 1.0
    marks = [along for _, along, _ in shown["marks"]]
    assert marks == sorted(marks)
    assert 0 < marks[0] < marks[-1] < 1


@given(st.dictionaries(st.integers(0, 560), st.integers(1, 10**12), max_size=200))
def test_a_histogram_of_anything_has_a_bounded_number_of_bars(buckets: dict[int, int]) -> None:
    shown = histogram(buckets, bounds_ms, ToolMetrics(p50_ms=float("inf"), p95_ms=-1.0))
    assert (shown is None) == (not buckets)
    assert shown is None or len(shown["bars"]) <= 63


def test_the_time_line_says_how_much_of_it_nobody_watched() -> None:
    data, rates = with_tools(), CallRates()
    rates.observe(data)
    line = tool_page(data, QueryParameters(name="read"), rates, {}, bounds_ms)["timeline"]
    assert line["unknown"] > 0.95
    rates.since = NOW - 60 * TIMELINE_SLOT_MS
    assert tool_page(data, QueryParameters(name="read"), rates, {}, bounds_ms)["timeline"]["unknown"] == 0.0


# ── activity ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (QueryParameters(), True),
        (QueryParameters(tool="read"), True),
        (QueryParameters(tool="rea"), False),
        (QueryParameters(agent="crawler"), True),
        (QueryParameters(agent="other"), False),
        (QueryParameters(status="wrong"), True),
        (QueryParameters(status="error"), True),
        (QueryParameters(status="ok"), False),
        (QueryParameters(text="sense CRAWL"), True),
        (QueryParameters(text="something else"), False),
    ],
)
def test_activity_is_filtered(query: QueryParameters, found: bool) -> None:
    failed = record(status="error", error={"type": "ValueError", "message": "line 3 makes no sense"})
    assert record_filter(query)(failed) is found


@pytest.mark.parametrize("kind", ["tool.started", "writer.opened", "from.the.future", None, 7])
def test_what_is_no_activity_is_left_out(kind: Any) -> None:
    assert not record_filter(QueryParameters())({"kind": kind, "ts": 1})


def test_a_record_of_any_content_makes_a_row() -> None:
    odd = {"kind": "tool.ended", "ts": 1, "tool": [1], "agent": None, "status": {}, "duration_ns": "x", "error": "y"}
    (entry,) = to_entries([(1, "w-1:0", odd)])
    assert (entry.row["what"], entry.row["took"], entry.row["error"]) == ("[1]", "", "")


def test_crashes_are_among_the_activity_although_nobody_recorded_them() -> None:
    data = data_of(run_of("unlucky", "crashed", interrupted=[call_of("ask")]), run_of("fine", "completed"))
    (entry,) = crash_entries(data, QueryParameters())
    assert (entry.row["agent"], entry.row["status"], entry.row["error"]) == (
        "unlucky",
        "crashed",
        "process died in ask",
    )
    assert crash_entries(data, QueryParameters(status="ok")) == []
    assert crash_entries(data, QueryParameters(tool="other")) == []
    assert len(crash_entries(data, QueryParameters(tool="ask", status="wrong", text="unlucky"))) == 1


def test_entries_are_merged_newest_first_each_once() -> None:
    one, two = to_entries([(1, "a", record()), (2, "b", record())])
    assert merge_entries([one, two], [two], limit=5) == [two, one]
    assert merge_entries([one, two], limit=1) == [two]


def test_names_to_filter_by_are_offered() -> None:
    data = data_of(run_of("b"), run_of("a"))
    data.metrics.tools = dict(TOOLS)
    assert filter_names(data) == {"agents": ["a", "b"], "tools": ["Parse", "ask", "read"]}


# ── the pages, drawn from a reader ──────────────────────────────────────────────────────────────────────


class Desk:
    """A drawing over a made-up reader."""

    def __init__(self) -> None:
        self.reader = FakeReader(data_of(run_of("crawler")))
        self.reader.data.metrics.tools = dict(TOOLS)
        self.source = ReaderThread(lambda: self.reader, "test")
        self.builder = ViewBuilder(self.source, None)

    def see(self, query: QueryParameters) -> dict[str, Any]:
        self.builder.refresh([query])
        return self.builder.view(query)


def test_the_activity_follows_what_is_recorded_and_remembers_no_more_than_it_shows() -> None:
    desk, query = Desk(), QueryParameters(page="activity")
    desk.reader.records = [record(at=n - 1000) for n in range(500)]
    view = desk.see(query)
    assert (len(view["rows"]), view["rows"][0]["at"]) == (200, NOW - 501)
    assert view["older"] is not None
    desk.reader.records.append(record(at=-1, tool="new"))
    rows = desk.see(query)["rows"]
    assert (len(rows), rows[0]["what"]) == (200, "new")


def test_older_entries_follow_on_without_a_gap() -> None:
    desk, query = Desk(), QueryParameters(page="activity")
    desk.reader.records = [record(at=n - 1000, tool=f"t{n}") for n in range(500)]
    view = desk.see(query)
    seen = [row["what"] for row in view["rows"]]
    while view["older"]:
        ts, key = view["older"].split(".", 1)
        view = older_entries(desk.source, query, (int(ts), key))
        seen += [row["what"] for row in view["rows"]]
    assert seen == [f"t{n}" for n in reversed(range(500))]


def test_the_page_of_a_tool_shows_its_own_calls() -> None:
    desk = Desk()
    desk.reader.records = [record(tool) for tool in ("read", "ask", "read")]
    view = desk.see(QueryParameters(page="tool", name="read"))
    assert [row["what"] for row in view["calls"]] == ["read", "read"]


def test_what_is_not_looked_at_any_more_is_forgotten() -> None:
    desk = Desk()
    for number in range(5):
        desk.see(QueryParameters(page="activity", text=str(number)))
    assert len(desk.builder._logs) == 1
    desk.builder.reset()
    assert desk.builder._logs == {}


# ── what changes although nothing happens ───────────────────────────────────────────────────────────────


def test_a_sparkline_changes_with_each_slot_until_the_last_call_has_left_it() -> None:
    series, now = TimeSeries(SPARKLINE_SLOT_MS, SPARKLINE_SLOTS), 10 * SPARKLINE_SLOT_MS + 5
    assert series.next_change(now) == math.inf
    series.add("read", now)
    changes = []
    while (change := series.next_change(now)) < math.inf:
        before = series.counts("read", now)
        assert series.counts("read", int(change) - 1) == before
        assert series.counts("read", int(change)) != before
        changes.append(change)
        now = int(change)
    assert len(changes) == SPARKLINE_SLOTS
    assert sparkline(series.counts("read", now)) == ""


@pytest.mark.parametrize("page", ["overview", "tools", "tool", "activity"])
def test_views_that_are_not_drawn_anew_are_those_that_would_be_the_same(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is drawn at each look, beside one that is drawn only when it says that it may have changed."""
    start = NOW - NOW % TIMELINE_SLOT_MS + 250  # away from where the slots of time meet
    sources = []
    for name in ("quiet", "busy"):
        reader = FakeReader(with_tools().model_copy(update={"timestamp": start}))
        reader.records = [record("read", at=-1000 * second) for second in range(700, 10, -30)]
        sources.append(ReaderThread(lambda reader=reader: reader, name))  # type: ignore[misc]
    builder, always = (ViewBuilder(source, None) for source in sources)
    query = QueryParameters(page=page, name="read")
    shown: dict[str, Any] = {}
    drawn = 0
    for half_seconds in range(1400):
        monkeypatch.setattr(ReaderThread, "_age", lambda self, age=half_seconds / 2: age)
        sources[1].reads += 1
        always.refresh([query])
        if builder.refresh([query]):
            drawn += 1
            shown = builder.view(query)
        assert {**shown, "now": 0} == {**always.view(query), "now": 0}, half_seconds
        for source in sources:
            source.reader().is_idle = True  # type: ignore[attr-defined]
    assert drawn < 400
