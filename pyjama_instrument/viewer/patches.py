"""The difference between two views as a patch, so that a stream sends only what has changed. Pure.

A patch has two parts. ``set`` holds the fields to replace. ``rows`` holds changes of lists whose rows have keys:
the changed fields of each row, and the order of the rows if it is a new one. Rows are [key, fields] pairs rather than
an object, since keys are names from the store and may be anything.
"""

from __future__ import annotations

from typing import Any

__all__ = ["make_patch"]

View = dict[str, Any]


def make_patch(old: View, new: View) -> View | None:
    """The patch that turns ``old`` into ``new``; None if they are equal."""
    fields: View = {}
    lists: View = {}
    for name, value in new.items():
        before = old.get(name)
        if before == value:
            continue
        patch = _list_patch(before, value)
        if patch is None:
            fields[name] = value
        else:
            lists[name] = patch
    return {"set": fields, "rows": lists} if fields or lists else None


def _list_patch(before: Any, after: Any) -> View | None:
    """The patch of a list of rows; None if it is no such list, or has to be sent as a whole."""
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
