"""Encoding the snapshot: entries that have not changed since the last time are not encoded again.

A store that has been used for a while holds hundreds of ended sessions. Encoding them at each fold would keep the
interpreter lock, and with it the host's threads, for milliseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Set
from typing import Any

from pyjama_instrument.storage.layout import SIGNATURE

__all__ = ["ChangedEntries", "EncodedCache"]

ChangedEntries = Mapping[str, Set[str]]
"""By section, the entries that may have changed."""

_SECTIONS = ("sessions", "tools", "agents")
_ENTRIES_AT_ONCE = 50

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class EncodedCache:
    """Encoded entries of the large sections of one document."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}

    def join(self, document: dict[str, Any], changed_entries: ChangedEntries, pause: Callable[[], object]) -> bytes:
        """The document as JSON.

        Args:
            document: the same object as at the last call, or any if this is the first.
            changed_entries: what may have changed since the last call.
            pause: called now and then; it may raise, and then this cache must not be used again.
        """
        parts = [f"{_encode(key)}:{self._value(key, value, changed_entries, pause)}" for key, value in document.items()]
        return f"{{{','.join(parts)}".encode("ascii") + SIGNATURE

    def _value(self, key: str, value: Any, changed_entries: ChangedEntries, pause: Callable[[], object]) -> str:
        if key not in self._known:
            return _encode(value)
        old, changed = self._known[key], changed_entries[key]
        new: dict[str, str] = {}
        encoded = 0
        for name, entry in value.items():
            piece = old.get(name) if name not in changed else None
            if piece is None:
                piece = f"{_encode(name)}:{_encode(entry)}"
                encoded += 1
                if encoded % _ENTRIES_AT_ONCE == 0:
                    pause()
            new[name] = piece
        self._known[key] = new
        return f"{{{','.join(new.values())}}}"


def _encode(value: Any) -> str:
    try:
        return _encoder.encode(value)
    except ValueError:  # another program wrote an infinite number; browsers could not read such a document
        return _encoder.encode(_finite(value))


def _finite(value: Any) -> Any:
    if type(value) is dict:
        return {key: _finite(part) for key, part in value.items()}
    if type(value) is list:
        return [_finite(part) for part in value]
    return value if type(value) is not float or math.isfinite(value) else 0.0
