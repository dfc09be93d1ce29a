"""The names of tools that have hooks. A call of a tool without hooks reads nothing else about hooks."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["hooked", "when_changed"]

hooked: set[str] = set()
when_changed: list[Callable[[], None]] = []
"""Called whenever the names have changed."""
