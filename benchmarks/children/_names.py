"""Names that those who make calls and those who look for them share."""

from __future__ import annotations

__all__ = ["MARK"]

MARK = "mark-"
