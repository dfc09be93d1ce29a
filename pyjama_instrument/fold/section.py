"""What a section of the document consists of, and what all sections share during a fold."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from pyjama_instrument.fold.fields import Document, Record

__all__ = ["FoldState", "Handler", "LogLine", "Section"]

LogLine: TypeAlias = tuple[int, str, str | None, str]
"""A line of the activity log: time in ms, agent, tool, status."""


class FoldState:
    """One fold in progress.

    Attributes:
        document: the document that the fold changes.
        writer: the writer whose events are being added.
        changed: the names of the entries that may have changed, by section.
        agents: the agents whose summaries must be made again.
        log: the last lines for the activity log, by writer.
        unseen_writers: the writers that have had a segment retired while they held it.
    """

    __slots__ = ("agents", "changed", "document", "log", "unseen_writers", "writer")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.writer = ""
        self.changed: defaultdict[str, set[str]] = defaultdict(set)
        self.agents: set[str] = set()
        self.log: dict[str, deque[LogLine]] = {}
        self.unseen_writers: set[str] = set()


Handler: TypeAlias = Callable[[FoldState, Record], None]
"""Adds one event. If it raises, it has changed nothing."""


class Section:
    """A section of the document.

    Attributes:
        keys: its keys in the document, with the type of each value.
        handlers: what adds an event, by kind of event.
        repair: removes from the section what other programs have put there and the fold cannot use.
        finish: brings the section up to date after all events are added.
    """

    __slots__ = ("finish", "handlers", "keys", "repair")

    def __init__(
        self,
        keys: Mapping[str, type],
        handlers: Mapping[str, Handler] | None = None,
        repair: Callable[[Document], None] = lambda document: None,
        finish: Callable[[FoldState], None] = lambda state: None,
    ) -> None:  # not a named tuple: creating one takes long, and each program that records would pay for it at its end
        self.keys, self.handlers, self.repair, self.finish = keys, handlers or {}, repair, finish
