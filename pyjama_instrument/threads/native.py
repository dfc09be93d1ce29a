"""The operating system's threads, locks and sleep, also after gevent or eventlet have replaced Python's.

What they put in the place of ``time.sleep`` or of a lock lets other greenlets run while it waits. Nothing of ours may
do that inside a call of a tool: the program would go on somewhere else in the midst of it, and after a fork a child
would run what is its parent's. So the package waits by what is in here, and by nothing else.

Programs that replace them before this package is imported are seen by it: the interpreter makes the two modules anew,
for us alone. Later replacements do not matter, since the functions are taken at import.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal has, without the enumerations that it imports
import _thread
import time
from typing import Any

__all__ = ["allocate_lock", "are_replaced", "block_signals", "get_ident", "get_native_id", "sleep", "start_new_thread"]


_BUILTIN = type(len)


def _original(module: Any, *names: str) -> Any:
    """The module, or if one of its functions was replaced, the same made anew."""
    if all(type(getattr(module, name)) is _BUILTIN for name in names):
        return module
    from importlib.machinery import BuiltinImporter
    from importlib.util import module_from_spec

    spec = BuiltinImporter.find_spec(module.__name__)
    assert spec is not None  # it is the one that it was made from
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
    """Whether Python's locks are not the operating system's any more, those of the import system among them."""
    as_of_now: Any = _thread.allocate_lock
    return type(as_of_now) is not _BUILTIN


def block_signals() -> None:
    """Have no signal delivered to the running thread.

    The kernel would choose it for one that the program blocks, to wait for it; and Python's main thread learns late of
    one that was delivered to another thread.
    """
    if hasattr(_signal, "pthread_sigmask"):
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
