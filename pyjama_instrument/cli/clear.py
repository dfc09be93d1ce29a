"""``pyjama clear``: deletes the recorded totals and finished runs."""

from __future__ import annotations

import argparse
import os
import sys

from pyjama_instrument.cli.terminal import print_error, print_line
from pyjama_instrument.presentation.formatting import printable

__all__ = ["clear"]


def clear(options: argparse.Namespace) -> int:
    """Clear the store, after asking for confirmation unless ``--yes`` is given.

    Raises:
        StoreError: the store cannot be written.
    """
    from pyjama_instrument.config import resolve_home
    from pyjama_instrument.shared_metrics import clear_metrics

    home = printable(resolve_home(), 500)
    if not os.path.lexists(resolve_home()):
        print_line(f"Nothing to clear: there is no store at {home}")
        return 0
    if not options.yes:
        if not sys.stdin.isatty():
            print_error("clear needs confirmation, but standard input is not a terminal. Run: pyjama clear --yes")
            return 2
        if not _agreed(f"Delete the totals and finished runs in {home}? [y/N] "):
            print_line("Nothing is cleared.")
            return 1
    clear_metrics()
    print_line(f"Cleared {home}")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print_line()
        return False
