"""The section ``recent-logs``: the last lines of the activity log."""

from __future__ import annotations

from collections import deque
from operator import itemgetter

from pyjama_instrument.fold import sessions
from pyjama_instrument.fold.fields import Document, Record, number, text, time_ms
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.fold.section import FoldState, LogLine, Section

__all__ = ["ACTIVITY_LOG", "lines_of_writer"]


def lines_of_writer(state: FoldState) -> deque[LogLine]:
    """The new lines of the writer whose events are being added; append yours."""
    lines = state.log.get(state.writer)
    if lines is None:
        lines = state.log[state.writer] = deque(maxlen=LIMITS["recent-logs"])
    return lines


def _activity(state: FoldState, event: Record) -> None:
    ms, status, tool = time_ms(event), text(event, "status"), event.get("tool")
    session = sessions.of_event(state, event, ms)
    lines_of_writer(state).append((ms, session["agent-id"], tool if type(tool) is str else None, status))


def _repair(document: Document) -> None:
    document["recent-logs"] = [entry for entry in document["recent-logs"] if type(entry) is dict]


def _finish(state: FoldState) -> None:
    lines = [line for log in state.log.values() for line in log]
    if not lines:
        return
    newest = sorted(lines, key=itemgetter(0))[-LIMITS["recent-logs"] :]
    logs = [*state.document["recent-logs"], *map(_entry, newest)]
    merged = sorted(logs, key=lambda entry: number(entry, "timestamp"))
    state.document["recent-logs"] = merged[-LIMITS["recent-logs"] :]
    state.log.clear()


def _entry(line: LogLine) -> Record:
    return dict(zip(("timestamp", "agent-id", "tool", "status"), line, strict=True))


ACTIVITY_LOG = Section({"recent-logs": list}, {"activity": _activity}, _repair, _finish)
