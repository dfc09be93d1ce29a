"""The section ``agents``: a summary of each agent, made from its runs."""

from __future__ import annotations

from pyjama_instrument.fold.counts import new_counts, repaired_counts
from pyjama_instrument.fold.fields import Document, Record, number
from pyjama_instrument.fold.section import Section

__all__ = ["AGENTS", "agent_entry", "run_totals", "summarize"]

_RUNS = ("count", "running", "completed", "failed", "cancelled", "crashed", "ended")
_STATE = ("status", "start-time", "end-time", "current-step", "steps", "workflow", "error", "interrupted")
_UNLISTED_STATE: Record = dict.fromkeys(_STATE) | {"steps": [], "interrupted": []}
_INTERRUPTED_SHOWN = 5


def agent_entry(document: Document, agent: str) -> Record:
    """The agent's entry, which is made if there is none."""
    agents = document["agents"]
    entry: Record | None = agents.get(agent)
    if entry is None:
        entry = agents[agent] = {}
    if "runs" not in entry:  # it is new, or the original tool wrote it
        entry["runs"] = dict.fromkeys(_RUNS, 0)
    if "calls" not in entry:
        entry["calls"] = new_counts()
    return entry


def run_totals(document: Document) -> dict[str, int]:
    """How many runs all agents have had, and how these ended. Only a clear makes them fall."""
    totals = dict.fromkeys(_RUNS, 0)
    for agent in document["agents"].values():
        runs = agent.get("runs", {})
        if number(runs, "count"):
            for key in _RUNS:
                totals[key] += number(runs, key)
        elif agent.get("status") in totals:  # the original tool writes only an agent's status
            totals["count"] += 1
            totals[agent["status"]] += 1
    return totals


def summarize(document: Document, agents: set[str]) -> None:
    """Bring the summaries of these agents up to date.

    An agent shows its latest run in progress, or otherwise the run that ended last, listed or not.
    """
    by_agent: dict[str, list[tuple[str, Record]]] = {agent: [] for agent in agents}
    for sid, session in document["sessions"].items():
        if session["agent-id"] in by_agent:
            by_agent[session["agent-id"]].append((sid, session))
    unlisted: dict[str, list[tuple[int, str]]] = {}
    for sid, (agent, _, start, _) in document["unlisted"].items():
        unlisted.setdefault(agent, []).append((start, sid))
    for agent, sessions in by_agent.items():
        _summarize_one(document, agent_entry(document, agent), sessions, unlisted.get(agent, []))


def _summarize_one(
    document: Document, entry: Record, sessions: list[tuple[str, Record]], unlisted: list[tuple[int, str]]
) -> None:
    # If runs are counted, a session without a start was evicted and returned, and is counted already.
    counted = [session for _, session in sessions if session["writer"] is not None or not entry["runs"]["count"]]
    entry["runs"]["running"] = len(unlisted) + sum(session["status"] == "running" for session in counted)
    if sessions:
        entry["last-seen"] = max(number(entry, "last-seen"), *(session["last-seen"] for _, session in sessions))
        _update_last_ended(entry, sessions)
        _update_state(entry, *max(reversed(sessions), key=_recency), document)
    if unlisted and (entry.get("status") != "running" or entry.get("session") not in document["sessions"]):
        start, sid = max(unlisted)
        entry.update(_UNLISTED_STATE | {"status": "running", "start-time": start, "session": sid})


def _recency(item: tuple[str, Record]) -> tuple[bool, bool, int]:
    """Sorts sessions whose start is unknown first, because most of them ended long ago."""
    _, session = item
    return session["writer"] is not None, session["status"] == "running", session["start-time"]


def _update_state(entry: Record, sid: str, latest: Record, document: Document) -> None:
    """Show the latest listed session, unless the summary shows a later one that is no longer listed."""
    shown = entry.get("session")
    if type(shown) is str and latest["writer"] is None and entry["runs"]["count"]:
        return
    have_ended = entry.get("status") != "running" and latest["status"] != "running"
    is_earlier = latest["start-time"] < number(entry, "start-time")
    if type(shown) is str and shown not in document["sessions"] and have_ended and is_earlier:
        return
    entry.update({key: latest.get(key) for key in _STATE})
    entry["interrupted"] = latest.get("interrupted", [])[-_INTERRUPTED_SHOWN:]
    entry["session"] = sid


def _update_last_ended(entry: Record, sessions: list[tuple[str, Record]]) -> None:
    """Keep which run ended last and how, also after that run is no longer listed."""
    ended = [(sid, each) for sid, each in sessions if each["status"] != "running" and each["writer"] is not None]
    if not ended:
        return
    sid, last = max(reversed(ended), key=lambda item: number(item[1], "end-time"))
    known = entry.get("last-ended")
    if type(known) is not dict or number(known, "end-time") <= number(last, "end-time"):
        entry["last-ended"] = {"session": sid, "status": last["status"], "end-time": last["end-time"]}


def _repair(document: Document) -> None:
    agents = document["agents"]
    for name in [name for name, entry in agents.items() if type(entry) is not dict]:
        del agents[name]
    for agent in agents.values():  # the original tool writes agents without either part
        if "runs" in agent:
            agent["runs"] = repaired_counts(agent["runs"], _RUNS)
        if "calls" in agent:
            agent["calls"] = repaired_counts(agent["calls"])


AGENTS = Section({"agents": dict}, repair=_repair)
