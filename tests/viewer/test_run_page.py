"""The page of one session in a real browser: what a person does on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pyjama_instrument.document import Failure, SessionSummary, SessionTree, Span
from pyjama_instrument.errors import SessionNotFound
from pyjama_instrument.viewer import Dashboard
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve
from tests.viewer.conftest import StartAgent
from tests.viewer.fakes import HOSTILE, NOW, FakeReader, call_of, data_of, run_of, session_id, tree_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ME = session_id(0)
BEGIN = NOW - 60_000

WORKER = """
@tool
def search():
    gate()

@tool(capture=True)
def parse(line):
    raise ValueError(f"line {line} makes no sense")

@tool
def deploy():
    search()

with agent_session("crawler", workflow=["discover", "analyze", "report"], tags={"team": "blue"}) as run:
    run.annotate(tokens=1200)
    with run.step("discover"):
        search()
    with run.step("analyze"):
        try:
            parse(3)
        except ValueError:
            pass
        deploy()
    with run.step("report"):
        search()
"""


def span(name: str, key: str, after: int = 0, took: float | None = 1000.0, *inside: Span, **more: Any) -> Span:
    """A call that began so many ms after the session, and took so many ms."""
    fields: dict[str, Any] = {
        "name": name,
        "span": key,
        "status": "running" if took is None else "ok",
        "start_us": (BEGIN + after) * 1000,
        "duration_ms": took,
        "children": list(inside),
    }
    return Span(**(fields | more))


class TreeReader(FakeReader):
    """Its sessions have the spans in ``spans``, by the session's id."""

    def __init__(self) -> None:
        super().__init__(data_of(run_of("one", "completed")))
        self.spans: dict[str, list[Span]] = {
            ME: [
                span("outer", "a", 0, 9000.0, span("inner", "b", 1000, 2000.0, span("leaf", "c", 1500, 100.0))),
                span("later", "d", 20_000, 30_000.0, arguments={"path": "x"}, result=[1, 2]),
                span("wrong", "e", 50_000, 10.0, status="error", error={"type": "OSError", "message": "gone"}),
            ]
        }

    def session(self, session_id: str, /) -> SessionTree:
        try:
            run = self.data.sessions[session_id]
        except KeyError:
            raise SessionNotFound(session_id) from None
        return tree_of(int(session_id, 16), run, *self.spans.get(session_id, []))


class FakeDashboard:
    """A dashboard over made-up data that a test may change."""

    def __init__(self) -> None:
        self.reader = TreeReader()
        self.dashboard = serve(create_app(lambda: self.reader), 0)

    def url(self, session: str = ME, query: str = "") -> str:
        return f"{self.dashboard.url}#/run/{session}{query}"


@pytest.fixture
def fake() -> Iterator[FakeDashboard]:
    fake = FakeDashboard()
    yield fake
    fake.dashboard.stop()


def row(page: Page, name: str) -> Locator:
    return page.locator(".wf-space [role=row]").filter(
        has=page.locator(".wf-name > bdi:nth-child(4)", has_text=re.compile(f"^{re.escape(name)}$"))
    )


NAMES = """() => [...document.querySelectorAll(".wf-space [role=row]")]
    .sort((a, b) => a.getAttribute("aria-rowindex") - b.getAttribute("aria-rowindex"))
    .map((row) => row.querySelector(".wf-name > bdi:nth-child(4)").textContent)"""


def chosen(page: Page) -> Locator:
    return page.locator(".wf-space [aria-selected=true]")


def shows(page: Page, *expected: str) -> None:
    """Wait until these are the names of the rows in sight, from top to bottom."""
    page.wait_for_function(f"(expected) => JSON.stringify(({NAMES})()) === expected", arg=compact(list(expected)))


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


ALL = ("one", "outer", "inner", "leaf", "later", "wrong")


def opened(page: Page, fake: FakeDashboard, query: str = "") -> None:
    page.goto(fake.url(query=query))
    page.locator(".wf-space [role=row]").first.wait_for()


# ── with a real agent ───────────────────────────────────────────────────────────────────────────────────


