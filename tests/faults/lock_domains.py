"""Two lock domains on one store: processes that share every byte and see no lock of the other side's.

``SEPARATE`` goes before a child's program: its locks are taken on other files, one for each inode, in the directory
``LOCKS``. All processes with the same directory see each other's locks, and nobody else's. That is what a container has
on a directory that a virtual machine shares with its host.
"""

from __future__ import annotations

__all__ = ["SEPARATE"]

SEPARATE = """
import fcntl, os

def _separate():
    control, flock, close, dup2 = fcntl.fcntl, fcntl.flock, os.close, os.dup2
    instead = {}  # for each descriptor, those of the other files that hold its locks

    def other(fd):
        return os.open(f"{os.environ['LOCKS']}/{os.fstat(fd).st_ino}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def release(fd):
        for held in instead.pop(fd, ()):
            close(held)

    def copy(fd, number):
        if copies := [os.dup(held) for held in instead.get(fd, ())]:
            instead[number] = copies

    def our_control(fd, command, argument=0):
        if command == fcntl.F_OFD_GETLK:
            asked = other(fd)
            try:
                return control(asked, command, argument)
            finally:
                close(asked)
        if command == fcntl.F_OFD_SETLK:
            held = other(fd)
            try:
                answer = control(held, command, argument)
            except OSError:
                close(held)
                raise
            instead.setdefault(fd, []).append(held)
            return answer
        number = control(fd, command, argument)
        if command == fcntl.F_DUPFD_CLOEXEC:
            copy(fd, number)
        return number

    def our_flock(fd, operation):
        if operation & fcntl.LOCK_UN:
            return release(fd)
        held = other(fd)
        try:
            flock(held, operation)
        except OSError:
            close(held)
            raise
        instead.setdefault(fd, []).append(held)

    def our_close(fd):
        release(fd)
        close(fd)

    def our_dup2(fd, number, inheritable=True):
        release(number)
        copy(fd, number)
        return dup2(fd, number, inheritable)

    fcntl.fcntl, fcntl.flock, os.close, os.dup2 = our_control, our_flock, our_close, our_dup2

_separate()
"""
