"""What every call of a tool reads, and what the parts of the recorder share."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from pyjama_instrument.recording.context import Call, Scope
from pyjama_instrument.recording.ids import Ids
from pyjama_instrument.threads.bounded_lock import BoundedLock

__all__ = ["ProcessState", "reason_of"]


class ProcessState:
    """The state of this process that each call needs. Python finds it more quickly in slots.

    Attributes:
        ambient: the scope of calls outside any session, once there was such a call.
        announced: spans in ``in_flight`` whose ``tool.started`` is written.
        dirty: something was recorded that is not folded yet.
        enabled: False makes every decorated function behave as undecorated, at once.
        epoch: generation of the process; one more in each forked child.
        exiting: the program is ending.
        fd: the journal's descriptor, or -1 if an event has to take the slow path.
        forked: this process is a forked child, and began after our hooks were in place.
        ids: makes span and session ids.
        in_flight: calls that have not ended, by span.
        lock: held to open or mend the journal, or to announce a call late.
        mono_ns: the monotonic clock.
        unforked: its first item is 1 in this process, and 0 in a child that was forked in C; its second is 1 if calls
            only need to be timed: recording is on and there are no hooks.
        unwritten: calls that ended when the stack was full: tool, scope, span, duration, the error's type.
        wall_ns: the wall clock.
    """

    __slots__ = (
        "ambient", "announced", "dirty", "enabled", "epoch", "exiting", "fd", "forked", "ids", "in_flight", "lock",
        "mono_ns", "unforked", "unwritten", "wall_ns",
    )  # fmt: skip

    ambient: Scope | None
    announced: set[str]
    dirty: bool
    enabled: bool
    epoch: int
    exiting: bool
    fd: int
    forked: bool
    ids: Ids
    in_flight: dict[str, Call]
    lock: BoundedLock
    mono_ns: Callable[[], int]
    unforked: Any
    unwritten: deque[tuple[Any, ...]]
    wall_ns: Callable[[], int]

    def now_us(self) -> int:
        """The time now, in µs since the epoch."""
        return self.wall_ns() // 1000

    def notice_fork(self) -> None:
        """Start anew in a forked child in which our hooks did not run.

        A fork before the hooks are registered can leave a lock held by a thread that was recording the first event,
        and a fork in C never runs the hooks.
        """
        if not self.unforked[0]:
            self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Start anew: the journal and the locks belong to the parent."""
        raise NotImplementedError


def reason_of(error: OSError) -> str:
    """Why an event is dropped: the name of the error number."""
    return errno.errorcode.get(error.errno or 0, "OSError")
