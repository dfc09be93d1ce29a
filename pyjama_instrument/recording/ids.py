"""Random identifiers in the W3C Trace Context format."""

from __future__ import annotations

import os

__all__ = ["Ids"]

_PREFIX_BYTES = 7
_SUFFIXES = ["", *(f"{number:02x}," for number in range(63)), "3f"]  # joined by the prefix they are a series of ids


class Ids:
    """Makes ids from the system's entropy, so that the program's own ``random.seed()`` does not affect them.

    Span ids come in series of 64 that share their first 56 random bits: they are as unique as 64 random bits, and
    cost a fraction.

    Attributes:
        spans: span ids made in advance. To take the last one, and to call :meth:`more_spans` when there is none, is
            the quickest way to an id.
    """

    spans: list[str]
    _made = 0

    def __init__(self) -> None:
        self.reseed()

    def reseed(self) -> None:
        """Forget ids made in advance: a forked child must not use the same as its parent."""
        self.spans, self._made = [], 0

    @property
    def used(self) -> int:
        """How many span ids were taken since the last :meth:`reseed`; taking one costs nothing more for it."""
        return self._made - len(self.spans)

    def more_spans(self) -> str:
        """Make span ids in advance, and return one."""
        prefix = os.urandom(_PREFIX_BYTES).hex()
        spans = prefix.join(_SUFFIXES).split(",")
        self._made += len(spans) - len(self.spans)  # another thread may have made some meanwhile
        span = spans.pop()
        self.spans = spans
        return span

    def span(self) -> str:
        """16 hexadecimal digits."""
        try:
            return self.spans.pop()
        except IndexError:
            return self.more_spans()

    def trace(self) -> str:
        """32 hexadecimal digits."""
        return os.urandom(16).hex()
