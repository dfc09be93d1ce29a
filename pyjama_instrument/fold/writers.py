"""The sections ``writers``, ``journals`` and ``retired``: the processes that record, and how far each was read."""

from __future__ import annotations

from pyjama_instrument.fold.fields import Document, Record, integer, text
from pyjama_instrument.fold.section import FoldState, Section

__all__ = ["WRITERS", "process_of"]

_PROCESS_FIELDS = (("boot_id", "boot-id", str), ("pid_namespace", "pid-namespace", int))


def process_of(document: Document, writer: str) -> Record:
    """What a session shows of the process of its writer."""
    known = document["writers"].get(writer, {})
    return {key: known[key] for key in ("pid", "host") if key in known}


def _writer_opened(state: FoldState, event: Record) -> None:
    writer: Record = {"pid": integer(event, "pid"), "host": text(event, "host")}
    for source, target, kind in _PROCESS_FIELDS:
        if type(event.get(source)) is kind:
            writer[target] = event[source]
    state.document["writers"][state.writer] = writer
    if event.get("unseen") is True:
        state.unseen_writers.add(state.writer)


def _repair(document: Document) -> None:
    for name in ("journals", "retired", "writers"):
        section = document[name]
        for key in [key for key, entry in section.items() if type(entry) is not dict]:
            del section[key]


WRITERS = Section({"writers": dict, "journals": dict, "retired": dict}, {"writer.opened": _writer_opened}, _repair)
