"""A separate store for a test, with a clock that the test moves and predictable ids."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyjama_instrument.recording.ids import Ids
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.settings import reset_for_testing

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData
    from pyjama_instrument.events import AnyEvent

__all__ = ["FakeClock", "SequentialIds", "TestStore", "isolated_store"]


class FakeClock:
    """A clock that moves only with :meth:`advance`. Wall time and monotonic time move together."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        """The current time, in ns."""
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Args:
            seconds: by how much; at least 0.
        """
        self.now_ns += round(seconds * 1e9)


class SequentialIds(Ids):
    """Ids that count up from 1, so each test run gets the same ids."""

    def reseed(self) -> None:
        """Start again at 1."""
        self._numbers = itertools.count(1)
        self.spans = []

    def more_spans(self) -> str:
        """16 hexadecimal digits: the next number. No ids are made in advance."""
        return f"{next(self._numbers):016x}"

    def trace(self) -> str:
        """32 hexadecimal digits: the next number."""
        return f"{next(self._numbers):032x}"


@dataclass(frozen=True)
class TestStore:
    """A store for one test: its directory and its contents."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    home: str

    def events(self) -> list[AnyEvent]:
        """All events recorded so far, ordered by time."""
        from pyjama_instrument.reader import tail_events

        return list(tail_events(self.home, limit=None))

    def dashboard(self) -> DashboardData:
        """The data that the dashboard shows."""
        from pyjama_instrument.reader import get_dashboard_data

        return get_dashboard_data(self.home)


@contextmanager
def isolated_store(
    home: str | os.PathLike[str], *, clock: FakeClock | None = None, ids: Ids | None = None
) -> Iterator[TestStore]:
    """For the block, this process records into ``home``, from a clean state.

    Args:
        home: the directory. It is created if it does not exist.
        clock: replaces the wall clock and the monotonic clock.
        ids: replaces the random ids, for example :class:`SequentialIds`.
    """
    kept = recorder.wall_ns, recorder.mono_ns, recorder.ids
    reset_for_testing(home)
    if clock is not None:
        recorder.wall_ns = recorder.mono_ns = clock
    if ids is not None:
        recorder.ids = ids
    try:
        yield TestStore(os.fspath(home))
    finally:
        reset_for_testing()
        recorder.wall_ns, recorder.mono_ns, recorder.ids = kept
