"""The report: RESULTS.md from the results of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import _targets
from benchmarks._results import Result, Table

__all__ = ["markdown"]

_HEAD = """# Results

Written by `python -m benchmarks`; do not edit. [What each number means](README.md). Only ratios within one run count.
"""


def markdown(facts: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """The whole report.

    Args:
        facts: what stands at the top, by label.
        results: by the name of the scenario, in order.
    """
    figures = {name: value for result in results.values() for name, value in result.figures.items()}
    parts = [_HEAD, "\n".join(f"- {label}: {fact}" for label, fact in facts.items()), "\n## Targets\n"]
    parts.append(_table(_targets.table(figures)))
    for name, result in results.items():
        parts.append(f"\n## {name}\n")
        for table in result.tables:
            parts.append(f"### {table.title}\n")
            parts += [f"{note}\n" for note in table.notes]
            parts.append(_table(table) + "\n")
    return "\n".join(parts).rstrip() + "\n"


def _table(table: Table) -> str:
    alignments = ["---", *["---:"] * (len(table.columns) - 1)]
    return "\n".join(_line(row) for row in [table.columns, alignments, *table.rows])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
