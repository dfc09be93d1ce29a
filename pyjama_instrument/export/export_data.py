"""What an export is made from: the dashboard data, the records, and the trees of their runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from pyjama_instrument.document import DashboardData, SessionSummary, SessionTree
from pyjama_instrument.export.journal_lines import Line
from pyjama_instrument.reader.span_tree import build_tree
from pyjama_instrument.storage.decoding import decode_lines

__all__ = ["ExportData", "TreeStream", "build_trees"]

_SPAN_KINDS = frozenset(
    {"session.started", "session.ended", "step.started", "step.ended", "tool.started", "tool.ended"}
)
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ExportData:
    """The dashboard data at the time of the export, the records, and the id if one run is exported.

    ``look_up`` returns the summaries of runs that the dashboard data do not list.
    """

    dashboard: DashboardData
    lines: Iterator[Line]
    session_id: str | None = None
    look_up: Callable[[Collection[str]], dict[str, SessionSummary]] = lambda _: {}


@dataclass
class TreeStream:
    """The trees of an export, oldest first, built one at a time, and how many runs were left out to limit its size."""

    trees: Iterator[SessionTree]
    left_out: int


@dataclass
class _RecordBuffer:
    """Lines by run, as recorded: decoded, they would take five times the memory."""

    dashboard: DashboardData
    max_lines: int
    lines: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    count: int = 0
    size: int = 0
    left_out: int = 0

    def add(self, line: Line) -> None:
        session = line.record.get("session")
        if type(session) is not str or line.record.get("kind") not in _SPAN_KINDS:
            return
        self.lines.setdefault(session, []).append((line.writer, line.text))
        self.sizes[session] = self.sizes.get(session, 0) + len(line.text)
        self.count += 1
        self.size += len(line.text)
        while (self.count > self.max_lines or self.size > _MAX_BYTES) and self._drop_oldest(session):
            pass

    def _drop_oldest(self, current: str) -> bool:
        """Leave out the oldest run that has ended, or else the oldest one, but never the one being read."""
        others = (each for each in self.lines if each != current)
        ended = (each for each in self.lines if each != current and not self._is_running(each))
        session = next(ended, None) or next(others, None)
        if session is None:
            return False
        self.count -= len(self.lines.pop(session))
        self.size -= self.sizes.pop(session)
        self.left_out += 1
        return True

    def _is_running(self, session: str) -> bool:
        summary = self.dashboard.sessions.get(session)
        return summary is not None and summary.status == "running"


def build_trees(source: ExportData, *, max_spans: int) -> TreeStream:
    """The trees of the latest runs, with about ``max_spans`` spans in total.

    A single run with more spans is cut, and its tree counts the missing ones as ``truncated``.
    """
    kept = _RecordBuffer(source.dashboard, 2 * max_spans)  # a span has at most two lines
    for line in source.lines:
        kept.add(line)
    if source.session_id is not None:
        kept.lines.setdefault(source.session_id, [])  # included even if only its summary is left
    sessions = source.dashboard.sessions
    missing = [session for session in kept.lines if session not in sessions]
    return TreeStream(_trees(kept, sessions | source.look_up(missing), max_spans), kept.left_out)


def _trees(kept: _RecordBuffer, sessions: dict[str, SessionSummary], max_spans: int) -> Iterator[SessionTree]:
    children: dict[str, list[str]] = {}
    for key, session in sessions.items():
        children.setdefault(session.parent_session or "", []).append(key)
    known = [key for key in kept.lines if key in sessions]
    for session_id in sorted(known, key=lambda each: sessions[each].start_time or 0):
        lines = kept.lines.pop(session_id)
        records = [(writer, record) for writer, text in lines for record in decode_lines([text])[0]]
        yield build_tree(session_id, sessions[session_id], records, children.get(session_id, []), limit=max_spans)
