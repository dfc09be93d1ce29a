"""The document: its sections, an empty one, one repaired, and one with its totals cleared."""

from __future__ import annotations

from pyjama_instrument.fold.activity_log import ACTIVITY_LOG
from pyjama_instrument.fold.agents import AGENTS, agent_entry, summarize
from pyjama_instrument.fold.calls import CALLS
from pyjama_instrument.fold.eviction import EVICTION
from pyjama_instrument.fold.fields import Document
from pyjama_instrument.fold.health import HEALTH
from pyjama_instrument.fold.rates import RATES
from pyjama_instrument.fold.section import Section
from pyjama_instrument.fold.sessions import SESSIONS
from pyjama_instrument.fold.steps import STEPS
from pyjama_instrument.fold.writers import WRITERS

__all__ = ["SECTIONS", "cleared_document", "new_document", "repaired"]

SECTIONS: tuple[Section, ...] = (
    AGENTS,
    SESSIONS,
    STEPS,
    CALLS,
    ACTIVITY_LOG,
    RATES,
    WRITERS,
    HEALTH,
    EVICTION,
)
"""All sections. A new one is a module and a row here."""


def new_document() -> Document:
    """A document with every section and nothing counted."""
    return repaired({})


def repaired(document: Document) -> Document:
    """The document with every section present and of the right type; a section of another type is replaced."""
    for section in SECTIONS:
        for key, kind in section.keys.items():
            if type(document.get(key)) is not kind:
                document[key] = kind()
    for section in SECTIONS:
        section.repair(document)
    return document


def cleared_document(document: Document, onto: Document | None = None, since_us: int | None = None) -> Document:
    """A document with all counters at zero and the sessions that are still running.

    Args:
        document: the document from before.
        onto: what another program has put in its place; its totals stay.
        since_us: the time of the clear (µs since the epoch).
    """
    fresh = repaired({} if onto is None else onto)
    if since_us is not None:
        fresh["counted-since"] = since_us
    for key in ("journals", "retired", "writers", "unlisted"):
        fresh[key] = document[key]
    for key in ("locks", "lock-domains"):
        if key in document["health"]:
            fresh["health"][key] = document["health"][key]
    fresh["generation"] = document.get("generation", 0)
    if "clock" in document:
        fresh["clock"] = document["clock"]
    for agent, *_ in fresh["unlisted"].values():
        agent_entry(fresh, agent)["runs"]["count"] += 1
    for sid, session in document["sessions"].items():
        if session["status"] == "running":
            agent = session["agent-id"]
            fresh["sessions"][sid] = session | {"calls": 0, "errors": 0, "total-duration": 0.0}
            agent_entry(fresh, agent)["runs"]["count"] += session["writer"] is not None
            if agent in document["specs"]:
                fresh["specs"].setdefault(agent, document["specs"][agent])
    summarize(fresh, set(fresh["agents"]))
    return fresh
