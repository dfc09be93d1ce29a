"""The overview in Chromium: how soon it is painted, and how soon a call made in another process is seen on it.

``python -m benchmarks.overview_page [--sessions N] [--history EVENTS] [--calls N] [--turns N]``, in the environment of
``make test``. The store has that many sessions, each of an agent of its own (500 have ended, which is as many as are
kept), and that many events in its history. A call is seen when the frame after the change of the page is drawn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks._figures import median, percentile
from benchmarks.children._stores import Writers, call, ended, session_id, started
from pyjama_instrument.storage.compaction import compact
from pyjama_instrument.storage.store_directory import Store
from pyjama_instrument.viewer import start_dashboard

__all__: list[str] = []

_ENDED = 500
_EVENTS_EACH = 40_000
_SESSIONS_EACH = 20
_ARGUMENTS = ["--no-sandbox", "--disable-gpu"]

_WATCH = """() => {
  window.seen = {};
  const look = () => requestAnimationFrame(() => requestAnimationFrame(() => {
    const now = performance.timeOrigin + performance.now();
    for (const node of document.querySelectorAll("#log .tool"))
      if (node.textContent.startsWith("mark-")) window.seen[node.textContent] ??= now;
  }));
  new MutationObserver(look).observe(document.getElementById("log"), { childList: true, subtree: true, characterData: true });
}"""  # noqa: E501

_PAINTED = """() => new Promise((done) => {
  const look = () => document.querySelector("#active .row, #past tr")
    ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))
    : requestAnimationFrame(look);
  look();
})"""


def main() -> None:
    """Make a store, look at it, print."""
    options = _options()
    home = Path(tempfile.mkdtemp(prefix="overview-page-"))
    writers = Writers(home)
    try:
        _fill(home, writers, options.sessions, options.history)
        with start_dashboard(0, home=home) as dashboard, sync_playwright() as playwright:
            executable = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
            for turn in range(options.turns):
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                page.goto(dashboard.url)
                painted = page.evaluate(_PAINTED)
                print(f"turn {turn}: first rows painted after {painted:.0f} ms")
                _say_delays(page, home, options.calls)
                page.close()
            browser.close()
    finally:
        writers.close()
        shutil.rmtree(home, ignore_errors=True)


def _say_delays(page: Page, home: Path, calls: int) -> None:
    page.wait_for_selector("#link[data-state=live]")
    page.evaluate(_WATCH)
    made = _mark(home, calls)
    page.wait_for_timeout(2000)
    seen = page.evaluate("() => window.seen")
    delays = sorted(seen[name] - when for name, when in made.items() if name in seen)
    figures = f"p50 {median(delays):.0f}, p99 {percentile(delays, 0.99):.0f}, max {delays[-1]:.0f} ms" if delays else ""
    print(f"  return to pixel: {len(delays)} of {calls} seen, {figures}")


def _mark(home: Path, calls: int) -> dict[str, float]:
    """Calls made in another process, and when each had returned (ms since the epoch)."""
    question = json.dumps({"do": "marks", "calls": calls}) + "\n"
    command = [sys.executable, "-m", "benchmarks.children.mark", str(home)]
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=True, timeout=calls + 60)
    offset = time.time_ns() - time.monotonic_ns()
    return {name: (when + offset) / 1e6 for name, when in json.loads(done.stdout)["value"]}


def _fill(home: Path, writers: Writers, sessions: int, history: int) -> None:
    runs = [(f"agent-{at}", session_id()) for at in range(sessions)]
    for begin in range(_ENDED, sessions, _SESSIONS_EACH):
        part = runs[begin : begin + _SESSIONS_EACH]
        writers.live([*(started(*run) for run in part), *(call(*run, "search") for run in part)])
    past = runs[:_ENDED]
    writers.dead(itertools.chain((started(*run) for run in past), (ended(*run) for run in past)))
    for begin in range(0, history, _EVENTS_EACH):
        numbers = range(begin, min(begin + _EVENTS_EACH, history))
        writers.dead(call(*past[at % _ENDED], f"tool-{at % 50}") for at in numbers)
    store = Store(str(home))
    for _ in range(3):
        compact(store, wait_seconds=60.0)
    store.close()
    print(f"{sessions:,} sessions, {history:,} events in the history")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overview_page", description=__doc__)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--history", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
