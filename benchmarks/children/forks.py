"""Forks now and then, as a program that records or as one that does not: ``python -m benchmarks.children.forks STORE``.

Without a store nothing of ours is imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from benchmarks.children._serve import serve

__all__: list[str] = []


def _work() -> Callable[[], None]:
    if len(sys.argv) < 2:
        return _nothing
    os.environ["PYJAMA_HOME"] = sys.argv[1]
    from pyjama_instrument import tool

    return tool("benchmark")(_nothing)


def _nothing() -> None:
    pass


_work_once = _work()


def _forks(count: int) -> list[int]:
    """How long each fork took in the parent, in ns; a call comes before each, and the child ends at once."""
    took = []
    for _ in range(count):
        _work_once()
        began = time.perf_counter_ns()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        took.append(time.perf_counter_ns() - began)
        os.waitpid(pid, 0)
    return took


serve({"forks": _forks})
