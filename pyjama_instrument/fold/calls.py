"""The sections ``tools`` and ``global``: calls are counted here, alike for each kind of call, one or many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from pyjama_instrument.fold import sessions
from pyjama_instrument.fold.activity_log import lines_of_writer
from pyjama_instrument.fold.agents import agent_entry
from pyjama_instrument.fold.call_batch import CallBatch
from pyjama_instrument.fold.counts import latency_buckets, new_counts, repaired_counts
from pyjama_instrument.fold.fields import Document, Record, failure, integer, text, time_ms
from pyjama_instrument.fold.health import count_overflow
from pyjama_instrument.fold.histogram import bucket, buckets
from pyjama_instrument.fold.limits import LIMITS, OTHER
from pyjama_instrument.fold.rates import by_second
from pyjama_instrument.fold.section import FoldState, Handler, Section

__all__ = ["CALLS", "TOOL", "CallKind", "count_calls"]

_OUTCOMES = {"ok": "success", "error": "error"}


class CallKind:
    """A kind of calls, and where the document counts them.

    Attributes:
        name: the first part of the kinds of events, and the events' field with the name of what is called.
        section: the section with the counters of each name.
        total: the section with the counters of all names together.
        of_agent: the part of an agent's entry that counts its calls.
    """

    __slots__ = ("name", "of_agent", "section", "total")

    def __init__(self, name: str, section: str, total: str, of_agent: str) -> None:
        self.name, self.section, self.total, self.of_agent = name, section, total, of_agent


TOOL = CallKind("tool", "tools", "global", "calls")


def count_calls(state: FoldState, kind: CallKind, calls: CallBatch) -> None:
    """Count calls that have succeeded. If it raises, it has changed nothing."""
    agent, sid, name, spans, times_us, durations_ns = calls
    duration_ms, seconds = sum(durations_ns) / 1e6, by_second(times_us)
    session = sessions.find(state, agent, sid, times_us[0] // 1000)
    # Nothing is changed before this, and nothing can fail after it.
    session["last-seen"] = max(session["last-seen"], max(times_us) // 1000)
    _count(state, kind, session, name, "success", len(spans), duration_ms, buckets(durations_ns), seconds)
    if in_flight := session["in-flight"]:
        for span in spans:
            in_flight.pop(span, None)
    log = lines_of_writer(state)
    for us in times_us[-LIMITS["recent-logs"] :]:
        log.append((us // 1000, agent, name, "ok"))


def _ended(kind: CallKind, state: FoldState, event: Record) -> None:
    name, span, status, ms = text(event, kind.name), text(event, "span"), text(event, "status"), time_ms(event)
    duration_ns = integer(event, "duration_ns")
    if duration_ns < 0:
        raise ValueError("negative duration")
    duration_ms, seconds = duration_ns / 1e6, ((str(ms // 1000), 1),)
    session = sessions.find(state, event["agent"], event["session"], ms)
    # Nothing is changed before this, and nothing can fail after it.
    outcome = _OUTCOMES.get(status, "cancelled")
    entry = _count(state, kind, session, name, outcome, 1, duration_ms, ((bucket(duration_ns), 1),), seconds)
    if session["in-flight"]:
        session["in-flight"].pop(span, None)
    if outcome == "error" and (error := failure(event)):
        entry["last-error"] = error
    lines_of_writer(state).append((ms, event["agent"], name, status))


def _count(
    state: FoldState,
    kind: CallKind,
    session: Record,
    name: str,
    outcome: str,
    count: int,
    duration_ms: float,
    latencies: Iterable[tuple[str, int]],
    seconds: Iterable[tuple[str, int]],
) -> Record:
    """Add calls of one name in one session to all counters; returns those of the name.

    Args:
        state: the fold in progress.
        kind: which calls these are.
        session: their session.
        name: the tool, for instance.
        outcome: the counter of their outcome.
        count: how many there are.
        duration_ms: the sum of their durations.
        latencies: how many belong to each bucket of the histogram.
        seconds: how many ended in each second.
    """
    document = state.document
    total, entry = document[kind.total], _entry(state, kind, name, count)
    for counts in (total, entry, agent_entry(document, session["agent-id"])[kind.of_agent]):
        counts["count"] = counts.get("count", 0) + count
        counts[outcome] = counts.get(outcome, 0) + count
        counts["total-duration"] = counts.get("total-duration", 0) + duration_ms
    in_total, in_entry = latency_buckets(total), latency_buckets(entry)
    for key, times in latencies:
        in_total[key] = in_total.get(key, 0) + times
        in_entry[key] = in_entry.get(key, 0) + times
    session["calls"] += count
    session["total-duration"] += duration_ms
    if outcome == "error":
        session["errors"] += count
    rate = document["rate"]
    for second, times in seconds:
        rate[second] = rate.get(second, 0) + times
    return entry


def _started(kind: CallKind, state: FoldState, event: Record) -> None:
    name, span, ms = text(event, kind.name), text(event, "span"), time_ms(event)
    in_flight = sessions.of_event(state, event, ms)["in-flight"]
    if len(in_flight) < LIMITS["in-flight"]:
        in_flight[span] = {kind.name: name, "start-time": ms, "writer": state.writer}


def _entry(state: FoldState, kind: CallKind, name: str, count: int) -> Record:
    """The counters of that name; those of all others if there are too many names."""
    entries: Document = state.document[kind.section]
    entry: Record | None = entries.get(name)
    if entry is None:
        if name != OTHER and len(entries) >= LIMITS[kind.section]:
            count_overflow(state.document, kind.section, count)
            return _entry(state, kind, OTHER, count)
        entry = entries[name] = new_counts()
    state.changed[kind.section].add(name)
    return entry


def _repair(kind: CallKind, document: Document) -> None:
    entries = document[kind.section]
    for name in [name for name, entry in entries.items() if type(entry) is not dict]:
        del entries[name]
    for counts in (document[kind.total], *entries.values()):
        repaired_counts(counts)


def _section(kind: CallKind) -> Section:
    handlers: Mapping[str, Handler] = {
        f"{kind.name}.started": partial(_started, kind),
        f"{kind.name}.ended": partial(_ended, kind),
    }
    return Section({kind.section: dict, kind.total: dict}, handlers, partial(_repair, kind))


CALLS = _section(TOOL)
