"""On ``PYTHONPATH``, takes away what only Linux has, in every Python that is started: as on macOS and the BSDs.

No open-file-description locks, and no memory that is wiped in a forked child.
"""

import errno
import fcntl
import mmap

for _name in ("F_OFD_GETLK", "F_OFD_SETLK", "F_OFD_SETLKW"):
    if hasattr(fcntl, _name):
        delattr(fcntl, _name)


class _Mmap(mmap.mmap):
    def madvise(self, option, *args):  # type: ignore[no-untyped-def,override]
        if option == 18:  # MADV_WIPEONFORK
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().madvise(option, *args)


mmap.mmap = _Mmap  # type: ignore[misc]
