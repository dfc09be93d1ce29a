"""The sections ``sessions``, ``specs`` and ``unlisted``: the life of each run, from its first event to its end."""

from __future__ import annotations

from typing import Any

from pyjama_instrument.fold.agents import agent_entry
from pyjama_instrument.fold.fields import Document, Record, failure, text, time_ms
from pyjama_instrument.fold.health import count_overflow
from pyjama_instrument.fold.limits import LIMITS, OTHER
from pyjama_instrument.fold.section import FoldState, Section
from pyjama_instrument.fold.writers import process_of

__all__ = [
    "SESSIONS",
    "current_step",
    "end",
    "find",
    "is_implicit_worker",
    "is_open",
    "list_again",
    "of_event",
    "revive",
]

_END_STATUSES = ("completed", "failed", "cancelled")
_WRITER_GONE = ("crashed", "ended")  # the statuses of a session whose process is gone and reported no end
_START_FIELDS = (
    ("parent_session", "parent-session"),
    ("parent", "parent-span"),
    ("implicit", "implicit"),
    ("worker", "worker"),
)


def of_event(state: FoldState, event: Record, ms: int) -> Record:
    """The session that the event belongs to."""
    return find(state, event["agent"], event["session"], ms)


def find(state: FoldState, agent: str, sid: str, ms: int) -> Record:
    """The session of that id; a placeholder if its start has not been seen.

    Raises:
        TypeError: agent or id is not a string; nothing has changed then.
    """
    if type(sid) is not str or type(agent) is not str:
        raise TypeError("session or agent")
    session: Record | None = state.document["sessions"].get(sid) or list_again(state, sid)
    if session is None:
        session = _placeholder(state.document, agent, sid, ms)
    if session["writer"] is None:
        session["seen-from"] = state.writer
        if session.pop("quiet", None):
            session.update({"status": "running", "end-time": None})
    elif session["status"] in _WRITER_GONE and session["writer"] == state.writer:
        revive(state, session)
    session["last-seen"] = max(session["last-seen"], ms)
    state.agents.add(session["agent-id"])
    state.changed["sessions"].add(sid)
    return session


def list_again(state: FoldState, sid: str) -> Record | None:
    """A session that was running and not listed is listed again, with what is still known of it."""
    document = state.document
    entry = document["unlisted"].pop(sid, None)
    if entry is None:
        return None
    agent, writer, start, idle_worker = entry
    session: Record = _new_session(agent, start) | {"writer": writer, "partial": True}
    if idle_worker:
        session |= {"implicit": True, "worker": True}
    session.update(process_of(document, writer))
    document["sessions"][sid] = session
    state.agents.add(agent)
    state.changed["sessions"].add(sid)
    return session


def end(state: FoldState, session: Record, status: str, ms: int, *, step_status: str) -> None:
    """The session ends with that status, and its running steps with ``step_status``."""
    session.update({"status": status, "end-time": ms, "current-step": None})
    for step in session["steps"]:
        if step["status"] == "running":
            step.update({"status": step_status, "start-time": min(step["start-time"], ms), "end-time": ms})
    if session["writer"] is not None:
        agent_entry(state.document, session["agent-id"])["runs"][status] += 1
    state.agents.add(session["agent-id"])


def revive(state: FoldState, session: Record) -> None:
    """The session's writer was declared dead and is not: its steps and calls that were cut off are running again."""
    crashed_at, writer = session["end-time"], session["writer"]
    cut_off = session.pop("interrupted", [])
    for call in cut_off:
        if call.get("writer") == writer:
            session["in-flight"][call["span"]] = {key: value for key, value in call.items() if key != "span"}
    session["interrupted"] = [call for call in cut_off if call.get("writer") != writer]
    for step in session["steps"]:
        if step["status"] in ("crashed", "cancelled") and step.get("end-time") == crashed_at:
            step.update({"status": "running", "end-time": None})
    agent_entry(state.document, session["agent-id"])["runs"][session["status"]] -= 1
    session.update({"status": "running", "end-time": None, "current-step": current_step(session)})
    state.agents.add(session["agent-id"])


def current_step(session: Record) -> Any:
    """The step that began last of those that are running; None if none is."""
    running = [step["step-id"] for step in session["steps"] if step["status"] == "running"]
    return running[-1] if running else None


