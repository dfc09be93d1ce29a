"""A real browser on a real dashboard, and agents in processes of their own.

Without a Chromium the tests are skipped and say why; in CI (``CI`` set) that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from pyjama_instrument.viewer import Dashboard, start_dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def no_browser(reason: str) -> NoReturn:
    """Skip where a browser may be missing; fail where it must not."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"no browser test may be left out here: {reason}", pytrace=False)
    pytest.skip(reason)


# One browser for a module, not for the session: while Playwright runs, its event loop counts as running in this
# thread, and asyncio.run() in other tests would be refused.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        no_browser(f"Playwright is not installed ({error})")
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        no_browser("no Chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def dashboard(own_store: Path) -> Iterator[Dashboard]:
    """A dashboard over the test's own store."""
    with start_dashboard(0) as dashboard:
        yield dashboard


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about; must be empty when the test ends."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """An empty page. At the end nothing must have been complained about: no error, no policy violation."""

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def dismiss(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)  # a hang guard
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", hear)
    page.on("dialog", dismiss)
    yield page
    context.close()
    # A server that was stopped on purpose, or a run that is not there, is said by the browser as well.
    expected = ("net::ERR_", "status of 404")
    assert [text for text in complaints if not any(part in text for part in expected)] == []


class Agent:
    """A program in a process of its own that goes on by one ``gate()`` each time ``go()`` is called."""

    PRELUDE = "import sys\nfrom pyjama_instrument import agent_session, tool\ndef gate():\n    sys.stdin.readline()\n"

    def __init__(self, source: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", self.PRELUDE + source, *args], stdin=subprocess.PIPE, text=True
        )

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass


StartAgent = Callable[..., Agent]


@pytest.fixture
def start_agent(own_store: Path) -> Iterator[StartAgent]:
    agents: list[Agent] = []

    def start(source: str, *args: str) -> Agent:
        agents.append(Agent(source, *args))
        return agents[-1]

    yield start
    for agent in agents:
        agent.close()
