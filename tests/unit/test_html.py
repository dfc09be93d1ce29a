"""What notebooks show: escaped, bounded, and nothing that needs anything else."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    Failure,
    Health,
    InFlight,
    Metrics,
    SessionSummary,
    SessionTree,
    Span,
    ToolMetrics,
)

_TEXT = st.text(st.characters(), max_size=30) | st.sampled_from(["<script>alert(1)</script>", "\"'><b>", "a\x1b[31m"])
_ALLOWED = {
    *("div", "style", "p", "span", "svg", "circle", "rect", "bdi", "pre", "h2", "h3"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
}


class _Tags(HTMLParser):
    """Which elements there are, with which attributes; fails where they are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def check(text: str) -> None:
    seen = _Tags(text)
    assert seen.tags <= _ALLOWED
    assert seen.attributes <= {"class", "title", "open", "aria-hidden", "viewbox", "cx", "cy", "r", "rx"} | {
        *("x", "y", "width", "height")
    }
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text) is None


def a_tree(root: Span, **more: object) -> SessionTree:
    return SessionTree(id="5e55", session=SessionSummary(agent_id="crawler", status="running"), root=root, **more)  # type: ignore[arg-type]


@given(_TEXT, _TEXT)
def test_whatever_the_names_are_dashboard_data_are_well_formed_and_escaped(name: str, message: str) -> None:
    failure = Failure(type=name, message=message)
    data = DashboardData(
        agents={name: AgentSummary(status="failed", session="1"), "b": AgentSummary(current_step=message)},
        sessions={"1": SessionSummary(agent_id=name, status="failed", error=failure)},
        metrics=Metrics(tools={name: ToolMetrics(count=3)}),
        health=Health(notes=[message]),
    )
    check(data._repr_html_())


@given(_TEXT, _TEXT)
def test_whatever_the_names_are_a_session_is_well_formed_and_escaped(name: str, message: str) -> None:
    error = {"type": name, "message": message, "traceback": [message]}
    child = Span(name=name, status="error", error=error, arguments={name: [message]}, result=message, items=2)
    run = SessionSummary(agent_id=name, tags={name: message}, interrupted=[InFlight(tool=name)])
    check(SessionTree(id=name, session=run, root=Span(name=name, children=[child, Span(name=message)]))._repr_html_())


def test_an_empty_dashboard_says_so() -> None:
    assert "Nothing recorded yet" in DashboardData()._repr_html_()


def test_what_runs_comes_first_and_says_what_it_is_at() -> None:
    run = SessionSummary(agent_id="live", in_flight=[InFlight(tool="search")])
    data = DashboardData(
        agents={"done": AgentSummary(status="completed"), "live": AgentSummary(current_step="fetch", session="1")},
        sessions={"1": run},
    )
    shown = data._repr_html_()
    assert shown.index("live") < shown.index("done")
    assert "fetch, in search" in shown


def test_an_error_is_shown_with_its_traceback() -> None:
    error = {"type": "x.ValueError", "message": "bad", "traceback": ["f.py:1 in f"]}
    shown = a_tree(Span(name="crawler", children=[Span(name="work", status="error", error=error)]))._repr_html_()
    assert "ValueError: bad" in shown
    assert "f.py:1 in f" in shown


def test_the_size_is_bounded_and_what_is_missing_is_counted() -> None:
    many = [Span(name="x" * 10_000, arguments={"a": "y" * 100_000}) for _ in range(3000)]
    shown = a_tree(Span(name="crawler", children=many), truncated=7)._repr_html_()
    assert len(shown) < 500_000
    assert "2,808 more spans not shown" in shown
    data = DashboardData(agents={f"agent {n}": AgentSummary() for n in range(2000)})
    assert len(data._repr_html_()) < 30_000
    assert "and 1,980 more" in data._repr_html_()


def test_bars_are_where_the_spans_were() -> None:
    root = Span(name="crawler", start_us=1_000, duration_ms=1.0, children=[Span(start_us=1_500, duration_ms=0.25)])
    assert re.findall(r'x="([\d.]+)%" y=1 width="([\d.]+)%"', a_tree(root)._repr_html_()) == [
        ("0.00", "100.00"),
        ("50.00", "25.00"),
    ]


def test_a_recursion_thousands_deep_can_be_shown() -> None:
    span = Span(name="leaf")
    for _ in range(3000):
        span = Span(name="recurse", children=[span])
    shown = a_tree(span)._repr_html_()
    check(shown)
    assert "2,801 more spans not shown" in shown


def test_of_a_large_tree_only_the_way_to_what_went_wrong_is_open() -> None:
    steps = [Span(name=f"step {n}", status="ok", children=[Span(name="call", status="ok")] * 9) for n in range(90)]
    steps[5] = Span(name="step 5", status="ok", children=[Span(name="call", status="error")])
    shown = a_tree(Span(name="crawler", status="completed", children=steps))._repr_html_()
    assert re.findall(r'open><summary>.*?title="([^"]*)"', shown) == ["crawler", "step 5"]
