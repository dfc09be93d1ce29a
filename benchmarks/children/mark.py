"""Makes calls that can be told apart, for others to see: ``python -m benchmarks.children.mark STORE``."""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any

from benchmarks.children._names import MARK
from benchmarks.children._serve import serve

__all__: list[str] = []

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.03, 0.12
_random = random.Random(11)


def _marks(calls: int) -> list[tuple[str, int]]:
    """Calls at irregular intervals, each a tool of its own, and when each had returned."""
    from pyjama_instrument import agent_session, tool

    made = []
    with agent_session("benchmark"):
        for at in range(calls):
            name = f"{MARK}{at}"
            function = tool(name)(_nothing)
            time.sleep(_random.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS))
            function()
            made.append((name, time.monotonic_ns()))
    return made


def _nothing() -> None:
    pass


def main() -> None:
    """Answer."""
    os.environ["PYJAMA_HOME"] = sys.argv[1]
    handlers: dict[str, Any] = {"marks": _marks}
    serve(handlers)


main()
