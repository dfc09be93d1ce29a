"""Random identifiers in the W3C Trace Context format."""

from __future__ import annotations

import os
import random

__all__ = ["Ids"]


class Ids:
    """Makes ids from a private generator, so that the program's own ``random.seed()`` has no say in them."""

    def __init__(self) -> None:
        self.reseed()

    def reseed(self) -> None:
        """Start afresh from the system's entropy: a forked child must not repeat its parent's ids."""
        self._bits = random.Random(os.urandom(16)).getrandbits

    def span(self) -> str:
        """16 hexadecimal digits."""
        return f"{self._bits(64) or 1:016x}"

    def trace(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._bits(128) or 1:032x}"