def test_a_session_is_opened_from_the_overview_and_its_page_survives_a_reload(
    page: Page, dashboard: Dashboard, start_agent: StartAgent
) -> None:
    page.goto(dashboard.url)
    start_agent(WORKER).go()
    page.locator("#active .row", has_text="crawler").get_by_text("1/3").wait_for()
    page.locator("#active a.name").click()
    for _ in range(2):
        page.locator(".session h1", has_text="crawler").wait_for()
        page.get_by_text("tag team").wait_for()
        page.locator(".totals .tile", has_text="tokens").get_by_text("1,200").wait_for()
        row(page, "parse").get_by_text("ValueError: line 3 makes no sense").wait_for()
        row(page, "deploy").get_by_text("running").wait_for()
        page.locator("svg .node.running", has_text="analyze").wait_for()
        assert page.locator("#active").is_hidden()
        page.reload()


def test_an_open_session_follows_its_agent_to_the_crash(
    page: Page, dashboard: Dashboard, start_agent: StartAgent
) -> None:
    page.goto(dashboard.url)
    agent = start_agent(WORKER)
    page.locator("#active a.name").click()
    page.locator("svg .node.running", has_text="discover").wait_for()
    agent.go()
    page.locator("svg .node.running", has_text="analyze").wait_for()
    row(page, "deploy").wait_for()
    agent.kill()
    problem = page.locator(".problem[role=alert]")
    problem.get_by_text("Crashed in search").wait_for()
    problem.get_by_text("step analyze › deploy").wait_for()
    assert page.title() == "crawler · crashed · pyjama"
    problem.get_by_role("button", name="Go to the span").click()
    assert "search" in (chosen(page).text_content() or "")
    page.locator("aside").get_by_text("did not end").wait_for()


def test_a_span_tells_its_error_with_the_traceback_and_what_was_captured(
    page: Page, dashboard: Dashboard, start_agent: StartAgent
) -> None:
    page.goto(dashboard.url)
    start_agent(WORKER).go()
    page.locator("#active a.name").click()
    row(page, "parse").click()
    aside = page.locator("aside")
    aside.locator(".reason", has_text="ValueError: line 3 makes no sense").wait_for()
    assert "in parse" in (aside.locator("section", has_text="Traceback").locator("pre").text_content() or "")
    assert aside.locator("section", has_text="Arguments").locator("pre").text_content() == '{\n  "line": 3\n}'


# ── choosing, collapsing, finding ───────────────────────────────────────────────────────────────────────


