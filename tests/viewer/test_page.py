"""The page in a real browser, with agents that run in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pyjama_instrument.document import Failure, LogEntry, ToolMetrics
from pyjama_instrument.viewer import Dashboard
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve
from tests.viewer.conftest import StartAgent
from tests.viewer.fakes import HOSTILE, FakeReader, call_of, data_of, run_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WORKER = """
@tool
def search():
    gate()

@tool
def parse():
    raise ValueError("line 3 makes no sense")

with agent_session("crawler", workflow=["discover", "analyze", "report"]) as run:
    with run.step("discover"):
        search()
    with run.step("analyze"):
        try:
            parse()
        except ValueError:
            pass
        search()
    with run.step("report"):
        search()
"""


def active(page: Page, agent: str) -> Locator:
    return page.locator("#active .row", has_text=agent)


def wrong(page: Page, agent: str) -> Locator:
    return page.locator("#attention .row", has_text=agent)


def live(page: Page) -> None:
    page.locator("#link[data-state=live]").wait_for()


# ── live ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_store_shows_the_lines_to_start_with(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.url)
    page.get_by_text("from pyjama_instrument import tool").wait_for()
    live(page)
    assert page.locator("#columns").is_hidden()


def test_an_agent_of_another_process_appears_steps_forward_and_ends(
    page: Page, dashboard: Dashboard, start_agent: StartAgent
) -> None:
    page.goto(dashboard.url)
    live(page)
    agent = start_agent(WORKER)
    row = active(page, "crawler")
    row.get_by_text("0/3").wait_for()
    row.locator(".call", has_text="search").wait_for()
    assert page.locator("#empty").is_hidden()
    agent.go()
    row.get_by_text("1/3").wait_for()
    row.locator('.chip[data-state=done][title="discover: done"]').wait_for()
    agent.go()
    row.get_by_text("2/3").wait_for()
    agent.go()
    page.locator("#past tr", has_text="crawler").get_by_text("completed").wait_for()
    assert active(page, "crawler").count() == 0


def test_a_tool_that_fails_is_counted_and_logged(page: Page, dashboard: Dashboard, start_agent: StartAgent) -> None:
    page.goto(dashboard.url)
    live(page)
    start_agent(WORKER).go()
    page.locator("#tools tr", has_text="parse").locator(".errors", has_text="1").wait_for()
    page.locator("#log li", has_text="parse").get_by_text("error", exact=True).first.wait_for()
    active(page, "crawler").get_by_text("1 error").wait_for()


def test_a_killed_agent_turns_crashed_and_names_its_tool(
    page: Page, dashboard: Dashboard, start_agent: StartAgent
) -> None:
    page.goto(dashboard.url)
    live(page)
    agent = start_agent(WORKER)
    active(page, "crawler").locator(".call", has_text="search").wait_for()
    agent.kill()
    wrong(page, "crawler").get_by_text("process died in search").wait_for()
    wrong(page, "crawler").locator(".badge", has_text="crashed").wait_for()
    assert page.title() == "1 crashed · pyjama"


def test_an_agent_that_fails_says_why(page: Page, dashboard: Dashboard, start_agent: StartAgent) -> None:
    page.goto(dashboard.url)
    start_agent(
        "with agent_session('careless'):\n    try:\n        gate()\n    finally:\n        {}['no such key']\n"
    ).go()
    wrong(page, "careless").get_by_text("KeyError: 'no such key'").wait_for()


def test_two_processes_of_one_agent_are_two_rows(page: Page, dashboard: Dashboard, start_agent: StartAgent) -> None:
    page.goto(dashboard.url)
    first, second = start_agent(WORKER), start_agent(WORKER)
    for agent in (first, second):
        active(page, f"pid {agent.process.pid}").wait_for()
    first.kill()
    wrong(page, f"pid {first.process.pid}").wait_for()
    assert active(page, f"pid {second.process.pid}").count() == 1


def test_the_page_opened_after_a_crash_shows_it(page: Page, dashboard: Dashboard, start_agent: StartAgent) -> None:
    agent = start_agent(WORKER)
    page.goto(dashboard.url)
    active(page, "crawler").locator(".call").wait_for()
    agent.kill()
    page.goto("about:blank")
    page.goto(dashboard.url)
    wrong(page, "crawler").get_by_text("process died in search").wait_for()


# ── names from outside ──────────────────────────────────────────────────────────────────────────────────


class FakeDashboard:
    """A dashboard over made-up data that a test may change."""

    def __init__(self) -> None:
        self.reader = FakeReader(data_of(run_of("one", workflow=["a", "b"], done=1, in_flight=[call_of("t")])))
        self.dashboard = serve(create_app(lambda: self.reader), 0)

    @property
    def url(self) -> str:
        return self.dashboard.url


@pytest.fixture
def fake() -> Iterator[FakeDashboard]:
    fake = FakeDashboard()
    yield fake
    fake.dashboard.stop()


def hostile_reader() -> FakeReader:
    statuses = ("running", "crashed", "failed", "completed")
    runs = [
        run_of(
            name,
            status,
            workflow=HOSTILE,
            done=3,
            tags={name: name},
            attributes={name: name},
            host=name,
            in_flight=[call_of(name, span=name)],
            interrupted=[call_of(name)],
            error=Failure(type=name, message=name),
        )
        for name in HOSTILE
        for status in statuses
    ]
    data = data_of(*runs)
    data.metrics.tools = {name: ToolMetrics(count=1, last_error=Failure(type=name, message=name)) for name in HOSTILE}
    data.recent_logs = [LogEntry(timestamp=1, agent_id=name, tool=name, status=name) for name in HOSTILE]
    data.health.notes = list(HOSTILE)[:5]
    return FakeReader(data)


def test_hostile_names_are_text_and_nothing_else(page: Page, fake: FakeDashboard) -> None:
    fake.reader.data = hostile_reader().data
    page.goto(fake.url)
    live(page)
    page.locator("#active .row").nth(len(HOSTILE) - 1).wait_for()
    names = page.locator("#active .name bdi").all_text_contents()
    assert "<img src=x onerror=document.title='owned'>" in names
    assert "__proto__" in names
    assert "owned" not in page.title()
    assert page.evaluate("document.querySelectorAll('img').length") == 1  # the logo
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_policy_stops_a_script_that_got_in_all_the_same(
    page: Page, fake: FakeDashboard, complaints: list[str]
) -> None:
    page.goto(fake.url)
    live(page)
    violations = page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            const button = document.createElement("button");
            button.setAttribute("onclick", "document.title = 'owned'");
            document.body.append(button);
            button.click();
        })"""
    )
    assert violations == "script-src-attr"
    assert page.title() != "owned"
    assert "Content Security Policy" in complaints.pop()


