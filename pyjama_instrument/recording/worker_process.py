"""Whether this process is a worker: a copy that another process made of itself, and not a program of its own.

Worker pools end their workers in ways in which none of our code can run: ``os._exit`` or a signal, when a worker is
idle or has done enough. So a worker that disappears outside any call has not crashed.
"""

from __future__ import annotations

import os
import sys

from pyjama_instrument._platform import OPEN_FILE

__all__ = ["is_worker", "multiprocessing_package"]

_FORKED_NOT_EXECUTED = 0x40  # PF_FORKNOEXEC: the kernel sets it at a fork and takes it away at an exec
_MULTIPROCESSING = ("multiprocessing", "multiprocess")  # the second is that of pathos
_FLAGS_AFTER_NAME = 6  # field 9 of /proc/self/stat; the name, field 2, may hold spaces and brackets


def is_worker(forked: bool) -> bool:
    """Whether it was forked and never executed a program, or was started by ``multiprocessing`` in any way.

    Args:
        forked: our hooks have seen the fork. Without ``/proc``, as on macOS, a fork from before they were in place
            cannot be known.
    """
    return forked or multiprocessing_package() is not None or _forked_and_not_executed()


def multiprocessing_package() -> str | None:
    """What started this process: ``multiprocessing`` or a copy of it that pickles more; None if neither did."""
    for name in _MULTIPROCESSING:
        parent_process = getattr(sys.modules.get(f"{name}.process"), "parent_process", None)
        if parent_process is not None and parent_process() is not None:
            return name
    return None


def _forked_and_not_executed() -> bool:
    try:
        fd = os.open("/proc/self/stat", OPEN_FILE)
    except OSError:
        return False
    try:
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
        return bool(int(fields[_FLAGS_AFTER_NAME]) & _FORKED_NOT_EXECUTED)
    except (OSError, ValueError, IndexError):
        return False
    finally:
        os.close(fd)
