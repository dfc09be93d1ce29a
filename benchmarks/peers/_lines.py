"""Peers that leave a line per call in a file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FILE", "recorded"]

FILE = "calls.log"


def recorded(directory: Path) -> int:
    """The complete lines in the file."""
    path = directory / FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0
