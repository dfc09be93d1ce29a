"""The values that arguments take: the choices, and how numbers are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

__all__ = ["FORMATS", "SHELLS", "SORTS", "STATUSES", "VALUES", "count", "port", "seconds"]

SHELLS = ("bash", "zsh", "fish")
"""The shells that ``completion`` prints a script for."""

VALUES = ("agents", "tools", "runs")
"""The recorded names that a completion script asks for."""

FORMATS = ("jsonl", "csv", "chrome-trace", "html")
"""The formats of ``export``, listed here so that the parser need not import the exporters."""

SORTS = ("calls", "errors", "rate", "p95", "time", "name")
"""The orders of ``top``; the first letter of each is its key."""

STATUSES = ("ok", "error", "cancelled", "completed", "failed")
"""The statuses of events. Activities may have others."""


def port(text: str) -> int:
    """A TCP port.

    Raises:
        argparse.ArgumentTypeError: the text is not one.
    """
    number = _number(text, int)
    if number is None or not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 (any free port) to 65535")
    return number


def seconds(text: str) -> float:
    """An interval from 0.1 s to one hour.

    Raises:
        argparse.ArgumentTypeError: the text is not one.
    """
    number = _number(text, float)
    if number is None or not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return number


def count(text: str) -> int:
    """A number of lines.

    Raises:
        argparse.ArgumentTypeError: the text is not one.
    """
    number = _number(text, int)
    if number is None or number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return number


_Number = TypeVar("_Number", int, float)


def _number(text: str, kind: Callable[[str], _Number]) -> _Number | None:
    # For a ValueError, argparse would print the name of the function that raised it.
    try:
        return kind(text)
    except ValueError:
        return None
