"""A frame of ``pyjama top`` fits its size, and scrolling reaches every row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.cli.screen import key_names
from pyjama_instrument.cli.terminal import width_of
from pyjama_instrument.cli.top_frame import Order, Size, frame
from pyjama_instrument.document import AgentSummary, DashboardData, Metrics, ToolMetrics


def data(agents: int = 14, tools: int = 6, **others: str) -> DashboardData:
    """So many completed agents, some others with their status, and so many tools."""
    statuses = {f"agent-{n:02}": "completed" for n in range(agents)} | others
    summaries = {name: AgentSummary(status=status, last_seen=1_000) for name, status in statuses.items()}
    metrics = Metrics(tools={f"tool-{n:02}": ToolMetrics(count=1) for n in range(tools)})
    return DashboardData(timestamp=2_000, agents=summaries, metrics=metrics)


def names(lines: list[str]) -> list[str]:
    """The first words of the rows of both tables."""
    words = [(line.split() or [""])[0] for line in lines]
    return [word for word in words if word.startswith(("agent-", "tool-")) or word in ("bad", "bad2", "run")]


def test_agents_that_need_attention_come_first_on_a_small_terminal() -> None:
    shown = frame(data(bad="crashed", bad2="failed", run="running"), {}, Order(), Size(100, 23))
    assert names(shown.lines)[:3] == ["bad", "bad2", "run"]
    assert shown.lines[1] == "Agents 1 crashed, 1 failed, 1 running, 14 completed"


def test_a_frame_shows_both_tables_and_how_many_rows_are_hidden() -> None:
    shown = frame(data(), {}, Order(), Size(100, 23))
    assert len(shown.lines) == 23
    assert [line for line in shown.lines if line.startswith("…")] == ["… and 5 more"]
    assert len(names(shown.lines)) == 9 + 6


def test_scrolling_moves_through_the_agents_and_then_through_the_tools() -> None:
    size = Size(100, 18)
    everything = data(agents=10, tools=10)
    assert frame(everything, {}, Order(), size).furthest == 11
    down = [frame(everything, {}, Order(), size, position) for position in range(12)]
    assert [names(each.lines)[0] for each in down] == [f"agent-{min(n, 6):02}" for n in range(12)]
    assert [names(each.lines)[-1] for each in down] == [f"tool-{4 + max(n - 6, 0):02}" for n in range(12)]
    marks = [[line for line in each.lines if line.startswith("…")] for each in down]
    assert marks[0] == ["… and 6 more", "… and 5 more"]
    assert marks[2] == ["… and 2 above, 4 more", "… and 5 more"]
    assert marks[11] == ["… and 6 above", "… and 5 above"]


def test_a_position_beyond_the_last_row_shows_the_last_row() -> None:
    size = Size(100, 18)
    end = frame(data(10, 10), {}, Order(), size, 11)
    assert frame(data(10, 10), {}, Order(), size, 1_000).lines == end.lines


def test_a_frame_of_an_empty_store_names_the_demo() -> None:
    shown = frame(data(0, 0), {}, Order(), Size(100, 23))
    assert shown.lines[-1].endswith("pyjama demo")
    assert shown.furthest == 0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(20, 150), st.integers(12, 60), st.integers(0, 100))
def test_every_row_is_reached_and_no_frame_is_larger_than_the_terminal(
    agents: int, tools: int, columns: int, rows: int, position: int
) -> None:
    everything, size = data(agents, tools), Size(columns, rows)
    shown = frame(everything, {}, Order(), size, position)
    assert all(width_of(line) <= columns for line in shown.lines if line.startswith(("agent", "tool", "AGENT", "TOOL")))
    seen = [set(names(frame(everything, {}, Order(), size, at).lines)) for at in range(shown.furthest + 1)]
    assert len(set().union(*seen)) == agents + tools


def test_keys_are_named_whatever_the_terminal_sends_for_them() -> None:
    typed = "q\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[24~\x1b[1;5A?\x1b"
    assert key_names(typed) == ["q", "up", "down", "page up", "page down", "home", "end", "?", "escape"]


@pytest.mark.parametrize(("key", "order"), [("e", Order("errors")), ("c", Order("calls", True)), ("x", Order("calls"))])
def test_a_key_sorts_and_the_same_key_reverses(key: str, order: Order) -> None:
    assert Order("calls").press(key) == order
