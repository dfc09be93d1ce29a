"""How large the fault tests run: bounded by default, at full size when ``PYJAMA_STRESS=1`` (``make stress``).

The one place that reads the switch. A test names both of its sizes where it uses them: ``full(500, 12)``. What only
runs at full size is marked ``@at_full_size``.
"""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

__all__ = ["STRESS", "at_full_size", "full"]

T = TypeVar("T")

STRESS = os.environ.get("PYJAMA_STRESS") == "1"

at_full_size = pytest.mark.skipif(not STRESS, reason="only at full size: make stress")


def full(large: T, small: T) -> T:
    """``large`` at full size, ``small`` otherwise."""
    return large if STRESS else small
