"""The diagram of a run's workflow: as Mermaid text, and as positions of boxes and arrows for the page. Pure."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from pyjama_instrument.viewer.labels import label
from pyjama_instrument.viewer.steps import StepState

__all__ = ["mermaid", "workflow_layout"]

_STYLES = {
    "pending": "fill:#f4f4f8,stroke:#a0a0b4,color:#60607a",
    "skipped": "fill:#f4f4f8,stroke:#c8c8d4,color:#8a8aa0,stroke-dasharray:4 3",
    "running": "fill:#dbeafe,stroke:#2563eb,color:#1e3a8a,stroke-width:2px",
    "done": "fill:#dcfce7,stroke:#16a34a,color:#14532d",
    "error": "fill:#fee2e2,stroke:#dc2626,color:#7f1d1d",
    "cancelled": "fill:#fef3c7,stroke:#d97706,color:#78350f",
    "crashed": "fill:#be123c,stroke:#881337,color:#ffffff",
}
_PLAIN = frozenset(" -_.,/()\u200c\u200d")  # the two joiners are part of some scripts and emoji
# Mermaid reads labels as Markdown, where a list marker in front or an underscore at a word's edge would disappear.
_LIST_MARKER = re.compile(r"-|\d+[.)]")
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")

MAX_NODES = 200
_COLUMNS = 5
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 150, 36, 34, 30, 4
_LABEL_CHARACTERS = 19


def mermaid(steps: Sequence[StepState]) -> str:
    """A Mermaid flowchart with one node per step, in order, coloured by state. Any name gives a valid chart."""
    lines = [f"flowchart {'LR' if len(steps) <= 6 else 'TD'}"]
    shown = steps[:MAX_NODES]
    lines += [f'    s{at}["{_escape(_caption(step))}"]:::{step.state}' for at, step in enumerate(shown)]
    if len(steps) > len(shown):
        lines.append(f'    s{len(shown)}["and {len(steps) - len(shown)} more"]:::pending')
    nodes = len(lines) - 1
    if not nodes:
        lines.append('    s0["no steps yet"]:::pending')
    lines += [f"    s{at} --> s{at + 1}" for at in range(nodes - 1)]
    used = {step.state for step in shown} | ({"pending"} if nodes != len(shown) or not nodes else set())
    lines += [f"    classDef {state} {style}" for state, style in _STYLES.items() if state in used]
    return "\n".join(lines) + "\n"


def _caption(step: StepState) -> str:
    return label(step.name) + (f" (x{step.times})" if step.times > 1 else "")


def _escape(text: str) -> str:
    """The text, escaped for use inside a quoted Mermaid label.

    Letters and digits of any script stay. Everything that Mermaid, Markdown or HTML could take for syntax becomes a
    numeric entity (``#59;``). Control and direction characters are replaced.
    """
    keep = [character in _PLAIN or unicodedata.category(character)[0] in "LNM" for character in text]
    marker = _LIST_MARKER.match(text)
    if marker:
        keep[marker.end() - 1] = False
    for match in _EMPHASIS.finditer(text):
        keep[match.start()] = False
    return "".join(character if plain else _entity(character) for character, plain in zip(text, keep, strict=True))


def _entity(character: str) -> str:
    if character == '"':
        return "#quot;"
    if unicodedata.category(character)[0] == "C":
        return "\N{REPLACEMENT CHARACTER}"
    return f"#{ord(character)};"


def workflow_layout(steps: Sequence[StepState]) -> dict[str, Any]:
    """Where the page draws boxes and arrows: rows of five boxes, in pixels of a picture of ``width`` × ``height``."""
    shown = steps[:MAX_NODES]
    nodes = [_box(at, step) for at, step in enumerate(shown)]
    columns, rows = min(len(nodes), _COLUMNS), -(-len(nodes) // _COLUMNS)
    return {
        "width": max(columns * (_WIDTH + _GAP_X) - _GAP_X, 0) + 2 * _MARGIN,
        "height": max(rows * (_HEIGHT + _GAP_Y) - _GAP_Y, 0) + 2 * _MARGIN,
        "box": [_WIDTH, _HEIGHT],
        "nodes": nodes,
        "edges": [_edge(before, after) for before, after in itertools.pairwise(nodes)],
        "more": len(steps) - len(shown),
    }


def _box(at: int, step: StepState) -> dict[str, Any]:
    row, column = divmod(at, _COLUMNS)
    caption = _caption(step)
    short = caption if len(caption) <= _LABEL_CHARACTERS else caption[: _LABEL_CHARACTERS - 1] + "…"
    return {
        "x": _MARGIN + column * (_WIDTH + _GAP_X),
        "y": _MARGIN + row * (_HEIGHT + _GAP_Y),
        "label": short,
        "title": f"{caption}: {step.state}",
        "state": step.state,
    }


def _edge(before: dict[str, Any], after: dict[str, Any]) -> list[list[int]]:
    """The corners of the arrow from one box to the next."""
    if before["y"] == after["y"]:
        middle = before["y"] + _HEIGHT // 2
        return [[before["x"] + _WIDTH, middle], [after["x"], middle]]
    between = before["y"] + _HEIGHT + _GAP_Y // 2
    start, end = before["x"] + _WIDTH // 2, after["x"] + _WIDTH // 2
    return [[start, before["y"] + _HEIGHT], [start, between], [end, between], [end, after["y"]]]