def is_open(session: Record) -> bool:
    """Whether the session may continue: it is running, or ended only because it was quiet."""
    return session["status"] == "running" or bool(session.get("quiet"))


def is_implicit_worker(session: Record) -> bool:
    """Whether the session belongs to a worker process and was begun without ``agent_session``."""
    return bool(session.get("worker") and session.get("implicit"))


def _placeholder(document: Document, agent: str, sid: str, ms: int) -> Record:
    agents = document["agents"]
    if agent not in agents and len(agents) >= LIMITS["agents"]:
        count_overflow(document, "agents")
        agent = OTHER
    session: Record = _new_session(agent, ms)
    document["sessions"][sid] = session
    return session


def _new_session(agent: str, ms: int) -> Record:
    return {
        "agent-id": agent, "status": "running", "start-time": ms, "last-seen": ms, "end-time": None,
        "current-step": None, "steps": [], "workflow": None, "writer": None, "calls": 0, "errors": 0,
        "total-duration": 0.0, "in-flight": {}, "attributes": {},
    }  # fmt: skip


def _started(state: FoldState, event: Record) -> None:
    ms, document = time_ms(event), state.document
    was_gone = document["sessions"].get(text(event, "session"), {}).get("status") in _WRITER_GONE
    session = of_event(state, event, ms)
    if session["writer"] is None:
        agent_entry(document, session["agent-id"])["runs"]["count"] += 1
    elif was_gone:  # its writer was declared dead because its journal was removed, and now records everything again
        if session["status"] in _WRITER_GONE:
            revive(state, session)
        _drop_calls_of_writer(state, session)
    elif session["status"] != "running":
        return
    session.pop("seen-from", None)
    session.update({"status": "running", "start-time": ms, "end-time": None, "writer": state.writer})
    session.update(process_of(document, state.writer))
    for source, target in _START_FIELDS:
        if event.get(source):
            session[target] = event[source]
    if type(event.get("tags")) is dict:
        session["tags"] = event["tags"]
    if type(event.get("spec")) is dict:
        document["specs"][session["agent-id"]] = event["spec"]


def _ended(state: FoldState, event: Record) -> None:
    ms, status = time_ms(event), text(event, "status")
    session = of_event(state, event, ms)
    if session["status"] != "running":
        return
    if error := failure(event):
        session["error"] = error
    if session["start-time"] > ms:  # the clock was set back during the run
        duration_ns = event.get("duration_ns")
        session["start-time"] = ms - (duration_ns // 1_000_000 if type(duration_ns) is int else 0)
    end(state, session, status if status in _END_STATUSES else "completed", ms, step_status="cancelled")
    # Calls in other processes stay, so that the result does not depend on which journal is read first.
    _drop_calls_of_writer(state, session)


def _annotated(state: FoldState, event: Record) -> None:
    attributes = event["attributes"].items()
    known = of_event(state, event, time_ms(event))["attributes"]
    for name, value in attributes:
        if name in known or len(known) < LIMITS["attributes"]:
            known[name] = value


def _drop_calls_of_writer(state: FoldState, session: Record) -> None:
    calls = session["in-flight"].items()
    session["in-flight"] = {span: call for span, call in calls if call["writer"] != state.writer}


def _repair(document: Document) -> None:
    sessions = document["sessions"]
    for sid in [sid for sid, session in sessions.items() if type(session) is not dict]:
        del sessions[sid]
    for session in sessions.values():
        for key, default in _new_session(OTHER, 0).items():
            if key not in session or (default is not None and type(session[key]) is not type(default)):
                session[key] = default
        session["steps"] = [step for step in session["steps"] if type(step) is dict and "status" in step]
        calls = session["in-flight"].items()
        session["in-flight"] = {span: call for span, call in calls if type(call) is dict and "writer" in call}
    document["unlisted"] = {sid: entry for sid, entry in document["unlisted"].items() if _is_unlisted_entry(entry)}


def _is_unlisted_entry(entry: Any) -> bool:
    """Whether it has agent, writer, start in ms, and whether the session is that of an idle worker."""
    return type(entry) is list and [type(part) for part in entry] == [str, str, int, bool]


SESSIONS = Section(
    {"sessions": dict, "specs": dict, "unlisted": dict},
    {"session.started": _started, "session.ended": _ended, "annotated": _annotated},
    _repair,
)
