"""The page below a path, behind a reverse proxy that strips it: everything it asks for and leads to is relative."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyjama_instrument.viewer import Dashboard, start_dashboard
from tests.viewer.conftest import StartAgent

if TYPE_CHECKING:
    from playwright.sync_api import Page

PREFIX = "/user/ann/proxy/8080"
TOKEN = "a-token-of-22-letters-and-more"


class StrippingProxy(ThreadingHTTPServer):
    """Passes on what is below ``PREFIX``, without it, and knows of nothing else."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.refused: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: StrippingProxy

    def do_GET(self) -> None:
        if not self.path.startswith(f"{PREFIX}/"):
            self.server.refused.append(self.path)
            self.send_error(404)
            return
        length = int(self.headers.get("Content-Length", 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            path, body = self.path.removeprefix(PREFIX), self.rfile.read(length)
            connection.request(self.command, path, body, {**self.headers, "Connection": "close"})
            answer = connection.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            while data := answer.read1(65536):
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:
            pass  # one of both has hung up
        finally:
            connection.close()

    do_POST = do_GET  # noqa: N815  # as the base has it

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def cleared() -> list[bool]:
    return []


@pytest.fixture
def behind(own_store: Path, cleared: list[bool]) -> Iterator[Dashboard]:
    with start_dashboard(0, token=TOKEN, clear=lambda: cleared.append(True)) as dashboard:
        yield dashboard


@pytest.fixture
def proxy(behind: Dashboard) -> Iterator[StrippingProxy]:
    with StrippingProxy(behind.port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_page_works_below_a_path_that_the_proxy_strips(
    page: Page, proxy: StrippingProxy, start_agent: StartAgent, cleared: list[bool]
) -> None:
    start_agent(
        "@tool\ndef fetch(): pass\nwith agent_session('crawler'):\n    while True:\n        fetch()\n        gate()"
    )
    address = f"http://127.0.0.1:{proxy.server_address[1]}{PREFIX}/"
    page.goto(f"{address}?token={TOKEN}")
    page.locator("#active .name", has_text="crawler").wait_for()
    assert page.url == address
    page.wait_for_selector("#link[data-state=live]")  # the stream goes through as well

    page.locator("#active .name").click()
    page.locator(".wf-row", has_text="fetch").first.click()
    page.locator(".wf-area dt", has_text="took").first.wait_for()
    page.locator("#nav a", has_text="Tools").click()
    page.locator("#page a", has_text="fetch").first.click()
    page.locator("#nav a", has_text="Activity").click()
    page.locator("#page .tool", has_text="fetch").first.wait_for()
    assert page.url == f"{address}#/activity"

    page.goto(address)
    with page.expect_download() as download:
        page.locator("a[download]", has_text="JSON Lines").first.click()
    assert b"fetch" in Path(download.value.path()).read_bytes()
    page.locator("#clear").click()
    page.locator("#confirm-yes").click()
    page.wait_for_function("() => !document.getElementById('confirm').open")
    assert cleared == [True]
    assert [path for path in proxy.refused if path != "/favicon.ico"] == []
