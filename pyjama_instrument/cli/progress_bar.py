"""A progress bar on standard error, if that is a terminal and the work takes longer than a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["ProgressBar"]

_DELAY_SECONDS = 0.5
_INTERVAL_SECONDS = 0.1
_CELLS = 30


class ProgressBar:
    """A context manager: the bar is redrawn in place, and removed at the end of the block."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._enabled = wanted and sys.stderr.isatty()
        self._next = time.monotonic() + _DELAY_SECONDS
        self._drawn = False

    def update(self, done: int, total: int) -> None:
        """Redraw the bar, unless it was drawn just now.

        Args:
            done: bytes that are done.
            total: bytes that there are.
        """
        now = time.monotonic()
        if not self._enabled or now < self._next:
            return
        self._next = now + _INTERVAL_SECONDS
        self._drawn = True
        share = done / total if total else 1.0
        bar = "#" * round(share * _CELLS)
        sys.stderr.write(f"\r[{bar.ljust(_CELLS, '.')}] {share:4.0%} of {total / 2**20:.0f} MiB\x1b[K")
        sys.stderr.flush()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
