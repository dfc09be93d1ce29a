"""What axe-core has to say about every page, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve
from tests.viewer.fakes import FakeReader, session_id
from tests.viewer.test_pages import Shop

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
GRAVE = ("serious", "critical")
PAGES = [
    "#/",
    "#/?status=wrong",
    "#/tools",
    "#/tools/parse",
    "#/tools/none",
    "#/activity",
    f"#/run/{session_id(1)}",
]


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.dashboard.stop()


def grave_findings(page: Page) -> list[str]:
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", PAGES)
def test_a_page_has_no_serious_finding(page: Page, shop: Shop, address: str, scheme: str) -> None:
    shop.record("fails", status="error", error={"type": "KeyError", "message": "no such key"})
    shop.reader.data.health.notes = ["metrics.json cannot be read"]
    shop.reader.data.health.torn = 1
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two literals
    page.goto(f"{shop.url}{address}")
    page.locator("#link[data-state=live]").wait_for()
    page.wait_for_function("() => document.getElementById('page').textContent.length > 40")
    assert grave_findings(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_empty_page_has_no_serious_finding(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two literals
    with serve(create_app(FakeReader), 0) as dashboard:
        page.goto(dashboard.url)
        page.get_by_text("Nothing recorded yet").wait_for()
        assert grave_findings(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["Keyboard shortcuts", "Delete totals and finished runs?"])
def test_a_dialog_has_no_serious_finding(page: Page, shop: Shop, name: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two literals
    page.goto(shop.url)
    page.locator("#active .row").wait_for()
    page.get_by_role("button", name="Keyboard shortcuts" if name.startswith("Key") else "Clear…").click()
    page.get_by_role("dialog", name=name).wait_for()
    assert grave_findings(page) == []


def test_nothing_moves_for_those_who_asked_for_it(page: Page, shop: Shop) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(shop.url)
    page.locator("#active .bar div").first.wait_for(state="attached")
    moving = (
        "[...document.querySelectorAll('*')].filter((node) => parseFloat(getComputedStyle(node).transitionDuration))"
    )
    assert page.evaluate(f"{moving}.length") == 0
