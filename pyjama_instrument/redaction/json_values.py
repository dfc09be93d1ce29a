"""Conversion of any Python value to bounded JSON-safe data, for captured arguments and results.

Work and bytes are bounded for every value. Strings are cut, with a marker that gives the original size. Containers are
cut in length and depth. Iterators are not consumed. No code of the value's own class runs (no ``repr``, no properties,
no ``__getattr__``): a value that is not plain data becomes ``<module.Class>``.
"""

from __future__ import annotations

import enum
import math
import sys
from collections import deque
from collections.abc import Iterable
from itertools import islice
from types import TracebackType
from typing import Any

from pyjama_instrument.config import clean_text

__all__ = ["error_info", "jsonable"]

_MAX_TEXT = 2_000
_MAX_ITEMS = 50
_MAX_DEPTH = 6
_MAX_NODES = 500
_MAX_BYTES = 24_000  # as JSON, approximately: arguments and result together fit into one record
_LARGEST_INT = 2**53  # JavaScript and jq round larger integers
_MAX_FRAMES = 16


def jsonable(value: Any, max_text: int = _MAX_TEXT) -> Any:
    """``value`` as JSON-safe data: at most about 500 nodes, 24 kB in all and ``max_text`` characters a string."""
    return _Converter(max_text).convert(value, 0)


class _Converter:
    def __init__(self, max_text: int) -> None:
        self.max_text = max_text
        self.nodes = 0
        self.room = _MAX_BYTES

    def convert(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        try:
            return self.plain(value, depth)
        except Exception:  # another thread is changing it, or it only pretends to be a basic type
            return "<unreadable>"

    def plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_LARGEST_INT <= value <= _LARGEST_INT else _big(value)
        if kind is float:
            return value if math.isfinite(value) else str(value)
        if issubclass(kind, str):
            return self.text(value)
        if issubclass(kind, bytes | bytearray | memoryview):
            return f"<{kind.__name__} of {memoryview(value).nbytes} bytes>"
        if depth >= _MAX_DEPTH or self.nodes > _MAX_NODES or self.room <= 0:
            return "…"
        return self.compound(value, kind, depth)

    def compound(self, value: Any, kind: type, depth: int) -> Any:
        if issubclass(kind, dict):
            return self.mapping(dict.items(value), dict.__len__(value), depth)
        for base in (list, tuple, set, frozenset):
            if issubclass(kind, base):
                return self.sequence(base.__iter__(value), base.__len__(value), depth)
        if issubclass(kind, enum.Enum):
            return self.text(str(object.__getattribute__(value, "_name_")))
        if _is_plain(kind):
            return self.text(str(value))
        if "__dataclass_fields__" in kind.__dict__ and (fields := _instance_dict(value)) is not None:
            return self.mapping(fields.items(), len(fields), depth)
        if issubclass(kind, int | float):
            return self.convert((int if issubclass(kind, int) else float).__pos__(value), depth + 1)
        return self.text(f"<{kind.__module__}.{kind.__qualname__}>")

    def mapping(self, items: Iterable[tuple[Any, Any]], size: int, depth: int) -> dict[str, Any]:
        result = {}
        for key, value in islice(items, _MAX_ITEMS):
            name = key if type(key) is str else self.convert(key, _MAX_DEPTH)
            text = self.text(name if isinstance(name, str) else str(name))
            result[text] = self.convert(value, depth + 1)
        if size > _MAX_ITEMS:
            result["…"] = f"+{size - _MAX_ITEMS} items"
        return result

    def sequence(self, items: Iterable[Any], size: int, depth: int) -> list[Any]:
        result = [self.convert(item, depth + 1) for item in islice(items, _MAX_ITEMS)]
        if size > _MAX_ITEMS:
            result.append(f"… +{size - _MAX_ITEMS} items")
        return result

    def text(self, value: str) -> str:
        size = str.__len__(value)
        cut = clean_text(str.__getitem__(value, slice(self.max_text)))
        bytes_each = 1 if cut.isascii() else 6  # in JSON
        cut = cut[: max(0, self.room) // bytes_each]
        self.room -= len(cut) * bytes_each
        return cut if size == len(cut) else f"{cut}… [{size} characters]"


# By name: a program that has not imported the module has no such values.
_PLAIN = {
    "datetime": ("date", "datetime", "time", "timedelta"),
    "decimal": ("Decimal",),
    "uuid": ("UUID",),
    "pathlib": ("PosixPath", "PurePosixPath", "PureWindowsPath"),
}


def _is_plain(kind: type) -> bool:
    """Whether ``str`` is the usual form of values of this class. Subclasses do not count."""
    return any(
        kind is getattr(sys.modules.get(module), name, None) for module, names in _PLAIN.items() for name in names
    )


def error_info(error: BaseException) -> dict[str, Any]:
    """The exception's type, its message, and its frames as ``file:line in function``, innermost last.

    The message is ``str(error)``, or empty if that raises.
    """
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    try:
        message = jsonable(str(error))
    except Exception:  # __str__ is code of the host
        message = ""
    return {"type": clean_text(f"{module}{kind.__qualname__}"[:256]), "message": message, "traceback": _frames(error)}


def _frames(error: BaseException) -> list[str]:
    innermost: deque[TracebackType] = deque(maxlen=_MAX_FRAMES)
    traceback = error.__traceback__
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OWN_DIRECTORY):
            innermost.append(traceback)
        traceback = traceback.tb_next
    return [_frame(traceback) for traceback in innermost]


def _frame(traceback: TracebackType) -> str:
    code = traceback.tb_frame.f_code
    return clean_text(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")


_OWN_DIRECTORY = __file__.rpartition("/redaction/")[0] + "/"


def _instance_dict(value: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if type(found) is dict else None


def _big(value: int) -> str:
    bits = value.bit_length()
    return str(value) if bits <= 2048 else f"<int of {bits} bits>"