# ── staying current ─────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_updated_in_place(page: Page, fake: FakeDashboard) -> None:
    page.goto(fake.url)
    row = page.locator("#active .row")
    row.get_by_text("1/2").wait_for()
    row.evaluate("node => node.mark = 'the same node'")
    fake.reader.data = data_of(run_of("one", workflow=["a", "b"], done=1, calls=77), run_of("two"))
    page.get_by_text("77 calls").wait_for()
    active(page, "two").wait_for()
    assert active(page, "one").evaluate("node => node.mark") == "the same node"


def test_a_server_that_is_gone_is_announced_and_its_return_too(page: Page, fake: FakeDashboard) -> None:
    page.goto(fake.url)
    live(page)
    fake.dashboard.stop()
    page.locator("#gone").wait_for(state="visible")
    assert active(page, "one").count() == 1
    fake.dashboard = serve(create_app(lambda: fake.reader), fake.dashboard.port)
    page.locator("#gone").wait_for(state="hidden")
    fake.reader.data = data_of(run_of("after the restart"))
    active(page, "after the restart").wait_for()


def test_without_a_stream_the_page_polls(page: Page, fake: FakeDashboard) -> None:
    page.route("**/api/stream?*", lambda route: route.abort())
    page.goto(fake.url)
    page.locator("#link[data-state=polling]").wait_for()
    fake.reader.data = data_of(run_of("polled"))
    active(page, "polled").wait_for()


def test_times_tick_without_news_from_the_server(page: Page, fake: FakeDashboard) -> None:
    page.goto(fake.url)
    time = page.locator("#active .call .faint")
    time.wait_for()
    before = time.text_content()
    page.wait_for_function(
        "before => document.querySelector('#active .call .faint').textContent !== before", arg=before
    )


def test_damaged_data_are_announced(page: Page, fake: FakeDashboard) -> None:
    page.goto(fake.url)
    live(page)
    fake.reader.error = OSError("the disk is on fire")
    page.locator("#notes").get_by_text("the disk is on fire").wait_for()
    assert active(page, "one").count() == 1
    fake.reader.error = None
    page.locator("#notes .note").wait_for(state="detached")


@pytest.mark.parametrize("width", [320, 720, 1180, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_sideways(page: Page, fake: FakeDashboard, width: int, scheme: str) -> None:
    fake.reader.data = hostile_reader().data
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two literals
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(fake.url)
    live(page)
    page.locator("#active .row").nth(len(HOSTILE) - 1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("width", [320, 390, 720, 1181, 1280])
def test_long_figures_stay_within_their_tiles(page: Page, fake: FakeDashboard, width: int) -> None:
    overall = fake.reader.data.metrics.global_
    overall.count, overall.error, overall.calls_per_second = 12_345_678, 345_678, 12_345.0
    overall.p50_ms, overall.p95_ms, overall.p99_ms = 185_000.0, 3_700_000.0, 9_000_000.0
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(fake.url)
    page.locator("#totals").get_by_text("12,345,678").wait_for()
    beyond = "tiles => tiles.filter(tile => tile.scrollWidth > tile.clientWidth).map(tile => tile.textContent)"
    assert page.locator("#totals .tile").evaluate_all(beyond) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
