"""Take the pictures of the documentation from the running demo: ``make screenshots``.

The demo records into its own store. Each picture is taken in the light and in the dark colour scheme.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

__all__: list[str] = []

_IMAGES = Path(__file__).resolve().parent / "images"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Run the demo and take the pictures: the overview while agents run, the other pages when they have finished."""
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        sys.exit("make screenshots needs Chromium")
    _IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyjama-screenshots-") as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        demo = subprocess.Popen(
            [sys.executable, "-m", "pyjama_instrument", "demo", "--port", "0"],
            env=os.environ | {"PYJAMA_HOME": f"{home}/.pyjama", "HOME": home, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert demo.stdout is not None
            address = re.search(r"http://\S+", demo.stdout.readline())
            assert address is not None
            _take(browser, address[0])
        finally:
            demo.terminate()
            demo.wait()
            browser.close()


def _take(browser: Browser, address: str) -> None:
    pages = {
        scheme: browser.new_page(viewport={"width": 1400, "height": 860}, color_scheme=scheme, device_scale_factor=1)
        for scheme in ("light", "dark")
    }
    for page in pages.values():
        page.set_default_timeout(120_000)
        page.goto(address)
    for scheme, page in pages.items():
        page.locator("#attention .row").nth(1).wait_for()  # one has failed, one was killed, others still run
        page.screenshot(path=_IMAGES / _name("dashboard", scheme))
    for scheme, page in pages.items():
        page.locator("#attention .row", has_text="crashed").locator("a").first.click()
        page.locator(".wf-space [role=row]").first.wait_for()
        page.screenshot(path=_IMAGES / _name("session", scheme))
        page.goto(f"{address}#/tools")
        page.locator("#tools-body tr").first.wait_for()
        page.screenshot(path=_IMAGES / _name("tools", scheme))
        page.locator("#tools-body a[data-nav]").first.click()
        page.locator(".chart svg").first.wait_for()
        page.screenshot(path=_IMAGES / _name("tool", scheme))
        page.goto(f"{address}#/activity")
        page.locator("#entries li").first.wait_for()
        page.screenshot(path=_IMAGES / _name("activity", scheme))


def _name(name: str, scheme: str) -> str:
    return f"{name}.png" if scheme == "light" else f"{name}-dark.png"


if __name__ == "__main__":
    main()
