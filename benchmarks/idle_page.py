"""What a dashboard that nobody needs right now costs: CPU of its process, and of Chromium with the page open.

``python -m benchmarks.idle_page [--sessions N] [--tools N] [--live N] [--dead N] [--history MB] [--seconds N]``, in the
environment of ``make test``. Nothing is recorded meanwhile. ``--live`` processes hold their journals, ``--dead`` ones
have left theirs behind where nobody has folded them. CPU seconds are those of /proc over the given time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.children._stores import Writers, call, ended, session_id, started
from pyjama_instrument.storage.compaction import compact
from pyjama_instrument.storage.store_directory import Store

__all__: list[str] = []

_SEGMENT_BYTES = 1024 * 1024
_ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
_SETTLE_SECONDS = 70  # the sparklines show the last minute: until they are empty, the page has something to show


def main() -> None:
    """Make a store, leave it alone, print."""
    options = _options()
    home = Path(tempfile.mkdtemp(prefix="idle-page-"))
    writers = Writers(home)
    try:
        session = _fill(home, writers, options)
        with _dashboard(home) as (url, pid), sync_playwright() as playwright:
            executable = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
            time.sleep(2)
            _say("no page", pid, None, options.seconds)
            for name, path in (("overview", ""), ("tools", "#/tools"), ("one run", f"#/run/{session}")):
                _look(browser, name, url + path, pid, options)
            browser.close()
    finally:
        writers.close()
        shutil.rmtree(home, ignore_errors=True)


def _look(browser: Browser, name: str, url: str, pid: int, options: argparse.Namespace) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(url)
    page.wait_for_selector("#link[data-state=live]")
    page.wait_for_timeout(options.settle * 1000)
    _say(name, pid, os.getpid(), options.seconds)
    page.close()


def _say(what: str, pid: int, parent: int | None, seconds: float) -> None:
    """CPU used by the server, and by the browser below ``parent``, while nothing happens."""
    server, browser = _cpu([pid]), _cpu(_chromium(parent))
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    server, browser = _cpu([pid]) - server, _cpu(_chromium(parent)) - browser
    of_browser = f", Chromium {100 * browser / took:5.2f} %" if parent else ""
    print(f"{what:10} {took:.0f} s: server {100 * server / took:5.2f} % of a core{of_browser}", flush=True)


def _cpu(pids: list[int]) -> float:
    """Seconds, those of processes that are gone left out."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _chromium(parent: int | None) -> list[int]:
    """The browser's processes: those that are called so, below ``parent``."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat") if parent else ():
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid], names[pid] = int(tail.split()[1]), head.partition("(")[2]

    def below(pid: int) -> bool:
        return pid == parent or (pid in parents and below(parents[pid]))

    return [pid for pid, name in names.items() if "chrom" in name and below(pid)]


@contextmanager
def _dashboard(home: Path) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "benchmarks.children.viewer", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write('{"do": "started"}\n')
        child.stdin.flush()
        yield json.loads(child.stdout.readline())["value"]["url"], child.pid
        child.stdin.close()


def _fill(home: Path, writers: Writers, options: argparse.Namespace) -> str:
    """Runs that have ended, and as many live and dead writers as asked for; the id of one run."""
    runs = [(f"agent-{at % 50}", session_id()) for at in range(options.sessions)]
    calls = (call(*runs[at % len(runs)], f"tool-{at % options.tools}") for at in range(20 * options.tools))
    writers.dead(itertools.chain((started(*run) for run in runs), calls, (ended(*run) for run in runs)))
    for at in range(options.live):
        run = f"live-{at}", session_id()
        writers.live([started(*run), call(*run, "tool-0")])
    store = Store(str(home))
    for _ in range(3):
        compact(store, wait_seconds=60.0)
    store.close()
    for at in range(options.dead):
        run = f"dead-{at % 50}", session_id()
        writers.dead([started(*run), call(*run, "tool-0"), ended(*run)])
    _fill_history(home / "history", options.history, runs)
    print(
        f"{options.sessions} runs, {options.tools} tools, {options.live} live and {options.dead} dead writers,", end=" "
    )
    print(f"{options.history} MB of history", flush=True)
    return runs[0][1]


def _fill_history(history: Path, megabytes: int, runs: list[tuple[str, str]]) -> None:
    text = b"".join(call(*runs[at % len(runs)], f"tool-{at % 50}") for at in range(5000))
    text *= 1 + _SEGMENT_BYTES // len(text)
    for at in range(megabytes * 1_000_000 // len(text)):
        (history / f"{at:016x}-1.jsonl").write_bytes(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_page", description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--tools", type=int, default=300)
    parser.add_argument("--live", type=int, default=5)
    parser.add_argument("--dead", type=int, default=0)
    parser.add_argument("--history", type=int, default=0, metavar="MB")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--settle", type=float, default=_SETTLE_SECONDS, help="seconds after a page is opened")
    return parser.parse_args()


if __name__ == "__main__":
    main()
