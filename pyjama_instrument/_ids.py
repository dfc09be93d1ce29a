"""Random identifiers in the W3C Trace Context format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

__all__ = ["Ids"]

_PREFIX_BYTES = 7
_SUFFIXES = [f"{number:02x}" for number in range(64)]


class Ids:
    """Makes ids from the system's entropy, so that the program's own ``random.seed()`` has no say in them.

    Span ids come in series of 64 that share their first 56 random bits: that is as unique as 64 random bits are, for
    a fraction of the price.

    Attributes:
        spans: span ids made in advance. ``next(ids.spans, None) or ids.more_spans()`` is the quickest way to one.
    """

    spans: Iterator[str]

    def __init__(self, refilling: Callable[[], None] = lambda: None) -> None:
        """``refilling`` is called now and then, before ids are made: a time to notice what must not be repeated."""
        self._refilling = refilling
        self.reseed()

    def reseed(self) -> None:
        """Forget ids made in advance: a forked child must not use the same as its parent."""
        self.spans = iter(())

    def more_spans(self) -> str:
        """Make span ids in advance, and give one."""
        self._refilling()
        spans = map(os.urandom(_PREFIX_BYTES).hex().__add__, _SUFFIXES)
        span = next(spans)
        self.spans = spans
        return span

    def span(self) -> str:
        """16 hexadecimal digits."""
        return next(self.spans, None) or self.more_spans()

    def trace(self) -> str:
        """32 hexadecimal digits."""
        return os.urandom(16).hex()
