"""The report: RESULTS.md from the results of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import _targets
from benchmarks._results import Result, Table

__all__ = ["markdown", "renewed"]

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


def renewed(old: str, new: str, facts: Mapping[str, str]) -> str:
    """The report ``old`` with the scenarios that ``new`` has in the place of its own, and a line that says so.

    Args:
        old: a whole report.
        new: a report of some scenarios.
        facts: those of ``new``.
    """
    sections, again = _sections(old), _sections(new)
    targets = sections["Targets"].splitlines()
    measured = {_first(line): line for line in again.pop("Targets").splitlines() if "| not measured |" not in line}
    sections["Targets"] = "\n".join(measured.get(_first(line), line) for line in targets) + "\n"
    head = again.pop("")
    assert head.startswith(_HEAD)
    old_lines = [line for line in sections[""].splitlines() if not line.startswith(tuple(map(_anew, again)))]
    notes = [f"{_anew(name)} in a run of its own ({facts['Noise']}; {facts['When']})" for name in again]
    sections[""] = "\n".join(old_lines).rstrip() + "\n" + "\n".join(notes) + "\n\n"
    sections |= {name: text.rstrip() + "\n\n" for name, text in again.items()}
    return "".join(f"## {name}\n{text}" if name else text for name, text in sections.items()).rstrip() + "\n"


def _anew(name: str) -> str:
    return f"- Measured anew, {name}:"


def _sections(report: str) -> dict[str, str]:
    head, *rest = ("\n" + report).split("\n## ")
    return {"": head[1:] + "\n"} | {name: text + "\n" for name, _, text in (part.partition("\n") for part in rest)}


def _first(line: str) -> str:
    return line.partition(" | ")[0]


def _table(table: Table) -> str:
    alignments = ["---", *["---:"] * (len(table.columns) - 1)]
    return "\n".join(_line(row) for row in [table.columns, alignments, *table.rows])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
