"""What an export is made from: the dashboard data, the records, and the trees of the sessions in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from pyjama_instrument.document import DashboardData, SessionSummary, SessionTree
from pyjama_instrument.export._lines import Line
from pyjama_instrument.reader.span_tree import build_tree
from pyjama_instrument.storage.codec import decode_lines

__all__ = ["Material", "Trees", "family", "grow_trees"]

_OF_A_TREE = frozenset({"session.started", "session.ended", "step.started", "step.ended", "tool.started", "tool.ended"})
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Material:
    """The data at the moment of the export, the records asked for, and the one session asked for, if it was one.

    ``look_up`` gives the summaries of sessions that the data do not list.
    """

    data: DashboardData
    lines: Iterator[Line]
    session_id: str | None = None
    look_up: Callable[[Collection[str]], dict[str, SessionSummary]] = lambda _: {}


@dataclass
class Trees:
    """The trees of an export, oldest first, built one at a time; and how many sessions were left out for their size."""

    trees: Iterator[SessionTree]
    left_out: int


def family(session_id: str, data: DashboardData) -> frozenset[str]:
    """The session and the sessions inside it, and inside those."""
    children: dict[str, list[str]] = {}
    for key, session in data.sessions.items():
        if session.parent_session is not None:
            children.setdefault(session.parent_session, []).append(key)
    found: set[str] = set()
    ahead = [session_id]
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead += children.get(each, ())
    return frozenset(found)


@dataclass
class _Kept:
    """Lines by session, as recorded: they take a fifth of what they take decoded."""

    data: DashboardData
    most: int
    lines: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    count: int = 0
    size: int = 0
    left_out: int = 0

    def add(self, line: Line) -> None:
        session = line.record.get("session")
        if type(session) is not str or line.record.get("kind") not in _OF_A_TREE:
            return
        self.lines.setdefault(session, []).append((line.writer, line.text))
        self.sizes[session] = self.sizes.get(session, 0) + len(line.text)
        self.count += 1
        self.size += len(line.text)
        while (self.count > self.most or self.size > _MOST_BYTES) and self._forget_one(session):
            pass

    def _forget_one(self, current: str) -> bool:
        """Leave out the oldest session that has ended, or else the oldest; never the one being read."""
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
        summary = self.data.sessions.get(session)
        return summary is not None and summary.status == "running"


def grow_trees(material: Material, *, most: int) -> Trees:
    """The trees of the sessions in the material, of at most about ``most`` spans altogether: the latest ones.

    A session that is larger than that by itself is shown as far as it goes, and says how much is missing.
    """
    kept = _Kept(material.data, 2 * most)  # a span has at most two lines
    for line in material.lines:
        kept.add(line)
    if material.session_id is not None:
        kept.lines.setdefault(material.session_id, [])  # known by its summary alone
    sessions = material.data.sessions
    missing = [session for session in kept.lines if session not in sessions]
    return Trees(_trees(kept, sessions | material.look_up(missing), most), kept.left_out)


def _trees(kept: _Kept, sessions: dict[str, SessionSummary], most: int) -> Iterator[SessionTree]:
    children: dict[str, list[str]] = {}
    for key, session in sessions.items():
        children.setdefault(session.parent_session or "", []).append(key)
    known = [key for key in kept.lines if key in sessions]
    for session_id in sorted(known, key=lambda each: sessions[each].start_time or 0):
        lines = kept.lines.pop(session_id)
        records = [(writer, record) for writer, text in lines for record in decode_lines([text])[0]]
        yield build_tree(session_id, sessions[session_id], records, children.get(session_id, []), limit=most)
