"""How far long work has come, on standard error, for a person who waits there; nothing anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["Progress"]

_SILENT_SECONDS = 0.5
_EVERY_SECONDS = 0.1
_CELLS = 30


class Progress:
    """A line that is drawn over and over, once the work has taken longer than a moment, and wiped at the end."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._shown = wanted and sys.stderr.isatty()
        self._next = time.monotonic() + _SILENT_SECONDS
        self._drawn = False

    def tell(self, done: int, total: int) -> None:
        """So much of so much is done."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        self._drawn = True
        share = done / total if total else 1.0
        bar = "#" * round(share * _CELLS)
        sys.stderr.write(f"\r[{bar.ljust(_CELLS, '.')}] {share:4.0%} of {total / 2**20:.0f} MiB\x1b[K")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
