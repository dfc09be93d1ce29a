"""The fold: (document, events) → document. Pure: no files, no clock, no locks.

Invariants:

* Folding events in one go or in any number of portions gives the same document (except for the order of activity-log
  lines of one millisecond, and for the last digits of sums of durations).
* A fold only adds to the document: counters grow, and keys that it does not know stay.
* A damaged event changes nothing but ``health``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from pyjama_instrument.fold import crashes, health
from pyjama_instrument.fold.call_batch import CallBatch
from pyjama_instrument.fold.calls import TOOL, count_calls
from pyjama_instrument.fold.document import SECTIONS, repaired
from pyjama_instrument.fold.fields import Document, Record
from pyjama_instrument.fold.section import FoldState, Handler

__all__ = ["Fold"]

_HANDLERS: dict[str, Handler] = {kind: handler for section in SECTIONS for kind, handler in section.handlers.items()}


class Fold:
    """Folds events into one document. Call :meth:`finish` after all events are added.

    Args:
        document: the document to fold onto; it is changed.
        sound: a fold has made the document, so it needs no repair.

    Attributes:
        document: the result.
    """

    def __init__(self, document: Document, *, sound: bool = False) -> None:
        self.document = document if sound else repaired(document)
        self._state = FoldState(self.document)

    @property
    def changed(self) -> Mapping[str, Set[str]]:
        """The names of the entries that may have changed, by section."""
        return self._state.changed

    @property
    def unseen_writers(self) -> Set[str]:
        """The writers that have had a segment retired while they held it."""
        return self._state.unseen_writers

    def add(self, writer: str, items: Iterable[Record | CallBatch]) -> None:
        """Add events of one writer, in the order in which they were recorded. Unknown kinds are skipped."""
        state = self._state
        state.writer = writer
        for item in items:
            try:
                if type(item) is CallBatch:
                    count_calls(state, TOOL, item)
                    continue
                event: Any = item
                handler = _HANDLERS.get(event.get("kind", ""))
                if handler is not None:
                    handler(state, event)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                self.count_damaged(len(item.spans) if type(item) is CallBatch else 1)

    def count_damaged(self, count: int) -> None:
        """Count records that cannot be read."""
        health.count_damaged(self.document, count)

    def writers_died(self, writers: Set[str]) -> None:
        """These writers are proven dead: their running sessions have crashed, and their calls were cut off."""
        crashes.writers_died(self._state, writers)

    def writers_live(self, writers: Set[str]) -> None:
        """These writers were declared dead and are not: their sessions are running again."""
        crashes.writers_live(self._state, writers)

    def crashed_writers(self) -> set[str]:
        """The writers of the sessions that have crashed."""
        return crashes.crashed_writers(self.document)

    def running_writers(self) -> set[str]:
        """The writers whose death would end a session or cut off a call."""
        return crashes.running_writers(self.document)

    def finish(self) -> None:
        """Bring the derived parts up to date: activity log, summaries of agents, limits."""
        for section in SECTIONS:
            section.finish(self._state)
