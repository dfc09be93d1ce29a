"""The fold: (document, events) → document. Pure: no files, no clock, no locks.

Invariants:

* Folding events in one go or in any number of portions gives the same document (but for the order of activity-log
  lines of one millisecond, and for the last digits of sums of durations).
* A fold only adds to the document it is given: counters grow by what the events say, keys it does not know stay.
* A damaged event changes nothing but ``health``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Set
from operator import itemgetter
from typing import Any, TypeAlias

from pyjama_instrument.fold.call_batch import Calls
from pyjama_instrument.fold.histogram import bucket, buckets

__all__ = [
    "LIMITS",
    "OTHER",
    "Fold",
    "carry_running",
    "is_quiet",
    "new_document",
    "repaired",
    "run_totals",
    "take_for_ended",
]

Document = dict[str, Any]
Record = dict[str, Any]
_LogLine: TypeAlias = tuple[int, str, str | None, str]

OTHER = "__other__"
"""Where tools and agents beyond the limits are counted."""

LIMITS = {
    "tools": 2000,
    "agents": 2000,
    "ended-sessions": 500,
    "running-sessions": 1000,
    "steps": 200,
    "in-flight": 100,
    "attributes": 100,
    "recent-logs": 100,
    "rate-seconds": 60,
}

_SECTIONS: dict[str, type] = {
    "agents": dict,
    "sessions": dict,
    "tools": dict,
    "global": dict,
    "recent-logs": list,
    "specs": dict,
    "rate": dict,
    "writers": dict,
    "journals": dict,
    "retired": dict,
    "unlisted": dict,
    "health": dict,
}

_COUNTS = ("count", "success", "error", "cancelled", "total-duration")
_RUNS = ("count", "running", "completed", "failed", "cancelled", "crashed", "ended")
_TOOL_STATUS = {"ok": "success", "error": "error"}
_TOLD_AT_START = (
    ("parent_session", "parent-session"),
    ("parent", "parent-span"),
    ("implicit", "implicit"),
    ("worker", "worker"),
)
_WHEREABOUTS = (("boot_id", "boot-id", str), ("pid_namespace", "pid-namespace", int))
_ENDED = ("completed", "failed", "cancelled")
_GONE = ("crashed", "ended")  # what a session whose process is gone without a word has
_QUIET_MS = 5 * 60 * 1000
_INTERRUPTED_SHOWN = 5


def new_document() -> Document:
    """A document with every section and nothing counted."""
    return repaired({})


def repaired(document: Document) -> Document:
    """The document with every section present and of the right type; a section of another type is replaced."""
    for name, kind in _SECTIONS.items():
        if type(document.get(name)) is not kind:
            document[name] = kind()
    for name in ("agents", "sessions", "tools", "journals", "retired", "writers"):
        section = document[name]
        for key in [key for key, entry in section.items() if type(entry) is not dict]:
            del section[key]
    for session in document["sessions"].values():
        for key, default in _new_session(OTHER, 0).items():
            if (default is not None and type(session.get(key)) is not type(default)) or key not in session:
                session[key] = default
        session["steps"] = [step for step in session["steps"] if type(step) is dict and "status" in step]
        calls = session["in-flight"].items()
        session["in-flight"] = {span: call for span, call in calls if type(call) is dict and "writer" in call}
    for agent in document["agents"].values():  # either may be missing in an agent that somebody else wrote
        for part, keys in (("runs", _RUNS), ("calls", _COUNTS)):
            if part in agent:
                agent[part] = _repaired_counts(agent[part], keys)
    for counts in (document["global"], *document["tools"].values()):
        _repaired_counts(counts, _COUNTS)
    for key, kind in (("torn", int), ("dropped", dict), ("overflow", dict)):
        if type(document["health"].get(key)) is not kind:
            document["health"].pop(key, None)
    document["unlisted"] = {sid: entry for sid, entry in document["unlisted"].items() if _is_unlisted(entry)}
    document["recent-logs"] = [entry for entry in document["recent-logs"] if type(entry) is dict]
    document["rate"] = {key: count for key, count in document["rate"].items() if key.isdecimal() and type(count) is int}
    return document


def _is_unlisted(entry: Any) -> bool:
    """What is kept of a running session that is not listed: agent, writer, start in ms, whether an idle worker's."""
    return type(entry) is list and [type(part) for part in entry] == [str, str, int, bool]


