"""The steps of a session, and the workflow that it has declared."""

from __future__ import annotations

from pyjama_instrument.fold import sessions
from pyjama_instrument.fold.fields import Record, integer, text, time_ms
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.fold.section import FoldState, Section

__all__ = ["STEPS"]


def _workflow_declared(state: FoldState, event: Record) -> None:
    steps = [str(step) for step in event["steps"]]
    session = sessions.of_event(state, event, time_ms(event))
    session["workflow"] = {"total-steps": len(steps), "steps": steps}


def _started(state: FoldState, event: Record) -> None:
    step, span, ms = text(event, "step"), text(event, "span"), time_ms(event)
    session = sessions.of_event(state, event, ms)
    started = {"step-id": step, "span": span, "status": "running", "start-time": ms, "end-time": None}
    known = next((known for known in session["steps"] if known.get("span") == span), None)
    if known is None:
        _append(session, started)
    elif known["status"] == "crashed":  # its writer was declared dead and is not
        known.update(started)
    else:
        return  # its writer had to begin a new journal, and recorded the start again
    session["current-step"] = step


def _ended(state: FoldState, event: Record) -> None:
    step, span, status, ms = text(event, "step"), text(event, "span"), text(event, "status"), time_ms(event)
    start = ms - integer(event, "duration_ns") // 1_000_000
    session = sessions.of_event(state, event, ms)
    known = next((known for known in reversed(session["steps"]) if known.get("span") == span), None)
    if known is None:
        _append(session, {"step-id": step, "span": span, "status": status, "start-time": start, "end-time": ms})
    else:
        known.update({"status": status, "end-time": ms})
        if known["start-time"] > ms:  # the clock was set back during the step
            known["start-time"] = start
    session["current-step"] = sessions.current_step(session)


def _append(session: Record, step: Record) -> None:
    session["steps"].append(step)
    del session["steps"][: -LIMITS["steps"]]


STEPS = Section({}, {"workflow.declared": _workflow_declared, "step.started": _started, "step.ended": _ended})
