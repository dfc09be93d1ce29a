"""What becomes of runs when their writers are proven dead, or when a writer that was declared dead is not."""

from __future__ import annotations

from collections.abc import Set

from pyjama_instrument.fold.activity_log import lines_of_writer
from pyjama_instrument.fold.fields import Document, Record
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.fold.section import FoldState
from pyjama_instrument.fold.sessions import end, is_implicit_worker, is_open, list_again, revive

__all__ = ["crashed_writers", "running_writers", "writers_died", "writers_live"]


def writers_died(state: FoldState, writers: Set[str]) -> None:
    """These writers are dead: their running sessions have crashed, and their calls in flight were cut off."""
    document = state.document
    for sid in [sid for sid, entry in document["unlisted"].items() if entry[1] in writers]:
        list_again(state, sid)
    for sid, session in document["sessions"].items():
        cut_off = _cut_off_calls(state, session, writers)
        if (is_open(session) and _end_with_writer(state, session, writers, cut_off)) or cut_off:
            state.changed["sessions"].add(sid)


def writers_live(state: FoldState, writers: Set[str]) -> None:
    """These writers were declared dead and are not: their sessions are running again."""
    for sid, session in state.document["sessions"].items():
        if session["status"] == "crashed" and session["writer"] in writers:
            revive(state, session)
            state.changed["sessions"].add(sid)


def crashed_writers(document: Document) -> set[str]:
    """The writers of the sessions that have crashed."""
    return {session["writer"] for session in document["sessions"].values() if session["status"] == "crashed"}


def running_writers(document: Document) -> set[str]:
    """The writers whose death would end a session or cut off a call."""
    writers: set[str] = {entry[1] for entry in document["unlisted"].values()}
    for session in document["sessions"].values():
        if session["in-flight"]:
            writers.update(call["writer"] for call in session["in-flight"].values())
        if is_open(session):
            writers.update(filter(None, (session["writer"], session.get("seen-from"))))
    return writers


def _cut_off_calls(state: FoldState, session: Record, dead: Set[str]) -> list[Record]:
    """The session's calls in flight in the dead writers, which are interrupted now."""
    in_flight = session["in-flight"]
    spans = [span for span, call in in_flight.items() if call["writer"] in dead]
    cut_off = [{"span": span} | in_flight.pop(span) for span in spans]
    if cut_off:
        session["interrupted"] = [*session.get("interrupted", []), *cut_off][-LIMITS["in-flight"] :]
        state.agents.add(session["agent-id"])
    return cut_off


def _end_with_writer(state: FoldState, session: Record, dead: Set[str], cut_off: list[Record]) -> bool:
    """End the session if its writer is dead; returns whether it has ended."""
    ms = session["last-seen"]
    if session["writer"] in dead:
        if is_implicit_worker(session) and not cut_off:
            end(state, session, "ended", ms, step_status="cancelled")
        else:
            end(state, session, "crashed", ms, step_status="crashed")
            tool = cut_off[-1]["tool"] if cut_off else None
            lines_of_writer(state).append((ms, session["agent-id"], tool, "crashed"))
    elif session["writer"] is None and session.get("seen-from") in dead:
        session.pop("quiet", None)
        end(state, session, "completed", ms, step_status="ok")
    return bool(session["status"] != "running")
