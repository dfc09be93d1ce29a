"""``pyjama tail``: events as lines, as they happen, and only those that are wanted."""

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

from pyjama_instrument.cli._terminal import paint, say
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.presentation.formatting import clock_or_date, duration, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.events import Event

__all__ = ["tail"]

_MOST_NAMED = 10


def tail(options: argparse.Namespace) -> int:
    """Show the latest events and, when asked to follow, each new one until Ctrl-C.

    Raises:
        ConfigError: what to look for is no regular expression, or no event has such a status.
    """
    from pyjama_instrument.reader import tail_events

    show = _as_json if options.json else _as_line
    statuses = set(_STATUSES)
    wanted = _filter(options, show, statuses)
    events = tail_events(limit=options.lines, follow=options.follow, stop=_output_closed(), matching=wanted)
    _check_statuses(options.status or (), statuses)  # what is recorded has been looked through by now
    for event in events:
        say(show(event))
    return 0


_STATUSES = ("ok", "error", "cancelled", "completed", "failed")


def _check_statuses(asked: Iterable[str], known: set[str]) -> None:
    for pattern in asked:
        if not any(fnmatchcase(status, pattern) for status in known):
            others = sorted(known.difference(_STATUSES))[:_MOST_NAMED]
            there_are = ", ".join([*_STATUSES, *(printable(each, 40) for each in others)])
            hint = "; a crash writes no event, see  pyjama status" if pattern == "crashed" else ""
            raise ConfigError(f"--status {pattern}: no event has this status; there are {there_are}{hint}")


def _filter(
    options: argparse.Namespace, show: Callable[[Event], str], statuses: set[str]
) -> Callable[[Event], bool] | None:
    """Whether an event is wanted: one of the values given for each field that is asked for, and the text, if any.

    Activities have a status of their program's choice: ``statuses`` gets those that are seen.
    """
    patterns = {"agent": options.agent, "tool": options.tool, "status": options.status}
    patterns = {field: given for field, given in patterns.items() if given}
    text = _regex(options.grep)
    if not patterns and text is None:
        return None

    def wanted(event: Event) -> bool:
        if event.kind == "activity":
            statuses.add(str(getattr(event, "status", "")))
        for field, given in patterns.items():
            value = getattr(event, field, None)
            if value not in given and not any(fnmatchcase(str(value), pattern) for pattern in given if value):
                return False
        return text is None or text.search(_SGR.sub("", show(event))) is not None

    return wanted


_SGR = re.compile(r"\x1b\[[0-9;]*m")  # our own colours: what is recorded cannot hold any by then


def _regex(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"--grep {pattern}: {error}; put a backslash before a character to be taken as it is"
        ) from None


def _output_closed() -> Callable[[], bool]:
    """A question to ask between polls: has the reader of our pipe gone? Otherwise only the next event would tell."""
    watch = select.poll()
    try:
        watch.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # standard output is not a file: a test's buffer
        return lambda: False
    return lambda: any(flags & (select.POLLERR | select.POLLNVAL) for _, flags in watch.poll(0))


def _as_json(event: Event) -> str:
    return json.dumps(event.model_dump(mode="json", exclude_none=True))


def _as_line(event: Event) -> str:
    fields: dict[str, Any] = event.model_dump(exclude_none=True)
    parts = [paint(clock_or_date(event.ts, time.time_ns() // 1000), "dim"), printable(fields.get("agent", "-"), 40)]
    parts.append(paint(printable(event.kind, 40), "bold"))
    parts += [printable(fields[key], 80) for key in ("step", "tool") if key in fields]
    if "steps" in fields:
        parts.append(printable(" → ".join(fields["steps"]), 120))
    if "status" in fields:
        parts.append(paint(printable(fields["status"], 40), fields["status"]))
    if "duration_ns" in fields:
        parts.append(duration(fields["duration_ns"] / 1e6))
    error = fields.get("error")
    if isinstance(error, dict):
        parts.append(problem(str(error.get("type", "")), str(error.get("message", ""))))
    return "  ".join(parts)
