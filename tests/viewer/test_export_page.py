"""The exported page and the output of notebooks, in a real browser: opened from a file, nothing is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyjama_instrument.export import FORMATS, export
from pyjama_instrument.reader import get_dashboard_data, load_session
from tests.stores import SESSION, a_call, call_begins, dead_journal, session_begins, step_begins

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from pyjama_instrument.viewer import Dashboard

HOSTILE = "</style></script><script>document.title='run'</script><img src=http://127.0.0.1:9/x onerror=\"alert(1)\">"


@pytest.fixture
def asked_for(page: Page) -> list[str]:
    """What the page asked for beyond itself."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("file:") else None)
    return asked


@pytest.fixture
def store(own_store: Path) -> Path:
    error = {"type": HOSTILE, "message": HOSTILE, "traceback": [HOSTILE]}
    call = a_call(HOSTILE, parent="1" * 16, status="error", error=error, arguments={HOSTILE: HOSTILE})
    calls = [call, *[a_call("fine", parent="1" * 16) for _ in range(5)], call_begins("lost", parent="1" * 16)]
    dead_journal(own_store, session_begins(tags={HOSTILE: HOSTILE}), step_begins("fetch", "1" * 16), *calls)
    return own_store


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_a_file_and_asks_for_nothing(
    scheme: str, page: Page, store: Path, tmp_path: Path, asked_for: list[str]
) -> None:
    path = tmp_path / "run.html"
    path.write_bytes(b"".join(export(store, SESSION, "html")))
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(path.as_uri())
    assert page.title().startswith("researcher")
    assert page.locator("details, .leaf").count() == 9
    assert page.locator("img, script").count() == 0
    assert asked_for == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(17, 17, 24)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_the_style_of_the_page_is_in_force_and_a_span_can_be_folded(page: Page, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_bytes(b"".join(export(store, SESSION, "html")))
    page.goto(path.as_uri())
    assert page.locator(".row").first.evaluate("node => getComputedStyle(node).display") == "grid"
    lost = page.locator(".leaf", has_text="lost")
    assert lost.is_visible()
    page.locator("summary", has_text="fetch").click()
    assert not lost.is_visible()


@pytest.mark.parametrize("place", ["", f"#/run/{SESSION}"], ids=["everything", "a session"])
def test_the_links_on_the_page_download_what_the_library_exports(
    place: str, page: Page, store: Path, dashboard: Dashboard, tmp_path: Path
) -> None:
    page.goto(dashboard.url + place)
    links = page.locator(".exports a")
    links.first.wait_for()
    assert links.count() == len(FORMATS)
    seen = set()
    for link in links.all():
        with page.expect_download() as download:
            link.click()
        assert download.value.failure() is None
        name = download.value.suggested_filename
        ending = next(ending for ending in {made.ending for made in FORMATS.values()} - seen if name.endswith(ending))
        seen.add(ending)
        download.value.save_as(tmp_path / name)
        if ending == ".jsonl":
            assert (tmp_path / name).read_bytes() == b"".join(export(store, SESSION if place else None, "jsonl"))
        if ending == ".html":
            assert b"fetch" in (tmp_path / name).read_bytes()


def test_the_output_in_a_notebook_shows_names_and_runs_nothing(
    page: Page, store: Path, tmp_path: Path, asked_for: list[str]
) -> None:
    shown = get_dashboard_data()._repr_html_() + load_session(SESSION)._repr_html_()
    path = tmp_path / "notebook.html"
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><title>cell</title>{shown}')
    page.goto(path.as_uri())
    assert page.title() == "cell"
    assert page.locator("bdi", has_text="<script>").count() >= 2
    assert page.locator("img, script").count() == 0
    assert asked_for == []
