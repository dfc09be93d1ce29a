"""``pyjama clear``: set all totals to zero."""

from __future__ import annotations

import argparse
import os
import sys

from pyjama_instrument.cli._terminal import complain, safe, say

__all__ = ["clear"]


def clear(options: argparse.Namespace) -> int:
    """Clear the metrics, after asking a person at a terminal.

    Raises:
        StoreError: the store cannot be written.
    """
    from pyjama_instrument.config import resolve_home
    from pyjama_instrument.shared_metrics import clear_metrics

    home = safe(resolve_home())
    if not os.path.lexists(resolve_home()):
        say(f"Nothing to clear: there is no store at {home}")
        return 0
    if not options.yes:
        if not sys.stdin.isatty():
            complain("clear needs confirmation, and this is not a terminal: use  pyjama clear --yes")
            return 2
        if not _agreed(f"Set all totals in {home} to zero? [y/N] "):
            say("Nothing was changed.")
            return 1
    clear_metrics()
    say(f"Cleared {home}")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        say()
        return False
