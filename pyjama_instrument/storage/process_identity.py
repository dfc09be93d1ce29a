"""The process of a writer: its kernel, its pid namespace, and whether it is known to be gone.

A process id is valid only on its kernel and in its pid namespace. So a writer can be checked only if it shares both
with this process. If no process has its id, it is gone. If one has, this proves nothing, because ids are reused.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from pyjama_instrument.storage.clock import boot_id

__all__ = ["boot_and_pid_namespace", "is_gone", "shares_kernel"]

_PID_NAMESPACE = "/proc/self/ns/pid"


def boot_and_pid_namespace() -> dict[str, Any]:
    """``boot_id`` of the kernel and ``pid_namespace``, an inode number, as far as they can be read."""
    found: dict[str, Any] = {}
    if boot := boot_id():
        found["boot_id"] = boot
    with contextlib.suppress(OSError):
        found["pid_namespace"] = os.stat(_PID_NAMESPACE).st_ino
    return found


def shares_kernel(writer: dict[str, Any]) -> bool:
    """Whether a writer, as the document describes it, has run on this kernel since its boot."""
    return bool(boot_id()) and writer.get("boot-id") == boot_id()


def is_gone(writer: dict[str, Any]) -> bool:
    """Whether the process of a writer, as the document describes it, is known to be gone."""
    here = boot_and_pid_namespace()
    pid = writer.get("pid")
    if len(here) < 2 or type(pid) is not int or pid <= 0:
        return False
    if writer.get("boot-id") != here["boot_id"] or writer.get("pid-namespace") != here["pid_namespace"]:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it belongs to another user
        pass
    return False
