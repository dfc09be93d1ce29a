"""Which writers are alive: a writer holds a lock on its segment as long as its process exists.

The kernel releases the lock with the last reference to the open file, however the process ends, so a missing lock
proves that the writer is dead. A process id proves nothing: ids are reused, and zombies and containers hide processes.
On Linux these are open-file-description locks: closing another descriptor of the file, or the copy in a forked child,
does not release them, and testing one does not take it. Other systems have flock, which is tested by trying to take it
shared.
"""

from __future__ import annotations

import struct

from pyjama_instrument._platform import fcntl

__all__ = ["hold", "is_held"]

_FLOCK = struct.Struct("hhqqixxxx")  # l_type, l_whence, l_start, l_len, l_pid of struct flock, 64-bit Linux

if hasattr(fcntl, "F_OFD_SETLK"):
    _WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)

    def hold(fd: int) -> None:
        """Mark the file open at ``fd`` as written by a live process.

        Raises:
            OSError: another process holds it, or the file system has no such locks.
        """
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole_file())

    def is_held(fd: int) -> bool:
        """Whether a live process writes the file open at ``fd`` (a descriptor other than the writer's own)."""
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole_file())
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

else:

    def hold(fd: int) -> None:
        """Mark the file open at ``fd`` as written by a live process."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_held(fd: int) -> bool:
        """Whether a live process writes the file open at ``fd``."""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
        return False


def _whole_file() -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)
