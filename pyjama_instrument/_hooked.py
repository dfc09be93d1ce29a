"""The names of tools that have hooks: all that a call of a tool without hooks has to look at."""

from __future__ import annotations

__all__ = ["hooked"]

hooked: set[str] = set()