def _repaired_counts(counts: Any, keys: Iterable[str]) -> Record:
    repaired_counts: Record = counts if type(counts) is dict else {}
    for key in keys:
        if type(repaired_counts.get(key)) not in (int, float):
            repaired_counts[key] = 0
    latency: Any = repaired_counts.get("latency")
    if "latency" in repaired_counts and (type(latency) is not dict or type(latency.get("buckets")) is not dict):
        del repaired_counts["latency"]
    elif "latency" in repaired_counts:
        latency["buckets"] = {key: count for key, count in latency["buckets"].items() if type(count) is int}
    return repaired_counts


def carry_running(document: Document, onto: Document | None = None, since_us: int | None = None) -> Document:
    """What a cleared document begins with: the sessions that still run, all counters at zero.

    Args:
        document: the document from before.
        onto: what somebody else has put in its place; its totals stay.
        since_us: the time of the clear (µs since the epoch).
    """
    fresh = repaired({} if onto is None else onto)
    if since_us is not None:
        fresh["counted-since"] = since_us
    for key in ("journals", "retired", "writers"):
        fresh[key] = document[key]
    for key in ("locks", "lock-domains"):
        if key in document["health"]:
            fresh["health"][key] = document["health"][key]
    fresh["generation"] = document.get("generation", 0)
    if "clock" in document:
        fresh["clock"] = document["clock"]
    fresh["unlisted"] = document["unlisted"]
    for agent, *_ in fresh["unlisted"].values():
        _agent_entry(fresh, agent)["runs"]["count"] += 1
    for sid, session in document["sessions"].items():
        if session["status"] == "running":
            agent = session["agent-id"]
            fresh["sessions"][sid] = session | {"calls": 0, "errors": 0, "total-duration": 0.0}
            _agent_entry(fresh, agent)["runs"]["count"] += session["writer"] is not None
            if agent in document["specs"]:
                fresh["specs"].setdefault(agent, document["specs"][agent])
    _summarise(fresh, set(fresh["agents"]))
    return fresh


def run_totals(document: Document) -> dict[str, int]:
    """How many runs there have been of all agents, and how they ended. They never fall, but by a clear."""
    totals = dict.fromkeys(_RUNS, 0)
    for agent in document["agents"].values():
        runs = agent.get("runs", {})
        if _number(runs, "count"):
            for key in _RUNS:
                totals[key] += _number(runs, key)
        elif agent.get("status") in totals:  # known by its state alone, as the original writes it
            totals["count"] += 1
            totals[agent["status"]] += 1
    return totals


