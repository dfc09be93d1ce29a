"""``pyjama completion``: prints a completion script, or the recorded names that such a script offers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyjama_instrument.cli.terminal import print_line
from pyjama_instrument.presentation.formatting import count

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData

__all__ = ["completion"]

_MOST_NAMES = 500
_ID_DIGITS = 8


def completion(options: argparse.Namespace) -> int:
    """Print the script for a shell, or recorded names with a tab and a description after each.

    Raises:
        SchemaTooNew: the store was written by a newer version of this package.
    """
    if options.values is None:
        from pyjama_instrument.cli.completion_scripts import script

        lines = script(options.shell)
    else:
        from pyjama_instrument.reader import Reader

        lines = _values(options.values, Reader().dashboard())
    for line in lines:
        print_line(line)
    return 0


def _values(kind: str, data: DashboardData) -> Iterator[str]:
    if kind == "agents":
        found = {name: agent.status for name, agent in data.agents.items()}
    elif kind == "tools":
        found = {name: count(tool.count, "call") for name, tool in data.metrics.tools.items()}
    else:
        latest = sorted(data.sessions.items(), key=lambda item: -(item[1].start_time or 0))
        found = {key[:_ID_DIGITS]: f"{run.agent_id}, {run.status}" for key, run in latest}
    printable = [(name, text) for name, text in found.items() if name.isprintable()]  # others cannot be typed
    for name, text in printable[:_MOST_NAMES]:
        yield f"{name}\t{text}" if text.isprintable() else name
