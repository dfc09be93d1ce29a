"""``pyjama dashboard``: serve the page until Ctrl-C."""

from __future__ import annotations

import argparse
import threading

from pyjama_instrument.cli._terminal import say

__all__ = ["dashboard"]


def dashboard(options: argparse.Namespace) -> int:
    """Start the dashboard, say where it is, and wait.

    Raises:
        ViewerError: the ``viewer`` extra is missing, or the port is taken.
    """
    from pyjama_instrument.config import resolve_home
    from pyjama_instrument.shared_metrics import clear_metrics
    from pyjama_instrument.viewer import start_dashboard

    served = start_dashboard(options.port, clear=clear_metrics)
    say(f"Dashboard: {served.url}")
    say(f"Store: {resolve_home()}   (Ctrl-C to stop)")
    try:
        threading.Event().wait()
    finally:
        served.stop()
    return 0
