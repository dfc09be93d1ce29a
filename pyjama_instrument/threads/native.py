"""The operating system's threads, locks and sleep, also after gevent or eventlet have replaced Python's.

Their replacements of ``time.sleep`` and of locks let other greenlets run while they wait. This package must not do that
inside a call of a tool: the program would continue elsewhere in the middle of the call, and a forked child would run
what belongs to its parent. So the package waits only with the functions in here.

If they are already replaced when this package is imported, the interpreter creates the two modules again, only for this
package. Later replacements do not matter, because the functions are taken at import.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal has, without the enumerations that it imports
import _thread
import time
from typing import Any

__all__ = ["allocate_lock", "are_replaced", "block_signals", "get_ident", "get_native_id", "sleep", "start_new_thread"]


_BUILTIN = type(len)


def _original(module: Any, *names: str) -> Any:
    """The module, or a new copy of it if one of its functions was replaced."""
    if all(type(getattr(module, name)) is _BUILTIN for name in names):
        return module
    from importlib.machinery import BuiltinImporter
    from importlib.util import module_from_spec

    spec = BuiltinImporter.find_spec(module.__name__)
    assert spec is not None  # it is a builtin module
    original = module_from_spec(spec)
    BuiltinImporter.exec_module(original)
    return original


_threads = _original(_thread, "allocate_lock", "get_ident", "start_new_thread")
allocate_lock = _threads.allocate_lock
get_ident = _threads.get_ident
get_native_id = getattr(_threads, "get_native_id", get_ident)  # WebAssembly has none
start_new_thread = _threads.start_new_thread
sleep = _original(time, "sleep").sleep


def are_replaced() -> bool:
    """Whether Python's locks, also those of the import system, are not the operating system's any more."""
    as_of_now: Any = _thread.allocate_lock
    return type(as_of_now) is not _BUILTIN


def block_signals() -> None:
    """Block all signals in the running thread.

    Otherwise the kernel would deliver to it a signal that the program blocks in order to wait for it, and Python's main
    thread would handle other signals late.
    """
    if hasattr(_signal, "pthread_sigmask"):
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
