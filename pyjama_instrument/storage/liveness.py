"""Who is alive: a writer holds a lock on its journal for as long as its process lives.

The kernel drops the lock with the last reference to the open file, however the process ends, so an unlocked
journal is a proof of death. A process id proves nothing: it is reused, and a zombie or a container hides it.
On Linux these are open-file-description locks: closing another descriptor of the file in the same process does
not drop them, a forked child closing its copy does not either, and probing acquires nothing. Elsewhere: flock,
probed by a shared try-lock.
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
            OSError: somebody else holds it, or the file system has no such locks.
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
