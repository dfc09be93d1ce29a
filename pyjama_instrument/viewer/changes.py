"""What has changed from one view to the next, so that only that is sent. Pure.

``set`` are the parts to be replaced. ``rows`` are changes of lists whose rows have keys: fields by row, as pairs
since keys are names from outside, and the order of the rows if it is another.
"""

from __future__ import annotations

from typing import Any

__all__ = ["changes_of"]

View = dict[str, Any]


def changes_of(old: View, new: View) -> View | None:
    """The changes; None if there are none."""
    parts: View = {}
    rows: View = {}
    for name, value in new.items():
        before = old.get(name)
        if before == value:
            continue
        change = _rows(before, value)
        if change is None:
            parts[name] = value
        else:
            rows[name] = change
    return {"set": parts, "rows": rows} if parts or rows else None


def _rows(before: Any, after: Any) -> View | None:
    """The changes of a list of rows; None if it is none, or has to be sent as a whole."""
    old, new = _by_key(before), _by_key(after)
    if old is None or new is None:
        return None
    changed = []
    for key, row in new.items():
        known = old.get(key)
        if known is None or known.keys() != row.keys():
            changed.append([key, row])
        elif known != row:
            changed.append([key, {name: value for name, value in row.items() if known[name] != value}])
    order = list(new)
    return {"set": changed} if order == list(old) else {"set": changed, "order": order}


def _by_key(rows: Any) -> dict[Any, View] | None:
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "key" in row for row in rows):
        return None
    by_key = {row["key"]: row for row in rows}
    return by_key if len(by_key) == len(rows) else None
