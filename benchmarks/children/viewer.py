"""Runs the dashboard for others to look at: ``python -m benchmarks.children.viewer STORE``."""

from __future__ import annotations

import sys
import time

from benchmarks.children._serve import serve

__all__: list[str] = []


def main() -> None:
    """Start it on any free port; answer its address and how long it took to start, imports included."""
    began = time.perf_counter_ns()
    from pyjama_instrument.viewer import start_dashboard

    with start_dashboard(0, home=sys.argv[1]) as dashboard:
        took = time.perf_counter_ns() - began
        serve({"started": lambda: {"url": dashboard.url, "ns": took}})


main()
