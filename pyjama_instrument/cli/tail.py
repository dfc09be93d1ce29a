"""``pyjama tail``: prints events as lines, filtered, and follows new ones."""

from __future__ import annotations

import argparse
import json
import re
import select
import sys
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pyjama_instrument.cli.arguments import STATUSES
from pyjama_instrument.cli.home import nothing_is_recorded
from pyjama_instrument.cli.summary import NOTHING_RECORDED
from pyjama_instrument.cli.terminal import print_line, print_note, style
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.presentation.formatting import clock_or_date, duration, join_names, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.events import Event

__all__ = ["tail"]

_MOST_NAMED = 10
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # only ours: recorded escape sequences were made printable


def tail(options: argparse.Namespace) -> int:
    """Print the latest events and, with ``--follow``, each new one until Ctrl-C.

    Raises:
        ConfigError: ``--grep`` is not a regular expression, or no event has the status.
    """
    from pyjama_instrument.reader import tail_events

    show = _as_json if options.json else _as_line
    statuses = set(STATUSES)
    matching = _filter(options, show, statuses)
    if nothing_is_recorded():
        print_note("Nothing is recorded yet. Waiting for events." if options.follow else NOTHING_RECORDED)
    events = tail_events(limit=options.lines, follow=options.follow, stop=_output_closed(), matching=matching)
    _check_statuses(options.status or (), statuses)  # the past events have been read by now
    printed = False
    for event in events:
        print_line(show(event))
        printed = True
    if matching is not None and not printed and sys.stdout.isatty() and not nothing_is_recorded():
        print_note("No recorded event matches.")
    return 0


def _check_statuses(given: Iterable[str], known: set[str]) -> None:
    for pattern in given:
        if not any(fnmatchcase(status, pattern) for status in known):
            names = [*STATUSES, *(printable(each, 40) for each in sorted(known.difference(STATUSES)))]
            hint = ". A crash writes no event; to see crashed runs, run: pyjama status" if pattern == "crashed" else ""
            raise ConfigError(
                f"--status {pattern}: no event has this status, only {join_names(names, _MOST_NAMED)}{hint}"
            )


def _filter(
    options: argparse.Namespace, show: Callable[[Event], str], statuses: set[str]
) -> Callable[[Event], bool] | None:
    """Whether an event matches every filter; None if there are no filters.

    Programs choose the statuses of their activities: those that are read are added to ``statuses``.
    """
    filters = {"agent": options.agent, "tool": options.tool, "status": options.status}
    filters = {field: patterns for field, patterns in filters.items() if patterns}
    text = _regex(options.grep)
    if not filters and text is None:
        return None

    def matches(event: Event) -> bool:
        if event.kind == "activity":
            statuses.add(str(getattr(event, "status", "")))
        for field, patterns in filters.items():
            value = getattr(event, field, None)
            if value not in patterns and not any(fnmatchcase(str(value), pattern) for pattern in patterns if value):
                return False
        return text is None or text.search(_COLOUR.sub("", show(event))) is not None

    return matches


def _regex(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"--grep {pattern}: {error}. To match a special character itself, put a backslash before it"
        ) from None


def _output_closed() -> Callable[[], bool]:
    """A check between two polls: whether the reader of the pipe is gone. Without it, only the next event would show."""
    watch = select.poll()
    try:
        watch.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # standard output is not a file, in tests
        return lambda: False
    return lambda: any(flags & (select.POLLERR | select.POLLNVAL) for _, flags in watch.poll(0))


def _as_json(event: Event) -> str:
    return json.dumps(event.model_dump(mode="json", exclude_none=True))


def _as_line(event: Event) -> str:
    fields: dict[str, Any] = event.model_dump(exclude_none=True)
    parts = [style(clock_or_date(event.ts, time.time_ns() // 1000), "dim"), printable(fields.get("agent", "-"), 40)]
    parts.append(style(printable(event.kind, 40), "bold"))
    parts += [printable(fields[key], 80) for key in ("step", "tool") if key in fields]
    if "steps" in fields:
        parts.append(printable(" → ".join(fields["steps"]), 120))
    if "status" in fields:
        parts.append(style(printable(fields["status"], 40), fields["status"]))
    if "duration_ns" in fields:
        parts.append(duration(fields["duration_ns"] / 1e6))
    error = fields.get("error")
    if isinstance(error, dict):
        parts.append(problem(str(error.get("type", "")), str(error.get("message", ""))))
    return "  ".join(parts)
