"""The one place that may swallow an exception, so that our faults never become the host's.

Only ``Exception`` is ever swallowed, never ``KeyboardInterrupt``, ``SystemExit`` or another ``BaseException``. What is
swallowed is counted by place, reported once per place on stderr, and passed to ``observers``, with which tests turn a
swallowed fault back into a failure. If the program has filled the stack, which is no fault of ours, it is only counted.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

__all__ = ["counts", "must_wait", "observers", "report_once", "report_pending", "swallow"]

observers: list[Callable[[BaseException, str], None]] = []
counts: dict[str, int] = {}
_reported: set[str] = set()
_pending: deque[str] = deque()
_OUR_DEPTH = 100  # no call of ours takes as many frames

must_wait: Callable[[], bool] = lambda: False  # noqa: E731  # the recorder replaces it
"""Whether the running thread holds the lock of the recorder, so that it must not write to stderr.

``sys.stderr`` may be code of the host that waits for a lock, and the thread that holds that one may be calling a tool.
"""


def swallow(error: Exception, where: str) -> None:
    """Count and report a fault of ours at ``where`` and let the host continue."""
    try:
        counts[where] = counts.get(where, 0) + 1
        if _stack_was_full(error):
            return
        fault = f"{type(error).__name__}: {_message(error)}"
        report_once(where, f"internal error in {where}: {fault}; your program continues (reported once)")
    except Exception:  # out of memory or of stack: it cannot be reported, and the guard must not raise
        pass
    for observer in list(observers):
        try:
            observer(error, where)
        except Exception:  # an observer is code of others
            counts["observer"] = counts.get("observer", 0) + 1


def _stack_was_full(error: Exception) -> bool:
    """Whether the program itself recurses without end, so that a call of ours had no room.

    A function that recurses below us, such as the program's own redactor, leaves a long traceback.
    """
    if not isinstance(error, RecursionError):
        return False
    traceback, left = error.__traceback__, _OUR_DEPTH
    while traceback is not None and left:
        traceback, left = traceback.tb_next, left - 1
    return left > 0


def report_once(key: str, sentence: str) -> None:
    """Write one line to stderr, the first time ``key`` is used in this process; later if it must wait now."""
    if key not in _reported:
        _reported.add(key)
        _pending.append(sentence)
    report_pending()


def report_pending() -> None:
    """Write the lines that had to wait."""
    while _pending and not must_wait():
        try:
            sentence = _pending.popleft()
        except IndexError:  # another thread writes it
            return
        try:
            sys.stderr.write(f"pyjama: {_printable(sentence)}\n")
        except Exception:  # stderr may be closed, None or full: there is no other place to report it
            counts["stderr"] = counts.get("stderr", 0) + 1


def _printable(sentence: str) -> str:
    """One line without a sequence that a terminal would obey: names and messages are the host's."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sentence)


def _message(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # __str__ is the host's code
        return "(its message cannot be shown)"
