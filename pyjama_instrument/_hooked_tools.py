"""The names of tools that have hooks: all that a call of a tool without hooks has to look at."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["hooked", "when_changed"]

hooked: set[str] = set()
when_changed: list[Callable[[], None]] = []
"""Called whenever the names have changed."""
