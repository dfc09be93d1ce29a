"""Whether this operating system has what a store needs: the one place that checks it.

Linux and macOS have it. Windows and WebAssembly lack most of it: file locks, owners, forks, names relative to an open
folder. There the package can be imported, decorated functions run without being recorded, and reading raises
:class:`~pyjama_instrument.errors.UnsupportedSystem`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pyjama_instrument.errors import UnsupportedSystem

_absent: tuple[str, ...] = ()
try:
    import fcntl
    import pwd
    import resource
except ImportError as error:
    fcntl = pwd = resource = None  # type: ignore[assignment]  # nothing that uses them runs then
    _absent = (error.name or "fcntl",)

__all__ = [
    "MISSING",
    "OPEN_FILE",
    "OPEN_FOLDER",
    "after_fork_in_child",
    "fcntl",
    "pwd",
    "require",
    "resource",
    "unsupported_reason",
]

_FLAGS = ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK")
_CALLS = ("fchmod", "fork", "geteuid", "getuid", "pread", "register_at_fork")
_WEBASSEMBLY = ("emscripten", "wasi")
_MOST_NAMED = 3


def _missing() -> tuple[str, ...]:
    names = [f"os.{name}" for name in (*_CALLS, *_FLAGS) if not hasattr(os, name)]
    # Only whether there are any: a program may have put functions of its own into ``os``.
    relative = () if os.supports_dir_fd else ("os.supports_dir_fd",)
    threads = ("threads",) if sys.platform in _WEBASSEMBLY else ()  # they can be imported, and not be started
    return *_absent, *names, *relative, *threads


def _flags(*names: str) -> int:
    flags = os.O_RDONLY
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


MISSING = _missing()
"""What recording and reading need and this system lacks; empty on Linux and macOS."""

OPEN_FOLDER = _flags("O_DIRECTORY", "O_CLOEXEC")
OPEN_FILE = _flags("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")  # a FIFO must not block us


def unsupported_reason() -> str:
    """Why nothing can be recorded or read here."""
    named = ", ".join(MISSING[:_MOST_NAMED]) + (", …" if len(MISSING) > _MOST_NAMED else "")
    return f"pyjama_instrument needs Linux or macOS (on Windows: WSL), and Python has no {named} on {sys.platform}"


def require() -> None:
    """Check that there can be a store here.

    Raises:
        UnsupportedSystem: this system lacks what a store needs.
    """
    if MISSING:
        raise UnsupportedSystem(unsupported_reason())


def after_fork_in_child(do: Callable[[], object]) -> None:
    """Run ``do`` in each forked child from now on, on a system that has forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=do)
