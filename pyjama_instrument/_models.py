"""Typed models of what is in the document, made anew only for what has changed.

A look at a store of thousands of agents would otherwise spend most of its time on validating what it validated at
the look before.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

__all__ = ["Models"]

_Model = TypeVar("_Model", bound=BaseModel)

# Without references to equal objects: the same content always gives the same bytes.
_PLAIN = 2


class Models:
    """Remembers the models of the last look; what has not changed since is the same object again."""

    def __init__(self) -> None:
        self._known: dict[type[BaseModel], dict[str, tuple[bytes, Any]]] = {}

    def of(
        self, kind: type[_Model], entries: Mapping[str, Any], shape: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, _Model]:
        """The models of entries of the document, once ``shape`` has given them the model's own form."""
        known = self._known.get(kind, {})
        kept: dict[str, tuple[bytes, Any]] = {}
        for key, entry in entries.items():
            content = marshal.dumps(entry, _PLAIN)
            last = known.get(key)
            kept[key] = last if last and last[0] == content else (content, kind.model_validate(shape(entry)))
        self._known[kind] = kept
        return {key: model for key, (_, model) in kept.items()}
