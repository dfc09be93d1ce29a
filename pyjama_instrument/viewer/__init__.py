"""The dashboard: a small local web server on top of the reader, and the page it serves.

The names below need the ``viewer`` extra. They are imported at first use, so that the pure modules of this package
(``overview``, ``run_header``, ``steps`` and others) work without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyjama_instrument import _platform
from pyjama_instrument.errors import ViewerError

if TYPE_CHECKING:
    from pyjama_instrument.viewer.server import Dashboard, start_dashboard

__all__ = ["Dashboard", "start_dashboard"]

_EXTRA = frozenset({"starlette", "uvicorn", "anyio", "h11", "click"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from pyjama_instrument.viewer import server
    except ModuleNotFoundError as missing:
        _platform.require()  # raises on WebAssembly, which lacks modules that the web server imports
        if (missing.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise ViewerError(
            f"The dashboard needs the package {missing.name!r}, which is not installed: "
            "run  pip install 'pyjama_instrument[viewer]'"
        ) from missing
    return getattr(server, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
