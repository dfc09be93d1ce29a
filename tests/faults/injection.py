"""Faults by number: the n-th call that the package makes to the operating system kills the process, or fails.

The functions of ``os`` and ``fcntl`` are replaced by ones that count the calls made by the package (also by way of the
standard library's ``os.makedirs``), and leave everybody else's alone. What the package does on one thread is the same
each time, so "for n = 1, 2, … until all went through untouched" reaches every call.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pyjama_instrument

__all__ = ["ERRORS", "SHORT", "Dies", "Fails", "Stops", "injected"]

_OS_CALLS = (
    "close", "dup2", "fstat", "fsync", "ftruncate", "link", "listdir", "mkdir", "open", "pread", "pwrite", "rename",
    "replace", "scandir", "stat", "unlink", "utime", "write", "writev",
)  # fmt: skip
_FCNTL_CALLS = ("fcntl", "flock")
_COUNTED = ("pyjama_instrument", "os", "genericpath", "filelock")
_PACKAGE = os.path.dirname(pyjama_instrument.__file__) + os.sep

SHORT = "short write"
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "EACCES", "EINTR", SHORT)


@dataclass(frozen=True)
class Dies:
    """The process is gone right before or right after the call; a write that it dies in is half done."""

    number: int
    after: bool = False

    def meets(self, number: int) -> bool:
        return number == self.number

    def act(self, name: str, call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with contextlib.suppress(OSError):  # it may fail by itself, and dies all the same
            if name == "write" and not self.after:
                _half(call, args)
            elif self.after:
                call(*args, **options)
        os._exit(77)


@dataclass(frozen=True)
class Fails:
    """The call fails with the error, or writes only a half; ``lasting``: and so do all after it, until it is healed."""

    number: int
    error: str
    lasting: bool = False

    def meets(self, number: int) -> bool:
        return number == self.number or (self.lasting and number > self.number)

    def act(self, name: str, call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.error == SHORT:
            return _half(call, args) if name == "write" else call(*args, **options)
        if name == "close":
            call(*args, **options)  # a close that reports an error has closed all the same
        code = getattr(errno, self.error)
        raise OSError(code, os.strerror(code))


@dataclass(frozen=True)
class Stops:
    """The process is stopped by SIGSTOP right before the call, and goes on when it is told to; ``tell`` comes first."""

    number: int
    tell: Callable[[], None] = lambda: None

    def meets(self, number: int) -> bool:
        return number == self.number

    def act(self, name: str, call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        self.tell()
        os.kill(os.getpid(), signal.SIGSTOP)
        return call(*args, **options)


@contextlib.contextmanager
def injected(fault: Dies | Fails | Stops | None) -> Iterator[list[str]]:
    """The fault is in force for the block; yields the names of the calls made so far."""
    seen: list[str] = []
    real = [(os, name, getattr(os, name)) for name in _OS_CALLS]
    real += [(fcntl, name, getattr(fcntl, name)) for name in _FCNTL_CALLS]

    def replacement(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if not _is_counted(sys._getframe(1)):
                return call(*args, **options)
            seen.append(name)
            if fault is not None and fault.meets(len(seen)):
                return fault.act(name, call, args, options)
            return call(*args, **options)

        return counted

    for module, name, call in real:
        setattr(module, name, replacement(name, call))
    try:
        yield seen
    finally:
        for module, name, call in real:
            setattr(module, name, call)


def _is_counted(frame: FrameType) -> bool:
    """Whether the code is the package's. A function that stands in for a decorated one has the program's globals."""
    code, name = frame.f_code, frame.f_globals.get("__name__", "")
    return code.co_filename.startswith(_PACKAGE) or name.startswith(_COUNTED)


def _half(call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return call(args[0], bytes(args[1])[: max(1, len(args[1]) // 2)])
