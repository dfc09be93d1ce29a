"""Text from outside that tries to become markup or code: it stays text, on every page, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from pyjama_instrument.document import Failure, LogEntry, StepSummary, ToolMetrics
from pyjama_instrument.viewer import Dashboard
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve
from tests.viewer.fakes import FakeReader, call_of, data_of, run_of, session_id

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUN = "window.owned=1"

PAYLOADS = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<SCRIPT SRC=//127.0.0.1/x.js>{RUN}</SCRIPT>",
    f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    f"<img src=x onerror={RUN}>",
    f"<img src=x onerror='{RUN}'//",
    f"<img/src/onerror={RUN}>",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<svg><set attributeName=onmouseover to={RUN}>",
    f"<svg><a xlink:href='javascript:{RUN}'><text y=9>x</text></a></svg>",
    f"<math><mi xlink:href='data:text/html,<script>{RUN}</script>'>x",
    f"<body onload={RUN}>",
    f"<iframe src='javascript:{RUN}'>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<object data='javascript:{RUN}'>",
    f"<embed src='javascript:{RUN}'>",
    f"<a href='javascript:{RUN}'>x</a>",
    f"<form action='javascript:{RUN}'><button>x</button></form>",
    f"<button formaction='javascript:{RUN}'>x</button>",
    f"<input autofocus onfocus={RUN}>",
    f"<select autofocus onfocus={RUN}>",
    f"<details open ontoggle={RUN}>",
    f"<video><source onerror={RUN}></video>",
    f"<audio src=x onerror={RUN}>",
    f"<marquee onstart={RUN}>",
    f"<style>@import 'javascript:{RUN}';</style>",
    "<style>*{background:url('http://127.0.0.1:9/owned')}</style>",
    "<link rel=stylesheet href=http://127.0.0.1:9/owned.css>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/owned'>",
    "<base href=http://127.0.0.1:9/>",
    f"<template><script>{RUN}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
    f"<textarea></textarea><img src=x onerror={RUN}>",
    f"<title></title><img src=x onerror={RUN}>",
    f"<!--><img src=x onerror={RUN}>-->",
    f"<![CDATA[<script>{RUN}</script>]]>",
    f"javascript:{RUN}",
    f"data:text/html,<script>{RUN}</script>",
    f"'-{RUN}-'",
    f'";{RUN};//',
    f"${{{RUN}}}",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f'" onmouseover="{RUN}" x="',
    f"' autofocus onfocus='{RUN}' x='",
    f"x\u2028{RUN}\u2029",
    f"\u003cscript\u003e{RUN}\u003c/script\u003e\x00",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "toString",
    "\u202e>tpircs<",
)


def hostile() -> FakeReader:
    """Every payload as agent, tool, step, error, tag, attribute, host and note."""
    now = time.time_ns() // 1_000_000
    statuses = ("running", "crashed", "failed", "completed")
    runs = [
        run_of(
            text, statuses[at % 4], workflow=[text, "last"], done=1, host=text, current_step=text,
            steps=[StepSummary(step_id=text, status=text, start_time=now)], tags={text: text},
            attributes={text: {text: text}}, in_flight=[call_of(text, span=text)],
            interrupted=[call_of(text)], error=Failure(type=text, message=text),
        )
        for at, text in enumerate(PAYLOADS)
    ]  # fmt: skip
    data = data_of(*runs)
    data.timestamp = now
    data.metrics.tools = {
        text: ToolMetrics(count=1, error=1, p50_ms=1.0, last_error=Failure(type=text, message=text))
        for text in PAYLOADS
    }
    data.recent_logs = [LogEntry(timestamp=now, agent_id=text, tool=text, status=text) for text in PAYLOADS]
    data.health.notes = list(PAYLOADS[:10])
    data.health.dropped = dict.fromkeys(PAYLOADS[10:20], 1)
    data.health.overflow = dict.fromkeys(PAYLOADS[20:30], 1)
    reader = FakeReader(data)
    reader.buckets = {100: 1}
    reader.records = [
        {
            "kind": kind, "ts": now * 1000 - at, "agent": text, "session": session_id(at), "tool": text, "step": text,
            "status": text, "duration_ns": 1, "error": {"type": text, "message": text},
        }
        for at, text in enumerate(PAYLOADS)
        for kind in ("tool.ended", "step.ended", "session.ended", "activity")
    ]  # fmt: skip
    return reader


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    reader = hostile()
    with serve(create_app(lambda: reader, store=PAYLOADS[0], clear=lambda: None), 0) as dashboard:
        yield dashboard


def watch(page: Page) -> list[str]:
    """Requests to anybody else, and policy violations (which the console reports too)."""
    strangers: list[str] = []
    page.on("request", lambda request: strangers.append(request.url))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => (window.violated = event.effectiveDirective))"
    )
    return strangers


def unharmed(page: Page, dashboard: Dashboard, requested: list[str]) -> None:
    assert page.evaluate("window.owned") is None
    assert page.evaluate("window.violated") is None
    assert page.evaluate("({}).key") is None
    foreign = "iframe, object, embed, base, form:not([method=dialog]), meta[http-equiv], style, marquee, math, video"
    assert page.locator(foreign).count() == 0
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 1  # the logo
    odd = "[...document.querySelectorAll('*')].some((node) => [...node.attributes].some((one) => /^on/.test(one.name)))"
    assert page.evaluate(odd) is False
    assert page.evaluate("[...document.links].every((link) => link.protocol === 'http:')")
    assert [url for url in requested if not url.startswith(dashboard.url)] == []


def test_there_are_enough_of_them() -> None:
    assert len(set(PAYLOADS)) >= 40


def test_none_runs_on_the_overview(page: Page, dashboard: Dashboard) -> None:
    requested = watch(page)
    page.goto(f"{dashboard.url}#/?show=500")
    page.locator("#active .row").first.wait_for()
    shown = "\n".join(page.locator("#page bdi").all_text_contents())
    assert [text for text in PAYLOADS if " ".join(text.split()) not in shown] == []
    for row in page.locator("#page [title]").all()[:60]:
        row.dispatch_event("mouseover")
    unharmed(page, dashboard, requested)


def test_none_runs_on_the_tools_page(page: Page, dashboard: Dashboard) -> None:
    requested = watch(page)
    page.goto(f"{dashboard.url}#/tools")
    page.locator("#tools-body tr").nth(len(PAYLOADS) - 1).wait_for()
    unharmed(page, dashboard, requested)


def test_none_runs_on_the_activity_page(page: Page, dashboard: Dashboard) -> None:
    requested = watch(page)
    page.goto(f"{dashboard.url}#/activity")
    page.locator("#entries li").nth(150).wait_for()
    unharmed(page, dashboard, requested)


@pytest.mark.parametrize("start", range(0, len(PAYLOADS), 9))
def test_none_runs_on_the_page_of_a_tool_or_a_run_or_out_of_the_address(
    page: Page, dashboard: Dashboard, start: int
) -> None:
    requested = watch(page)
    page.goto(dashboard.url)
    for at, text in list(enumerate(PAYLOADS))[start : start + 9]:
        page.goto(f"{dashboard.url}#/tools/{quote(text, safe='')}")
        page.locator(".tool-head h2 bdi", has_text=" ".join(text.split())[:20]).wait_for()
        page.goto(f"{dashboard.url}#/activity?q={quote(text, safe='')}&tool={quote(text, safe='')}&agent=%22{RUN}")
        page.locator("#entries").wait_for(state="attached")
        page.goto(f"{dashboard.url}#/run/{session_id(at)}")
        page.locator("#page :is(h1, h2) bdi", has_text=" ".join(text.split())[:20]).first.wait_for()
    unharmed(page, dashboard, requested)