class Fold:
    """Folds events into one document. Call :meth:`finish` once all are added.

    Args:
        document: what to fold onto; it is changed.
        sound: it came out of a fold, and needs no repair.

    Attributes:
        document: the outcome.
        touched: the entries that may have changed, by section.
        unseen_writers: those that have had a segment retired while they held it.
    """

    def __init__(self, document: Document, *, sound: bool = False) -> None:
        self.document = document if sound else repaired(document)
        self.touched: dict[str, set[str]] = {"sessions": set(), "tools": set(), "agents": set()}
        self.unseen_writers: set[str] = set()
        self._touched: set[str] = set()  # agents to be summarised
        self._logs: dict[str, deque[_LogLine]] = {}
        self._writer = ""
        self._handlers: dict[str, Callable[[Record], None]] = {
            "tool.ended": self._tool_ended,
            "tool.started": self._tool_started,
            "session.started": self._session_started,
            "session.ended": self._session_ended,
            "step.started": self._step_started,
            "step.ended": self._step_ended,
            "workflow.declared": self._workflow_declared,
            "activity": self._activity,
            "annotated": self._annotated,
            "writer.opened": self._writer_opened,
            "writer.dropped": self._writer_dropped,
        }

    def add(self, writer: str, items: Iterable[Record | Calls]) -> None:
        """Add events of one writer, in the order they were recorded. Unknown kinds are passed over."""
        self._writer = writer
        for item in items:
            try:
                if type(item) is Calls:
                    self._calls(item)
                    continue
                handler = self._handlers.get(item.get("kind", ""))  # type: ignore[union-attr]  # not Calls
                if handler is not None:
                    handler(item)  # type: ignore[arg-type]
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                self.damaged(len(item.spans) if type(item) is Calls else 1)

    def damaged(self, count: int) -> None:
        """Count records that could not be read."""
        if count:
            health = self.document["health"]
            health["torn"] = _number(health, "torn") + count

    def writers_died(self, writers: Set[str]) -> None:
        """Writers are proven dead: their running sessions crashed, their calls in flight were cut off."""
        for sid in [sid for sid, entry in self.document["unlisted"].items() if entry[1] in writers]:
            self._list_again(sid)
        for sid, session in self.document["sessions"].items():
            if (session["in-flight"] or _may_go_on(session)) and self._bury(session, writers):
                self.touched["sessions"].add(sid)

    def writers_live(self, writers: Set[str]) -> None:
        """Writers that were thought dead are not: what their death had ended goes on."""
        for sid, session in self.document["sessions"].items():
            if session["status"] == "crashed" and session["writer"] in writers:
                self._revive(session)
                self.touched["sessions"].add(sid)

    def crashed_writers(self) -> set[str]:
        """Writers of sessions that have crashed."""
        sessions = self.document["sessions"].values()
        return {session["writer"] for session in sessions if session["status"] == "crashed"}

    def running_writers(self) -> set[str]:
        """Writers that some running session or call depends on."""
        writers: set[str] = {entry[1] for entry in self.document["unlisted"].values()}
        for session in self.document["sessions"].values():
            if session["in-flight"]:
                writers.update(call["writer"] for call in session["in-flight"].values())
            if _may_go_on(session):
                writers.update(filter(None, (session["writer"], session.get("seen-from"))))
        return writers

    def finish(self) -> None:
        """Bring the derived parts up to date: activity log, agents' summaries, limits."""
        document = self.document
        lines = [line for log in self._logs.values() for line in log]
        if lines:
            newest = sorted(lines, key=itemgetter(0))[-LIMITS["recent-logs"] :]
            logs = [*document["recent-logs"], *map(_log_entry, newest)]
            merged = sorted(logs, key=lambda entry: _number(entry, "timestamp"))
            document["recent-logs"] = merged[-LIMITS["recent-logs"] :]
            self._logs.clear()
        surplus = _surplus_running(document)
        self._take_the_quiet_for_ended(surplus)
        _summarise(document, self._touched)  # before forgetting: an agent is known by sessions that are not
        _forget_old_sessions(document)
        _unlist(document, surplus)
        _forget_old_rates(document)
        self.touched["agents"] |= self._touched
        self._touched.clear()

    def _take_the_quiet_for_ended(self, surplus: Set[str]) -> None:
        """Sessions whose start was never seen, and of which nothing has been heard for a while, or that are too many.

        A call that ends long after its session was forgotten makes one of these. Nobody will tell its end.
        """
        sessions = self.document["sessions"]
        newest = max((session["last-seen"] for session in sessions.values()), default=0)
        for sid, session in sessions.items():
            if session["writer"] is not None or session["status"] != "running":
                continue
            if sid in surplus or is_quiet(session, newest):
                take_for_ended(session)
                self.touched["sessions"].add(sid)
                self._touched.add(session["agent-id"])

    # -- tools

    def _calls(self, calls: Calls) -> None:
        """What :meth:`_tool_ended` does, for many calls at once."""
        agent_id, sid, tool, spans, times_us, durations_ns = calls
        count, duration_ms = len(spans), sum(durations_ns) / 1e6
        session = self._session({"agent": agent_id, "session": sid}, times_us[0] // 1000)
        session["last-seen"] = max(session["last-seen"], max(times_us) // 1000)
        tool_entry, total = self._tool_entry(tool, count), self.document["global"]
        for counts in (total, tool_entry, _agent_entry(self.document, session["agent-id"])["calls"]):
            counts["count"] = counts.get("count", 0) + count
            counts["success"] = counts.get("success", 0) + count
            counts["total-duration"] = counts.get("total-duration", 0) + duration_ms
        in_all, of_tool = _latency(total), _latency(tool_entry)
        for key, times in buckets(durations_ns):
            in_all[key] = in_all.get(key, 0) + times
            of_tool[key] = of_tool.get(key, 0) + times
        session["calls"] += count
        session["total-duration"] += duration_ms
        if in_flight := session["in-flight"]:
            for span in spans:
                in_flight.pop(span, None)
        rate = self.document["rate"]
        for second, times in _by_second(times_us):
            rate[second] = rate.get(second, 0) + times
        log = self._log_of_writer()
        for us in times_us[-LIMITS["recent-logs"] :]:
            log.append((us // 1000, agent_id, tool, "ok"))

    def _tool_ended(self, event: Record) -> None:
        tool, span = _text(event, "tool"), _text(event, "span")
        status, duration_ns, ms = _text(event, "status"), _integer(event, "duration_ns"), _ms(event)
        if duration_ns < 0:
            raise ValueError("negative duration")
        duration_ms, second = duration_ns / 1e6, str(ms // 1000)
        session = self._session(event, ms)  # nothing is changed before this, nothing can fail after it
        agent = _agent_entry(self.document, session["agent-id"])
        tool_entry = self._tool_entry(tool)
        outcome = _TOOL_STATUS.get(status, "cancelled")
        for counts in (self.document["global"], tool_entry, agent["calls"]):
            counts["count"] = counts.get("count", 0) + 1
            counts[outcome] = counts.get(outcome, 0) + 1
            counts["total-duration"] = counts.get("total-duration", 0) + duration_ms
        key = bucket(duration_ns)
        for counts in (self.document["global"], tool_entry):
            known = _latency(counts)
            known[key] = known.get(key, 0) + 1
        session["calls"] += 1
        session["total-duration"] += duration_ms
        if session["in-flight"]:
            session["in-flight"].pop(span, None)
        if outcome == "error":
            session["errors"] += 1
            if failure := _failure(event):
                tool_entry["last-error"] = failure
        rate = self.document["rate"]
        rate[second] = rate.get(second, 0) + 1
        self._log(ms, event["agent"], tool, status)

    def _tool_started(self, event: Record) -> None:
        tool, span, ms = _text(event, "tool"), _text(event, "span"), _ms(event)
        in_flight = self._session(event, ms)["in-flight"]
        if len(in_flight) < LIMITS["in-flight"]:
            in_flight[span] = {"tool": tool, "start-time": ms, "writer": self._writer}

    def _tool_entry(self, tool: str, count: int = 1) -> Record:
        tools: Document = self.document["tools"]
        self.touched["tools"].add(tool)
        entry = tools.get(tool)
        if entry is None:
            if len(tools) >= LIMITS["tools"] and tool != OTHER:
                self._overflow("tools", count)
                return self._tool_entry(OTHER)
            entry = tools[tool] = dict.fromkeys(_COUNTS, 0) | {"total-duration": 0.0}
        return entry

    # -- sessions

    def _session(self, event: Record, ms: int) -> Record:
        """The session an event belongs to; a placeholder if its start has not been seen."""
        sid, agent = _text(event, "session"), _text(event, "agent")
        sessions = self.document["sessions"]
        session: Record | None = sessions.get(sid) or self._list_again(sid)
        if session is None:
            agents = self.document["agents"]
            if agent not in agents and len(agents) >= LIMITS["agents"]:
                self._overflow("agents")
                agent = OTHER
            session = sessions[sid] = _new_session(agent, ms)
        if session["writer"] is None:
            session["seen-from"] = self._writer
            if session.pop("quiet", None):
                session.update({"status": "running", "end-time": None})
        elif session["status"] in _GONE and session["writer"] == self._writer:
            self._revive(session)  # its writer goes on, and was thought dead
        session["last-seen"] = max(session["last-seen"], ms)
        self._touched.add(session["agent-id"])
        self.touched["sessions"].add(sid)
        return session

    def _list_again(self, sid: str) -> Record | None:
        """A running session that was not listed any more, as far as it is still known."""
        entry = self.document["unlisted"].pop(sid, None)
        if entry is None:
            return None
        agent, writer, start, idle_worker = entry
        session: Record = _new_session(agent, start) | {"writer": writer, "partial": True}
        if idle_worker:
            session |= {"implicit": True, "worker": True}
        session.update(self._process_of(writer))
        self.document["sessions"][sid] = session
        self._touched.add(agent)
        self.touched["sessions"].add(sid)
        return session

    def _session_started(self, event: Record) -> None:
        ms = _ms(event)
        known = self.document["sessions"].get(_text(event, "session"), {})
        was_gone = known.get("status") in _GONE
        session = self._session(event, ms)
        if session["writer"] is None:
            _agent_entry(self.document, session["agent-id"])["runs"]["count"] += 1
        elif was_gone:  # thought dead because its journal was removed: its calls under way are told again, too
            if session["status"] in _GONE:
                self._revive(session)
            calls = session["in-flight"].items()
            session["in-flight"] = {span: call for span, call in calls if call["writer"] != self._writer}
        elif session["status"] != "running":
            return
        session.pop("seen-from", None)
        session.update({"status": "running", "start-time": ms, "end-time": None, "writer": self._writer})
        session.update(self._process_of(self._writer))
        for source, target in _TOLD_AT_START:
            if event.get(source):
                session[target] = event[source]
        if type(event.get("tags")) is dict:
            session["tags"] = event["tags"]
        if type(event.get("spec")) is dict:
            self.document["specs"][session["agent-id"]] = event["spec"]

    def _session_ended(self, event: Record) -> None:
        ms, status = _ms(event), _text(event, "status")
        session = self._session(event, ms)
        if session["status"] != "running":
            return
        if failure := _failure(event):
            session["error"] = failure
        if session["start-time"] > ms:  # the clock was set back meanwhile
            duration_ns = event.get("duration_ns")
            session["start-time"] = ms - (duration_ns // 1_000_000 if type(duration_ns) is int else 0)
        self._end(session, status if status in _ENDED else "completed", ms, step_status="cancelled")
        # Calls in other processes may go on. So what is said of them does not depend on which journal is read first.
        in_flight = session["in-flight"].items()
        session["in-flight"] = {span: call for span, call in in_flight if call["writer"] != self._writer}

    def _bury(self, session: Record, dead: Set[str]) -> bool:
        """A session's part in the death of writers, if it may still go on; whether it has any."""
        in_flight = session["in-flight"]
        gone = [span for span, call in in_flight.items() if call["writer"] in dead]
        cut_off = [{"span": span} | in_flight.pop(span) for span in gone]
        if cut_off:
            session["interrupted"] = [*session.get("interrupted", []), *cut_off][-LIMITS["in-flight"] :]
            self._touched.add(session["agent-id"])
        if not _may_go_on(session):  # only calls in other processes were still under way
            return bool(cut_off)
        if session["writer"] in dead:
            status = "ended" if _is_implicit_worker(session) and not cut_off else "crashed"
            step_status = "cancelled" if status == "ended" else "crashed"
            self._end(session, status, session["last-seen"], step_status=step_status)
            if status == "crashed":
                tool = cut_off[-1]["tool"] if cut_off else None
                self._log(session["last-seen"], session["agent-id"], tool, "crashed")
        elif session["writer"] is None and session.get("seen-from") in dead:
            session.pop("quiet", None)
            self._end(session, "completed", session["last-seen"], step_status="ok")
        return bool(cut_off) or session["status"] != "running"

    def _revive(self, session: Record) -> None:
        """A session whose writer was thought dead goes on, with the steps and its writer's calls that were cut off."""
        crashed_at, writer = session["end-time"], session["writer"]
        cut_off = session.pop("interrupted", [])
        session["in-flight"] |= {call["span"]: _call(call) for call in cut_off if call.get("writer") == writer}
        session["interrupted"] = [call for call in cut_off if call.get("writer") != writer]
        for step in session["steps"]:
            if step["status"] in ("crashed", "cancelled") and step.get("end-time") == crashed_at:
                step.update({"status": "running", "end-time": None})
        _agent_entry(self.document, session["agent-id"])["runs"][session["status"]] -= 1
        session.update({"status": "running", "end-time": None, "current-step": _current_step(session)})
        self._touched.add(session["agent-id"])

    def _end(self, session: Record, status: str, ms: int, *, step_status: str) -> None:
        session.update({"status": status, "end-time": ms, "current-step": None})
        for step in session["steps"]:
            if step["status"] == "running":
                step.update({"status": step_status, "start-time": min(step["start-time"], ms), "end-time": ms})
        if session["writer"] is not None:
            _agent_entry(self.document, session["agent-id"])["runs"][status] += 1
        self._touched.add(session["agent-id"])

    def _annotated(self, event: Record) -> None:
        attributes = event["attributes"].items()
        known = self._session(event, _ms(event))["attributes"]
        for name, value in attributes:
            if name in known or len(known) < LIMITS["attributes"]:
                known[name] = value

    # -- steps

    def _workflow_declared(self, event: Record) -> None:
        steps = [str(step) for step in event["steps"]]
        self._session(event, _ms(event))["workflow"] = {"total-steps": len(steps), "steps": steps}

    def _step_started(self, event: Record) -> None:
        step, span, ms = _text(event, "step"), _text(event, "span"), _ms(event)
        session = self._session(event, ms)
        steps = session["steps"]
        started = {"step-id": step, "span": span, "status": "running", "start-time": ms, "end-time": None}
        known = next((known for known in steps if known.get("span") == span), None)
        if known is None:
            steps.append(started)
            del steps[: -LIMITS["steps"]]
        elif known["status"] == "crashed":  # thought dead, as the session was
            known.update(started)
        else:
            return  # told again, by a writer that had to begin a new journal
        session["current-step"] = step

    def _step_ended(self, event: Record) -> None:
        step, span, status, ms = _text(event, "step"), _text(event, "span"), _text(event, "status"), _ms(event)
        start = ms - _integer(event, "duration_ns") // 1_000_000
        session = self._session(event, ms)
        for known in reversed(session["steps"]):
            if known.get("span") == span:
                known.update({"status": status, "end-time": ms})
                if known["start-time"] > ms:  # the clock was set back meanwhile
                    known["start-time"] = start
                break
        else:
            ended = {"step-id": step, "span": span, "status": status, "start-time": start, "end-time": ms}
            session["steps"].append(ended)
            del session["steps"][: -LIMITS["steps"]]
        session["current-step"] = _current_step(session)

    # -- the rest

    def _activity(self, event: Record) -> None:
        ms, status = _ms(event), _text(event, "status")
        session = self._session(event, ms)
        tool = event.get("tool")
        self._log(ms, session["agent-id"], tool if isinstance(tool, str) else None, status)

    def _writer_opened(self, event: Record) -> None:
        writer: Record = {"pid": _integer(event, "pid"), "host": _text(event, "host")}
        for source, target, kind in _WHEREABOUTS:
            if type(event.get(source)) is kind:
                writer[target] = event[source]
        self.document["writers"][self._writer] = writer
        if event.get("unseen") is True:
            self.unseen_writers.add(self._writer)

    def _process_of(self, writer: str) -> Record:
        """What a session shows of its writer."""
        known = self.document["writers"].get(writer, {})
        return {key: known[key] for key in ("pid", "host") if key in known}

    def _writer_dropped(self, event: Record) -> None:
        reason, count = _text(event, "reason"), _integer(event, "count")
        dropped = self.document["health"].setdefault("dropped", {})
        dropped[reason] = dropped.get(reason, 0) + count

    def _overflow(self, what: str, count: int = 1) -> None:
        overflow = self.document["health"].setdefault("overflow", {})
        overflow[what] = overflow.get(what, 0) + count

    def _log(self, ms: int, agent: str, tool: str | None, status: str) -> None:
        self._log_of_writer().append((ms, agent, tool, status))

    def _log_of_writer(self) -> deque[_LogLine]:
        log = self._logs.get(self._writer)
        if log is None:
            log = self._logs[self._writer] = deque(maxlen=LIMITS["recent-logs"])
        return log


def _new_session(agent: str, ms: int) -> Record:
    return {
        "agent-id": agent, "status": "running", "start-time": ms, "last-seen": ms, "end-time": None,
        "current-step": None, "steps": [], "workflow": None, "writer": None, "calls": 0, "errors": 0,
        "total-duration": 0.0, "in-flight": {}, "attributes": {},
    }  # fmt: skip


def _current_step(session: Record) -> Any:
    running = [step["step-id"] for step in session["steps"] if step["status"] == "running"]
    return running[-1] if running else None


def _call(interrupted: Record) -> Record:
    """A call that was cut off, as it is kept while it is in flight."""
    return {key: value for key, value in interrupted.items() if key != "span"}


def is_quiet(session: Record, newest_ms: int) -> bool:
    """Whether nothing was heard for a while of a session whose start was never seen."""
    return (
        session["writer"] is None
        and session["status"] == "running"
        and session["last-seen"] < newest_ms - _QUIET_MS
        and not session["in-flight"]
    )


def take_for_ended(session: Record) -> None:
    """Nobody will tell the end of a session whose start was never seen."""
    session.update({"status": "completed", "end-time": session["last-seen"], "quiet": True})


def _may_go_on(session: Record) -> bool:
    """Whether it runs, or is only taken for ended."""
    return session["status"] == "running" or bool(session.get("quiet"))


def _agent_entry(document: Document, agent: str) -> Record:
    agents = document["agents"]
    entry: Record = agents.setdefault(agent, {})
    if "runs" not in entry:  # new, or written by somebody else
        entry["runs"] = dict.fromkeys(_RUNS, 0)
    if "calls" not in entry:
        entry["calls"] = dict.fromkeys(_COUNTS, 0) | {"total-duration": 0.0}
    return entry


def _summarise(document: Document, agents: set[str]) -> None:
    """An agent shows its latest running session, or else the latest that ended, listed or not."""
    by_agent: dict[str, list[tuple[str, Record]]] = {agent: [] for agent in agents}
    for sid, session in document["sessions"].items():
        if session["agent-id"] in by_agent:
            by_agent[session["agent-id"]].append((sid, session))
    unlisted: dict[str, list[tuple[int, str]]] = {}
    for sid, (agent, _, start, _) in document["unlisted"].items():
        unlisted.setdefault(agent, []).append((start, sid))
    for agent, sessions in by_agent.items():
        entry, waiting = _agent_entry(document, agent), unlisted.get(agent, [])
        if entry["runs"]["count"]:  # then a session without a start is one that was forgotten, and counted before that
            counted = [session for _, session in sessions if session["writer"] is not None]
        else:
            counted = [session for _, session in sessions]
        entry["runs"]["running"] = len(waiting) + sum(session["status"] == "running" for session in counted)
        if sessions:
            entry["last-seen"] = max(_number(entry, "last-seen"), *(session["last-seen"] for _, session in sessions))
            _show_last_ended(entry, sessions)
            _show_latest(entry, *max(reversed(sessions), key=_lateness), document)
        if waiting and (entry.get("status") != "running" or entry.get("session") not in document["sessions"]):
            start, sid = max(waiting)
            entry.update(_FORGOTTEN_STATE | {"status": "running", "start-time": start, "session": sid})


_STATE = ("status", "start-time", "end-time", "current-step", "steps", "workflow", "error", "interrupted")
_FORGOTTEN_STATE: Record = dict.fromkeys(_STATE) | {"steps": [], "interrupted": []}


def _lateness(item: tuple[str, Record]) -> tuple[bool, bool, int]:
    """A session whose start was never seen says little about its agent: most often it ended and was forgotten."""
    _, session = item
    return session["writer"] is not None, session["status"] == "running", session["start-time"]


def _show_latest(entry: Record, sid: str, latest: Record, document: Document) -> None:
    """Show that session, unless the one shown is later and only not listed any more."""
    shown = entry.get("session")
    if type(shown) is str and latest["writer"] is None and entry["runs"]["count"]:
        return
    have_ended = entry.get("status") != "running" and latest["status"] != "running"
    is_earlier = latest["start-time"] < _number(entry, "start-time")
    if type(shown) is str and shown not in document["sessions"] and have_ended and is_earlier:
        return
    entry.update({key: latest.get(key) for key in _STATE})
    entry["interrupted"] = latest.get("interrupted", [])[-_INTERRUPTED_SHOWN:]
    entry["session"] = sid


def _show_last_ended(entry: Record, sessions: list[tuple[str, Record]]) -> None:
    """Keep which run ended last and how, also beyond the time for which it is listed."""
    ended = [(sid, each) for sid, each in sessions if each["status"] != "running" and each["writer"] is not None]
    if ended:
        sid, last = max(reversed(ended), key=lambda item: _number(item[1], "end-time"))
        known = entry.get("last-ended")
        if type(known) is not dict or _number(known, "end-time") <= _number(last, "end-time"):
            entry["last-ended"] = {"session": sid, "status": last["status"], "end-time": last["end-time"]}


def _forget_old_sessions(document: Document) -> None:
    sessions = document["sessions"]
    ended = [(_number(session, "end-time"), sid) for sid, session in sessions.items() if session["status"] != "running"]
    for _, sid in sorted(ended)[: max(0, len(ended) - LIMITS["ended-sessions"])]:
        del sessions[sid]


def _surplus_running(document: Document) -> set[str]:
    """Running sessions beyond the limit: those of which nothing was heard for longest."""
    seen = [(s["last-seen"], sid) for sid, s in document["sessions"].items() if s["status"] == "running"]
    return {sid for _, sid in sorted(seen)[: max(0, len(seen) - LIMITS["running-sessions"])]}


def _unlist(document: Document, surplus: Set[str]) -> None:
    """Keep of running sessions that are too many what their end needs."""
    for sid in sorted(surplus):
        session = document["sessions"].get(sid)
        if session is not None and session["status"] == "running":
            idle_worker = _is_implicit_worker(session) and not session["in-flight"]
            entry = [session["agent-id"], session["writer"], session["start-time"], idle_worker]
            document["unlisted"][sid] = entry
            del document["sessions"][sid]


def _is_implicit_worker(session: Record) -> bool:
    """Whether it is the session that a worker process has without anybody's asking."""
    return bool(session.get("worker") and session.get("implicit"))


def _forget_old_rates(document: Document) -> None:
    rate = document["rate"]
    if len(rate) > LIMITS["rate-seconds"]:
        newest = sorted(rate, key=int)[-LIMITS["rate-seconds"] :]
        document["rate"] = {second: rate[second] for second in newest}


def _log_entry(line: _LogLine) -> Record:
    return dict(zip(("timestamp", "agent-id", "tool", "status"), line, strict=True))


def _latency(counts: Record) -> dict[str, int]:
    """The histogram's buckets."""
    if "latency" not in counts:
        counts["latency"] = {"scale": 3, "unit": "ns", "buckets": {}}
    known: dict[str, int] = counts["latency"]["buckets"]
    return known


def _by_second(times_us: list[int]) -> Iterable[tuple[str, int]]:
    """How many of the times are in each second, by its key."""
    first = times_us[0] // 1_000_000
    if min(times_us) // 1_000_000 == max(times_us) // 1_000_000:
        return ((str(first), len(times_us)),)
    return [(str(second), count) for second, count in Counter(us // 1_000_000 for us in times_us).items()]


def _failure(event: Record) -> Record | None:
    error = event.get("error")
    if type(error) is not dict:
        return None
    return {"type": str(error.get("type", ""))[:256], "message": str(error.get("message", ""))[:1000]}


def _text(event: Record, key: str) -> str:
    value = event[key]
    if type(value) is not str:
        raise TypeError(key)
    return value


def _integer(event: Record, key: str) -> int:
    value = event[key]
    if type(value) is not int:
        raise TypeError(key)
    return value


def _number(entry: Record, key: str) -> int:
    value = entry.get(key, 0)
    return value if type(value) in (int, float) else 0


def _ms(event: Record) -> int:
    return _integer(event, "ts") // 1000