def test_the_keyboard_goes_through_the_spans_and_opens_and_closes_them(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    shows(page, *ALL)
    for key, name in (("j", "one"), ("j", "outer"), ("ArrowDown", "inner"), ("k", "outer"), ("ArrowRight", "inner"),
                      ("ArrowLeft", "inner")):  # fmt: skip
        page.keyboard.press(key)
        assert row(page, name).get_attribute("aria-selected") == "true", key
    assert row(page, "inner").get_attribute("aria-expanded") == "false"
    assert row(page, "leaf").count() == 0
    page.keyboard.press("ArrowLeft")
    assert row(page, "outer").get_attribute("aria-selected") == "true"
    page.keyboard.press("End")
    assert row(page, "wrong").get_attribute("aria-selected") == "true"
    page.keyboard.press("Enter")
    page.locator("aside").get_by_text("OSError: gone").wait_for()
    page.keyboard.press("Escape")
    page.locator("aside").wait_for(state="hidden")
    page.keyboard.press("Escape")
    page.locator(".session").wait_for(state="detached")
    page.wait_for_url(re.compile("#/$"))


def test_the_tree_tells_assistive_technology_what_it_is(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    grid = page.get_by_role("treegrid", name="Spans")
    assert grid.get_attribute("aria-rowcount") == "7"
    page.keyboard.press("j")
    active = grid.get_attribute("aria-activedescendant") or ""
    assert page.locator(f"#{active}").get_attribute("aria-level") == "1"
    assert page.evaluate("document.activeElement.getAttribute('role')") == "treegrid"
    assert [row(page, name).get_attribute("aria-level") for name in ("outer", "inner", "leaf")] == ["2", "3", "4"]
    assert row(page, "leaf").get_attribute("aria-expanded") is None


def test_a_link_to_a_span_survives_a_reload_with_what_was_folded(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    row(page, "inner").locator(".wf-twist").click()
    row(page, "later").click()
    page.locator("aside").get_by_text('"path": "x"').wait_for()
    page.wait_for_url(re.compile("span=d"))
    page.reload()
    page.locator("aside").get_by_text('"path": "x"').wait_for()
    shows(page, "one", "outer", "inner", "later", "wrong")
    assert row(page, "later").get_attribute("aria-selected") == "true"


def test_a_link_to_a_span_opens_what_it_is_in(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake, "?closed=a.b&span=c")
    shows(page, *ALL)
    page.locator("aside h2", has_text="leaf").wait_for()


def test_a_search_shows_what_it_finds_and_where_that_is(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    page.keyboard.press("/")
    page.keyboard.type("LEA")
    shows(page, "one", "outer", "inner", "leaf")
    page.get_by_text("4 of 6 spans").wait_for()
    page.wait_for_url(re.compile("q=LEA"))
    page.reload()
    shows(page, "one", "outer", "inner", "leaf")
    page.get_by_role("searchbox").focus()
    page.keyboard.press("Escape")
    shows(page, *ALL)


def test_only_errors_can_be_shown(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    page.get_by_role("button", name="1 problem").click()
    shows(page, "one", "wrong")
    page.wait_for_url(re.compile("only=errors"))
    page.reload()
    shows(page, "one", "wrong")
    page.get_by_role("button", name="1 problem", pressed=True).click()
    shows(page, *ALL)


def test_all_can_be_folded_and_unfolded(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    page.get_by_role("button", name="Collapse all").click()
    shows(page, "one", "outer", "later", "wrong")
    page.get_by_role("button", name="Expand all").click()
    shows(page, *ALL)


# ── the time line ───────────────────────────────────────────────────────────────────────────────────────


def width(page: Page, name: str) -> float:
    bar = row(page, name).locator(".wf-bar")
    box = bar.bounding_box() if bar.is_visible() else None
    return box["width"] if box else 0.0


def test_bars_lie_where_the_calls_ran(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    track = row(page, "later").locator(".wf-track").bounding_box()
    bar = row(page, "later").locator(".wf-bar").bounding_box()
    assert track
    assert bar
    assert (bar["x"] - track["x"]) / track["width"] == pytest.approx(20_000 / 59_990, abs=0.01)
    assert bar["width"] / track["width"] == pytest.approx(30_000 / 59_990, abs=0.01)


def test_the_time_line_zooms_by_keyboard_and_stays_so_over_a_reload(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    page.keyboard.press("j")
    row(page, "inner").click()
    before = width(page, "inner")
    page.keyboard.press("z")
    assert width(page, "inner") > 10 * before
    assert not row(page, "later").locator(".wf-bar").is_visible()
    page.wait_for_url(re.compile("t="))
    page.reload()
    row(page, "inner").wait_for()
    assert width(page, "inner") > 10 * before
    page.get_by_role("button", name="Show the whole run").click()
    assert width(page, "inner") == pytest.approx(before, abs=1)
    page.get_by_role("button", name="Zoom in").click()
    assert width(page, "inner") == pytest.approx(2 * before, abs=2)


def test_a_part_of_the_time_line_is_zoomed_into_by_dragging(page: Page, fake: FakeDashboard) -> None:
    opened(page, fake)
    box = page.locator(".wf-map").bounding_box()
    assert box
    before = width(page, "outer")
    page.mouse.move(box["x"] + 1, box["y"] + 9)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 9)
    page.mouse.up()
    assert width(page, "outer") == pytest.approx(4 * before, rel=0.1)
    assert page.locator(".wf-lens").is_visible()
    page.locator(".wf-map").dblclick()
    assert width(page, "outer") == pytest.approx(before, abs=1)


def test_a_call_under_way_grows_without_news_from_the_server(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = data_of(run_of("one"))
    fake.reader.spans[ME] = [span("done", "a", 0, 30_000.0), span("slow", "b", 30_000, None)]
    opened(page, fake)
    done = width(page, "done")
    page.wait_for_function(
        "before => document.querySelectorAll('.wf-bar')[1].getBoundingClientRect().width < before - 5", arg=done
    )  # what has ended takes an ever smaller part of the time line
    assert "live" in (row(page, "slow").get_attribute("data-tone") or "")


# ── staying current ─────────────────────────────────────────────────────────────────────────────────────


def test_only_what_has_changed_is_sent_and_rows_are_updated_in_place(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = data_of(run_of("one"))
    fake.reader.spans[ME] = [span("first", "a"), span("second", "b", 2000, None)]
    opened(page, fake)
    row(page, "first").evaluate("node => node.mark = 'the same node'")
    with page.expect_response(lambda answer: "/view?since=" in answer.url and '"second"' in answer.text()) as news:
        fake.reader.spans[ME] = [span("first", "a"), span("second", "b", 2000), span("third", "c", 3000)]
    shows(page, "one", "first", "second", "third")
    assert [line[3] for line in news.value.json()["rows"]] == ["second", "third"]
    assert row(page, "first").evaluate("node => node.mark") == "the same node"


def test_the_details_follow_the_span(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = data_of(run_of("one"))
    fake.reader.spans[ME] = [span("slow", "a", 0, None)]
    opened(page, fake, "?span=a")
    page.locator("aside .badge", has_text="running").wait_for()
    fake.reader.spans[ME] = [span("slow", "a", result="all done")]
    page.locator("aside").get_by_text('"all done"').wait_for()


def test_leaving_the_page_ends_its_questions(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = data_of(run_of("one"))
    opened(page, fake)
    page.locator("a.back").click()
    page.locator("#active .row").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/session/" in request.url else None)
    fake.reader.data = data_of(run_of("one", calls=77))
    page.get_by_text("77 calls").wait_for()
    fake.reader.data = data_of(run_of("one", calls=78))
    page.get_by_text("78 calls").wait_for()
    assert asked == []


# ── relatives ───────────────────────────────────────────────────────────────────────────────────────────


def test_parent_children_and_sessions_of_the_agent_are_linked(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = data_of(
        run_of("one", attributes={"tokens": 5}),
        run_of("one", "failed"),
        run_of("child", parent_session=ME, attributes={"tokens": 7}),
    )
    opened(page, fake)
    page.locator("section", has_text="Other runs of this agent").locator(
        ".related .badge", has_text="failed"
    ).wait_for()
    page.locator(".totals .tile", has_text="tokens").get_by_text("5 here, 7 in 1 child run").wait_for()
    page.goto(fake.url(session_id(2)))
    page.locator("section", has_text="Parent run").get_by_role("link", name="one").click()
    page.locator(".session h1", has_text="one").wait_for()
    page.go_back()
    page.locator(".session h1", has_text="child").wait_for()


@pytest.mark.parametrize("unknown", ["f" * 32, "..%2F..%2Fetc", "%2F%00", "<img>"])
def test_a_link_to_an_unknown_session_says_so(page: Page, fake: FakeDashboard, unknown: str) -> None:
    page.goto(fake.url(unknown))
    page.get_by_text("No run has this id").wait_for()
    page.keyboard.press("Escape")


def test_the_bar_shows_the_share_of_steps_that_are_done(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = data_of(run_of("one", workflow=["a", "b", "c", "d"], done=1))
    fake.reader.spans[ME] = []
    opened(page, fake)
    bar = page.get_by_role("progressbar", name="Workflow")
    whole, part = bar.bounding_box(), bar.locator("div").bounding_box()
    assert whole is not None
    assert part is not None
    assert part["width"] == pytest.approx(whole["width"] / 4, abs=1)
    assert part["height"] > 0


def test_an_old_link_still_leads_to_the_run(page: Page, fake: FakeDashboard) -> None:
    page.goto(f"{fake.dashboard.url}#/session/{ME}")
    page.locator(".session h1", has_text="one").wait_for()
    assert "#/run/" in page.url


def test_ids_and_json_are_copied(page: Page, fake: FakeDashboard) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, fake, "?span=d")
    for name, text in (("Copy the run’s id", ME), ("Copy Span id", "d"), ("Copy Result", "[\n  1,\n  2\n]")):
        page.get_by_role("button", name=name).click()
        page.get_by_role("button", name=name).get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == text


# ── many spans, and names from outside ──────────────────────────────────────────────────────────────────


def test_ten_thousand_spans_are_a_handful_of_nodes(page: Page, fake: FakeDashboard) -> None:
    fake.reader.spans[ME] = [span(f"call {n}", f"{n}", n * 5, 5.0) for n in range(10_000)]
    opened(page, fake)
    page.get_by_text("10,001 spans").wait_for()
    assert page.locator(".wf-space [role=row]").count() < 80
    page.keyboard.press("End")
    row(page, "call 9999").wait_for()
    page.keyboard.press("Home")
    row(page, "call 0").wait_for()
    assert page.locator(".wf-space [role=row]").count() < 80


def hostile_run(name: str, status: str) -> SessionSummary:
    return run_of(
        name,
        status,
        workflow=HOSTILE,
        done=3,
        tags={name: name},
        attributes={name: name, f"{name}#": 1},
        host=name,
        interrupted=[call_of(name)],
        error=Failure(type=name, message=name),
    )


def hostile_spans(number: int) -> Iterator[Span]:
    for at, name in enumerate(HOSTILE):
        inner = span(name, f"{number} {at} in", at * 50, 9.0, arguments={name: name}, result=name)
        error = {"type": name, "message": name, "traceback": [name]}
        yield span(name, f"{number} {at}", at * 50, 40.0, inner, status="error", error=error)


def hostile(fake: FakeDashboard) -> None:
    runs = [hostile_run(name, status) for name in HOSTILE for status in ("running", "crashed", "failed")]
    fake.reader.data = data_of(*runs)
    fake.reader.spans = {session_id(number): list(hostile_spans(number)) for number in range(len(runs))}


def test_hostile_names_are_text_and_nothing_else(page: Page, fake: FakeDashboard) -> None:
    hostile(fake)
    for number in range(0, 3 * len(HOSTILE), 13):
        page.goto(fake.url(session_id(number)))
        page.locator(".session h1").wait_for()
        row(page, "__proto__").first.wait_for()
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.locator("aside .reason").wait_for()
    assert "owned" not in page.title()
    assert page.evaluate("document.querySelectorAll('img').length") == 1  # the logo
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.evaluate("({}).polluted === undefined && Object.keys(Object.prototype).length === 0")


@pytest.mark.parametrize(("wide", "scheme"), [(320, "light"), (720, "dark"), (1180, "light"), (1920, "dark")])
def test_nothing_sticks_out_sideways(page: Page, fake: FakeDashboard, wide: int, scheme: str) -> None:
    hostile(fake)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two literals
    page.set_viewport_size({"width": wide, "height": 800})
    page.goto(fake.url(session_id(25), "?span=25+8"))
    page.locator("aside .reason").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate("(p => p.scrollWidth - p.clientWidth)(document.querySelector('.wf'))") <= 0
    assert page.evaluate("(p => p.scrollWidth - p.clientWidth)(document.querySelector('aside'))") <= 0


OUTER = """
import subprocess

@tool
def delegate():
    source = "from pyjama_instrument import agent_session\\nwith agent_session('inner'): input()"
    subprocess.run([sys.executable, "-c", source], stdin=sys.stdin, env=run.env(), check=True)

with agent_session("outer") as run:
    delegate()
"""


def test_a_session_in_another_process_is_a_bar_among_the_spans_and_leads_to_its_page(
    page: Page, dashboard: Dashboard, start_agent: StartAgent
) -> None:
    agent = start_agent(OUTER)
    page.goto(dashboard.url)
    page.locator("#active a", has_text="outer").first.click()
    row = page.locator(".wf-space .wf-row[data-kind=child]", has_text="inner")
    row.wait_for()
    assert row.get_attribute("data-tone") == "live"
    assert row.get_attribute("aria-level") == "3"  # below the call, below the session
    row.click()
    page.get_by_role("link", name="Open this run").click()
    page.locator("h1", has_text="inner").wait_for()
    agent.go()
    page.locator(".session header .badge", has_text="completed").wait_for()
