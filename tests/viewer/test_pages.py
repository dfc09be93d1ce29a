"""What a person does on the pages: search, filter, sort, open, go back, pause, look back, copy, clear."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyjama_instrument.document import Failure, ToolMetrics
from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.reader import Reader
from pyjama_instrument.shared_metrics import clear_metrics
from pyjama_instrument.viewer import start_dashboard
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve
from tests.viewer.conftest import StartAgent
from tests.viewer.fakes import FakeReader, call_of, data_of, run_of, session_id

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("read", "parse", "ask", "rank")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def call_record(tool: str, at: int, number: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "tool.ended", "ts": at * 1000, "agent": f"agent-{number % 3}", "session": session_id(number % 3),
        "tool": tool, "status": "ok", "duration_ns": 2_000_000, "parent": "p", "span": f"{number:016x}",
    } | fields  # fmt: skip


class Shop:
    """A dashboard over some made-up agents, tools and activity."""

    def __init__(self) -> None:
        began = now_ms()
        self.cleared = 0
        self.reader = FakeReader(
            data_of(
                run_of("agent-0", workflow=["a", "b"], done=1, in_flight=[call_of("ask")], tags={"env": "prod"}),
                run_of("agent-1", "crashed", interrupted=[call_of("ask")], end_time=began - 1000),
                run_of("agent-2", "completed"),
            )
        )
        self.reader.data.timestamp = began
        error = Failure(type="ValueError", message="line 3 makes no sense")
        self.reader.data.metrics.tools = {
            name: ToolMetrics(
                count=10 * at + 1, error=at % 2, total_duration=100.0 * (5 - at), p95_ms=float(at),
                last_error=error if at % 2 else None,
            )
            for at, name in enumerate(NAMES)
        }  # fmt: skip
        self.reader.buckets = {160: 10, 168: 40, 180: 5}
        self.reader.records = [call_record(NAMES[at % 4], began - 60_000 + at * 50, at) for at in range(600)]
        self.dashboard = serve(create_app(lambda: self.reader, store="the-store", clear=self._clear), 0)
        self.url = self.dashboard.url

    def _clear(self) -> None:
        self.cleared += 1

    def record(self, tool: str, **fields: Any) -> None:
        """Something happens."""
        self.reader.records.append(call_record(tool, now_ms(), len(self.reader.records), **fields))
        self.reader.data = self.reader.data.model_copy(update={"timestamp": now_ms()})


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.dashboard.stop()


def tools_in_order(page: Page) -> list[str]:
    return page.locator("#tools-body th bdi").all_text_contents()


# ── from page to page ───────────────────────────────────────────────────────────────────────────────────


def test_the_pages_are_reached_from_the_top_and_the_back_button_goes_back(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.get_by_role("navigation").get_by_role("link", name="Tools").click()
    page.locator("#tools-body tr").first.wait_for()
    page.get_by_role("navigation").get_by_role("link", name="Activity").click()
    page.locator("#entries li").first.wait_for()
    assert page.locator("nav [aria-current=page]").text_content() == "Activity"
    page.go_back()
    page.locator("#tools-body tr").first.wait_for()
    page.go_back()
    page.locator("#active .row").wait_for()


def test_going_back_from_a_run_shows_the_overview_although_nothing_has_changed(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.locator("#active a.name").click()
    page.locator(".session h1").wait_for()
    page.go_back()
    page.locator("#active .row").wait_for()
    page.locator("#totals .tile").first.wait_for()


def test_going_back_comes_back_to_the_row_that_was_opened(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools")
    page.locator("#tools-body a", has_text="parse").click()
    page.locator(".chart svg").first.wait_for()
    page.go_back()
    page.wait_for_function("() => document.activeElement.textContent === 'parse'")


def test_what_a_page_puts_into_its_address_never_reaches_the_next_page(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools?q=parse")
    page.locator("#tools-body tr").first.wait_for()
    # Both in one go: the browser tells of the new address only afterwards.
    page.evaluate("""() => {
        location.hash = "#/activity";
        document.querySelector("th button").click();
    }""")
    page.locator("#entries li").first.wait_for()
    assert page.url.endswith("#/activity")
    page.go_back()
    page.get_by_text("1 of 4").wait_for()
    assert page.url.endswith("#/tools?q=parse")


def test_how_far_a_page_was_scrolled_as_it_was_left_is_not_taken_for_the_next_page_s(page: Page, shop: Shop) -> None:
    page.set_viewport_size({"width": 400, "height": 200})
    page.goto(f"{shop.url}#/tools")
    page.locator("#tools-body tr").first.wait_for()
    page.evaluate("scrollTo(0, 150)")
    page.evaluate("""() => {
        location.hash = "#/activity";
        dispatchEvent(new Event("scroll"));
    }""")
    page.locator("#entries li").first.wait_for()
    page.wait_for_function("() => document.activeElement.id === 'main'")
    assert page.evaluate("document.documentElement.scrollHeight - innerHeight > 150 && scrollY") == 0


# ── the overview ────────────────────────────────────────────────────────────────────────────────────────


def test_a_search_is_in_the_address_and_survives_a_reload(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.locator("#active .row").wait_for()
    page.get_by_role("searchbox").fill("completed")
    page.locator("#active-section").wait_for(state="hidden")
    page.locator("#past tr", has_text="agent-2").wait_for()
    assert page.url.endswith("#/?q=completed")
    page.reload()
    page.locator("#past tr", has_text="agent-2").wait_for()
    assert page.get_by_role("searchbox").input_value() == "completed"
    assert page.locator("#active .row").count() == 0


def test_a_search_that_finds_nothing_says_so(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/?q=nowhere")
    page.get_by_text("No matching runs").wait_for()


def test_a_total_leads_to_the_runs_it_counts(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.locator("#totals a", has_text="1").nth(1).click()  # crashed
    page.locator("#active-section").wait_for(state="hidden")
    page.locator("#attention .row", has_text="agent-1").wait_for()
    assert page.url.endswith("?status=crashed")


def test_runs_are_filtered_by_status(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.get_by_role("group", name="status").get_by_role("link", name="Finished").click()
    page.locator("#attention-section").wait_for(state="hidden")
    page.locator("#past tr", has_text="agent-2").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Finished"  # for who goes on by keyboard


def test_a_crash_is_on_top_when_many_run(page: Page, shop: Shop) -> None:
    runs = [run_of(f"busy-{n}") for n in range(40)]
    shop.reader.data = data_of(*runs, run_of("unlucky", "crashed", interrupted=[call_of("ask")]))
    page.goto(shop.url)
    page.locator("#headline", has_text="unlucky crashed: process died in ask").click()
    page.locator("#attention .row", has_text="unlucky").wait_for()


def test_rows_beyond_the_first_hundred_are_shown_on_demand(page: Page, shop: Shop) -> None:
    shop.reader.data = data_of(*(run_of(f"busy-{n}") for n in range(130)))
    page.goto(shop.url)
    page.get_by_role("button", name="Show 30 more").click()
    page.locator("#active .row").nth(129).wait_for()


def test_calls_of_another_process_draw_a_sparkline(page: Page, own_store: Path, start_agent: StartAgent) -> None:
    with start_dashboard(0) as dashboard:
        page.goto(dashboard.url)
        agent = start_agent("@tool\ndef t(): pass\nwith agent_session('pulse'):\n    gate()\n    t()\n    gate()")
        row = page.locator("#active .row", has_text="pulse")
        row.wait_for()
        agent.go()
        row.locator(".spark path[d*='v-18']").wait_for(state="attached")


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────


def test_tools_are_sorted_by_a_press_on_the_column_and_the_other_way_by_another(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools")
    page.locator("#tools-body tr").first.wait_for()
    assert tools_in_order(page) == ["read", "parse", "ask", "rank"]
    page.get_by_role("button", name="Calls", exact=True).click()
    page.locator("th[aria-sort=descending]", has_text="Calls").wait_for()
    assert tools_in_order(page) == ["rank", "ask", "parse", "read"]
    page.get_by_role("button", name="Calls", exact=True).click()
    page.locator("th[aria-sort=ascending]", has_text="Calls").wait_for()
    assert tools_in_order(page) == ["read", "parse", "ask", "rank"]
    page.reload()
    page.locator("th[aria-sort=ascending]", has_text="Calls").wait_for()


def test_tools_are_searched_also_by_their_errors(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools")
    page.get_by_role("searchbox").fill("no sense")
    page.get_by_text("2 of 4").wait_for()
    assert tools_in_order(page) == ["parse", "rank"]


@pytest.mark.parametrize("name", ["parse", "__proto__", "a/b?c#d&e=f", "<img src=x onerror=alert(1)>", "100% \u202e"])
def test_a_tool_has_a_page_of_its_own_whatever_its_name(page: Page, shop: Shop, name: str) -> None:
    shop.reader.data.metrics.tools[name] = ToolMetrics(count=3, p50_ms=1.0, p95_ms=2.0, p99_ms=3.0)
    shop.reader.records.append(call_record(name, now_ms()))
    page.goto(f"{shop.url}#/tools")
    page.locator("#tools-body a[data-nav]").get_by_text(name, exact=True).click()
    page.locator(".tool-head h2").get_by_text(name, exact=True).wait_for()
    page.locator(".chart svg g").nth(70).wait_for(state="attached")
    page.locator(".wide-log li").first.wait_for()
    page.reload()
    page.locator(".tool-head h2").get_by_text(name, exact=True).wait_for()


def test_a_tool_that_is_not_known_is_said_to_be_unknown(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools/nothing")
    page.get_by_text("No tool has this name").wait_for()


def test_a_tools_calls_lead_to_its_activity(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools/parse")
    page.get_by_role("link", name="All calls of this tool").click()
    page.locator("#entries li").first.wait_for()
    assert set(page.locator("#entries .tool").all_text_contents()) == {"parse"}


# ── activity ────────────────────────────────────────────────────────────────────────────────────────────


def test_activity_appears_as_it_happens(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/activity")
    page.locator("#entries li").first.wait_for()
    shop.record("fresh", status="error", error={"type": "KeyError", "message": "no such key"})
    entry = page.locator("#entries li", has_text="fresh")
    entry.get_by_text("KeyError: no such key").wait_for()
    assert entry.locator("a.agent").get_attribute("href") == f"#/run/{session_id(0)}"


def test_a_crash_is_among_the_activity(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/activity?status=wrong")
    page.locator("#entries li[data-tone=dead]", has_text="agent-1").get_by_text("process died in ask").wait_for()


def test_paused_activity_stands_still_and_says_what_it_holds_back(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/activity")
    page.locator("#entries li").first.wait_for()
    page.keyboard.press("p")
    shop.record("held-back")
    page.get_by_text("paused, 1 new").wait_for()
    assert page.locator("#entries li", has_text="held-back").count() == 0
    page.get_by_role("button", name="Resume").click()
    page.locator("#entries li", has_text="held-back").wait_for()


def test_activity_is_filtered_by_tool_agent_status_and_text(page: Page, shop: Shop) -> None:
    shop.record("ask", status="error", agent="agent-1", error={"type": "E", "message": "the needle"})
    page.goto(f"{shop.url}#/activity")
    page.get_by_role("combobox", name="Tool").fill("ask")
    page.get_by_role("combobox", name="Tool").press("Enter")
    page.get_by_role("combobox", name="Agent").fill("agent-1")
    page.get_by_role("combobox", name="Agent").press("Enter")
    page.get_by_role("searchbox").fill("needle")
    page.wait_for_url(re.compile(r"#/activity\?tool=ask&agent=agent-1&q=needle$"))
    page.wait_for_function("() => document.querySelectorAll('#entries li').length === 1")
    page.get_by_role("group", name="status").get_by_role("link", name="Ok").click()
    page.get_by_text("No matching entries").wait_for()
    page.reload()
    page.get_by_text("No matching entries").wait_for()
    assert page.get_by_role("combobox", name="Agent").input_value() == "agent-1"


def test_older_entries_are_loaded_to_the_very_first(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/activity")
    for known in (200, 400, 600):
        page.locator("#entries li").nth(known - 1).wait_for()
        page.locator("#older").click()
    page.get_by_text("No older entries").wait_for()
    assert page.locator("#entries li").count() == 601  # and a crash


def test_older_entries_come_from_the_history_of_a_real_store(
    page: Page, own_store: Path, start_agent: StartAgent
) -> None:
    start_agent(
        "@tool\ndef t(): pass\n@tool\ndef first(): pass\n"
        "with agent_session('busy'):\n    first()\n    [t() for _ in range(500)]\n    gate()"
    )
    with start_dashboard(0) as dashboard:
        page.goto(f"{dashboard.url}#/activity")
        page.locator("#entries li").nth(199).wait_for()
        while page.locator("#entries li", has_text="first").count() == 0:
            page.locator("#older").click()
            page.locator("#older:not([aria-busy])").wait_for(state="attached")  # the answer is drawn


# ── keyboard ────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_walked_and_opened_by_keyboard(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.locator("#past tr").wait_for()
    for keys, agent in (("j", "agent-0"), ("j", "agent-1"), ("j", "agent-2"), ("j", "agent-2"), ("k", "agent-1")):
        page.keyboard.press(keys)
        assert page.evaluate("document.activeElement.textContent") == agent
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"#/run/{session_id(1)}$"))
    page.locator(".session").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile("#/$"))


def test_the_search_is_reached_and_left_by_keyboard(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/tools")
    page.locator("#tools-body tr").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("jjk?")
    assert page.get_by_role("searchbox").input_value() == "jjk?"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") != "INPUT"
    page.keyboard.press("3")
    page.locator("#entries li").first.wait_for()


def test_a_question_mark_shows_the_keys_and_escape_hides_them(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.locator("#active .row").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def test_escape_closes_the_list_of_keys_and_not_the_page_behind_it(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/run/{session_id(0)}")
    page.locator("#page h1, #page h2").first.wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert "#/run/" in page.url


def test_the_first_tab_stop_skips_to_the_content(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.locator("#active .row").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


# ── copying and clearing ────────────────────────────────────────────────────────────────────────────────


def test_the_lines_to_start_with_are_copied(page: Page, shop: Shop) -> None:
    shop.reader.data = data_of()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(shop.url)
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("from pyjama_instrument import tool")


def test_the_data_are_copied_as_json(page: Page, shop: Shop) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(shop.url)
    page.get_by_role("button", name="Copy JSON").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert (
        page.evaluate("navigator.clipboard.readText().then((text) => Object.keys(JSON.parse(text).agents).length)") == 3
    )


def test_clearing_asks_first(page: Page, shop: Shop) -> None:
    page.goto(shop.url)
    page.get_by_role("button", name="Clear…").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").wait_for(state="hidden")
    assert shop.cleared == 0
    page.get_by_role("button", name="Clear…").click()
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("dialog").wait_for(state="hidden")
    assert shop.cleared == 1


def test_a_store_that_cannot_be_cleared_is_said_to_be_uncleared(page: Page, shop: Shop, complaints: list[str]) -> None:
    def fail() -> None:
        raise StoreUnavailable("the disk is read-only")

    shop.dashboard.stop()
    shop.dashboard = serve(create_app(lambda: shop.reader, clear=fail), 0)
    page.goto(shop.dashboard.url)
    page.get_by_role("button", name="Clear…").click()
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_text("Not cleared: The store cannot be cleared: the disk is read-only").wait_for()
    complaints.remove(next(text for text in complaints if "503" in text))


def test_without_the_means_nothing_can_be_cleared(page: Page, shop: Shop) -> None:
    shop.dashboard.stop()
    shop.dashboard = serve(create_app(lambda: shop.reader), 0)
    page.goto(shop.dashboard.url)
    page.locator("#active .row").wait_for()
    assert page.locator("#clear").is_hidden()


def test_a_real_store_is_cleared_from_the_page(page: Page, own_store: Path, start_agent: StartAgent) -> None:
    start_agent("@tool\ndef t(): pass\nwith agent_session('busy'):\n    t()\n    gate()")
    with start_dashboard(0, clear=clear_metrics) as dashboard:
        page.goto(dashboard.url)
        page.locator("#active .row", has_text="1 call").wait_for()
        page.get_by_role("button", name="Clear…").click()
        page.get_by_role("button", name="Clear", exact=True).click()
        page.locator("#active .row", has_text="0 calls").wait_for()
    assert Reader(own_store).dashboard().metrics.global_.count == 0


# ── staying current ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("address", ["#/", "#/tools", "#/tools/parse", "#/activity"])
def test_every_page_comes_back_with_its_server(page: Page, shop: Shop, address: str) -> None:
    page.goto(f"{shop.url}{address}")
    page.locator("#link[data-state=live]").wait_for()
    shop.dashboard.stop()
    page.locator("#gone").wait_for(state="visible")
    shop.dashboard = serve(create_app(lambda: shop.reader), shop.dashboard.port)
    page.locator("#link[data-state=live]").wait_for()
    page.locator("#gone").wait_for(state="hidden")


def test_times_say_the_exact_moment_on_hover(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}#/activity")
    when = page.locator("#entries .when").first
    when.wait_for()
    assert "ago" in (when.text_content() or "")
    assert re.search(r"\d{4}", when.get_attribute("title") or "")


@pytest.mark.parametrize("address", ["#/", "#/tools", "#/tools/parse", "#/activity"])
@pytest.mark.parametrize("width", [320, 760, 1400])
def test_no_page_sticks_out_sideways(page: Page, shop: Shop, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{shop.url}{address}")
    page.locator("#link[data-state=live]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


# ── addresses that lead nowhere, and figures that are long ──────────────────────────────────────────────


@pytest.mark.parametrize(
    "address",
    [
        "#/tool/chat",
        "#/nosuchpage",
        "#/session",
        "#/session/",
        "#/activity/x",
        "#/overview/x",
        "#/constructor",
        "#/tools/%",
    ],
)
def test_an_address_that_leads_nowhere_says_so(page: Page, shop: Shop, address: str) -> None:
    page.goto(shop.url + address)
    page.get_by_text("Page not found").wait_for()
    assert page.locator("#missing code").text_content() == address
    assert page.locator("#totals").count() == 0
    page.locator("#missing a", has_text="Overview").click()
    page.locator("#totals").wait_for()


def test_an_address_that_leads_nowhere_says_so_on_an_empty_store_too(page: Page, shop: Shop) -> None:
    shop.reader.data = data_of()
    page.goto(f"{shop.url}#/nosuchpage")
    page.get_by_text("Page not found").wait_for()
    assert page.locator("#empty").is_hidden()


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_no_figure_is_wider_than_its_tile(page: Page, shop: Shop, width: int) -> None:
    shop.reader.data.metrics.tools["read"] = ToolMetrics(
        count=123_456_789, error=12_345_678, success_rate=0.9, avg_duration_ms=15 * 60_000.0, total_duration=9e11,
        p50_ms=900_000.0, p95_ms=7_500_000.0, p99_ms=90_000_000.0,
    )  # fmt: skip
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{shop.url}#/tools/read")
    page.locator(".tile", has_text="total time").get_by_text("10,416 d 16 h").wait_for()
    assert (
        page.evaluate(
            "() => [...document.querySelectorAll('.tile')].filter((tile) => { const range = document.createRange();"
            " range.selectNodeContents(tile.querySelector('dd'));"
            " return range.getBoundingClientRect().right > tile.getBoundingClientRect().right; })"
            ".map((tile) => tile.textContent)"
        )
        == []
    )
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
