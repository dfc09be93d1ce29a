"""The page of a session with ten thousand spans, in Chromium: how soon it is ready, and how smoothly it scrolls.

``python -m benchmarks.session_page [--history EVENTS] [--turns N]``, in the environment of ``make test``. Prints one
line a turn. Scrolling goes from the first span to the last and back within six seconds, so that every row of every
frame is a new one.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks.children._stores import Writers, call, ended, session_id, started
from pyjama_instrument.storage.compaction import compact
from pyjama_instrument.storage.store_directory import Store
from pyjama_instrument.viewer import start_dashboard

__all__: list[str] = []

_SPANS = 10_000
_EVENTS_EACH = 40_000
_ARGUMENTS = ["--no-sandbox", "--disable-gpu"]

_SCROLL = """async () => {
  const grid = document.querySelector(".wf");
  const end = grid.scrollHeight - grid.clientHeight;
  const began = performance.now();
  const frames = [];
  let last = began;
  await new Promise((done) => requestAnimationFrame(function step(now) {
    frames.push(now - last);
    last = now;
    const part = (now - began) / 6000;
    grid.scrollTop = end * (part < 0.5 ? 2 * part : 2 - 2 * part);
    if (part < 1) requestAnimationFrame(step);
    else done();
  }));
  frames.sort((a, b) => a - b);
  const at = (share) => frames[Math.min(frames.length - 1, Math.floor(share * frames.length))];
  return { frames: frames.length, p50: at(0.5), p99: at(0.99), worst: at(1) };
}"""


def main() -> None:
    """Make a store, look at it, print."""
    options = _options()
    home = Path(tempfile.mkdtemp(prefix="session-page-"))
    try:
        session = _fill(home, options.history)
        with start_dashboard(0, home=home) as dashboard, sync_playwright() as playwright:
            executable = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
            for _ in range(options.turns):
                _turn(browser, f"{dashboard.url}#/run/{session}")
            browser.close()
    finally:
        shutil.rmtree(home)


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.session_page", description=__doc__)
    parser.add_argument("--history", type=int, default=0, metavar="EVENTS", help="events of other sessions beside it")
    parser.add_argument("--turns", type=int, default=5, metavar="N")
    return parser.parse_args()


def _fill(home: Path, history: int) -> str:
    """A store with the session, and the history of others; the session's id."""
    writers = Writers(home)
    session = session_id()
    for begin in range(0, history, _EVENTS_EACH):
        writers.dead(_run(session_id(), min(_EVENTS_EACH, history - begin)))
    writers.dead(_run(session, _SPANS))
    writers.close()
    store = Store(str(home))
    for _ in range(3):
        compact(store)
    store.close()
    return session


def _run(session: str, calls: int) -> Iterator[bytes]:
    tools = itertools.cycle(("search", "fetch", "parse", "write"))
    yield started("agent", session)
    for tool in itertools.islice(tools, calls):
        yield call("agent", session, tool)
    yield ended("agent", session)


def _turn(browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu_ms() -> float:
        """What the page's main thread has used, whoever else wants the machine."""
        metrics = {entry["name"]: entry["value"] for entry in devtools.send("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"]) * 1000

    began = time.perf_counter()
    page.goto(url)
    page.locator(".wf-space [role=row]").first.wait_for()
    ready, ready_cpu = time.perf_counter() - began, cpu_ms()
    frames = page.evaluate(_SCROLL)
    each = (cpu_ms() - ready_cpu) / frames["frames"]
    nodes = page.evaluate("document.querySelectorAll('*').length")
    context.close()
    print(
        f"ready {ready:.2f} s (page's CPU {ready_cpu:.0f} ms); {frames['frames']} frames,"
        f" median {frames['p50']:.0f} ms, p99 {frames['p99']:.0f} ms, longest {frames['worst']:.0f} ms"
        f" (page's CPU {each:.1f} ms each); {nodes} nodes"
    )


if __name__ == "__main__":
    main()
