"""Which runs the document lists. Those beyond the limits leave it, and quiet ones whose start is unknown end."""

from __future__ import annotations

from collections.abc import Set

from pyjama_instrument.fold.agents import summarize
from pyjama_instrument.fold.fields import Document, Record, number
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.fold.section import FoldState, Section
from pyjama_instrument.fold.sessions import is_implicit_worker

__all__ = ["EVICTION", "end_quiet", "is_quiet"]

_QUIET_MS = 5 * 60 * 1000


def is_quiet(session: Record, newest_ms: int) -> bool:
    """Whether the start of the session is unknown, and the session has had no event for a while."""
    return (
        session["writer"] is None
        and session["status"] == "running"
        and session["last-seen"] < newest_ms - _QUIET_MS
        and not session["in-flight"]
    )


def end_quiet(session: Record) -> None:
    """End a session whose start is unknown; if another event of it comes, it is running again."""
    session.update({"status": "completed", "end-time": session["last-seen"], "quiet": True})


def _finish(state: FoldState) -> None:
    document = state.document
    surplus = _surplus_running(document)
    _end_unknown(state, surplus)
    summarize(document, state.agents)  # first, because a summary is made from sessions that are evicted below
    _evict_ended(document)
    _evict_running(document, surplus)
    state.changed["agents"] |= state.agents
    state.agents.clear()


def _surplus_running(document: Document) -> set[str]:
    """The running sessions beyond the limit: those that have had no event for the longest time."""
    seen = [(s["last-seen"], sid) for sid, s in document["sessions"].items() if s["status"] == "running"]
    return {sid for _, sid in sorted(seen)[: max(0, len(seen) - LIMITS["running-sessions"])]}


def _end_unknown(state: FoldState, surplus: Set[str]) -> None:
    """End sessions whose start is unknown, if they are quiet or too many.

    A call that ends long after its session was evicted makes such a session, and no event will ever end it.
    """
    sessions = state.document["sessions"]
    newest = max((session["last-seen"] for session in sessions.values()), default=0)
    for sid, session in sessions.items():
        if session["writer"] is not None or session["status"] != "running":
            continue
        if sid in surplus or is_quiet(session, newest):
            end_quiet(session)
            state.changed["sessions"].add(sid)
            state.agents.add(session["agent-id"])


def _evict_ended(document: Document) -> None:
    sessions = document["sessions"]
    ended = [(number(session, "end-time"), sid) for sid, session in sessions.items() if session["status"] != "running"]
    for _, sid in sorted(ended)[: max(0, len(ended) - LIMITS["ended-sessions"])]:
        del sessions[sid]


def _evict_running(document: Document, surplus: Set[str]) -> None:
    """Keep of surplus running sessions only what their end needs."""
    for sid in sorted(surplus):
        session = document["sessions"].get(sid)
        if session is not None and session["status"] == "running":
            idle_worker = is_implicit_worker(session) and not session["in-flight"]
            entry = [session["agent-id"], session["writer"], session["start-time"], idle_worker]
            document["unlisted"][sid] = entry
            del document["sessions"][sid]


EVICTION = Section({}, finish=_finish)
