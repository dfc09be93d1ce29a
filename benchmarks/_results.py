"""What a scenario gives: tables for people to read and figures for the targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Result", "Table"]


@dataclass
class Table:
    """A table of the report; cells are text already."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Result:
    """A scenario's outcome.

    Attributes:
        tables: in the order of the report.
        figures: what the targets are compared with, by name; see ``_targets``.
        raw: medians and counts as measured, kept in ``results.json``.
    """

    tables: list[Table] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
