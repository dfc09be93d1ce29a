"""The one place that may swallow an exception, so that our faults never become the host's.

Only ``Exception`` is ever swallowed, never ``KeyboardInterrupt``, ``SystemExit`` or other ``BaseException``.
What is swallowed is counted by place, said once per place on stderr, and shown to ``observers`` (tests use
them to turn a swallowed fault back into a failure). If the program has filled the stack, which is no fault of ours, it
is only counted.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

__all__ = ["counts", "not_now", "observers", "say", "say_once", "swallow"]

observers: list[Callable[[BaseException, str], None]] = []
counts: dict[str, int] = {}
_said: set[str] = set()
_unsaid: deque[str] = deque()
_OUR_DEPTH = 100  # no call of ours takes as many frames

not_now: Callable[[], bool] = lambda: False  # noqa: E731  # the recorder puts its own in this place
"""Whether the running thread keeps others from the journal.

``sys.stderr`` may be code of the host's that waits for a lock, whose holder is calling a tool.
"""


def swallow(error: Exception, where: str) -> None:
    """Take note of a fault of ours at ``where`` and let the host go on."""
    try:
        counts[where] = counts.get(where, 0) + 1
        if _stack_was_full(error):
            return
        say_once(where, f"{where}: {type(error).__name__}: {_message(error)} (the program goes on; said once)")
    except Exception:  # a guard that raises is none: out of memory or of stack, there is nobody to tell
        pass
    for observer in list(observers):
        try:
            observer(error, where)
        except Exception:  # an observer is somebody else's code
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


def say_once(key: str, sentence: str) -> None:
    """One line on stderr, the first time ``key`` is seen in this process; later, if this is not the moment."""
    if key not in _said:
        _said.add(key)
        _unsaid.append(sentence)
    say()


def say() -> None:
    """Say what was not said when it came up."""
    while _unsaid and not not_now():
        try:
            sentence = _unsaid.popleft()
        except IndexError:  # another thread says it
            return
        try:
            sys.stderr.write(f"pyjama: {_printable(sentence)}\n")
        except Exception:  # stderr may be closed, None or full: then nobody is told
            counts["stderr"] = counts.get("stderr", 0) + 1


def _printable(sentence: str) -> str:
    """On one line, and without a sequence that a terminal would obey: names and messages are the host's."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sentence)


def _message(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # __str__ is the host's code
        return "(its message cannot be shown)"
