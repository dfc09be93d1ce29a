"""Decorated things that can be found by name, for tests of pickling and of worker processes."""

from __future__ import annotations

import functools
import os

from pyjama_instrument import agent_session, current_session, tool

__all__ = [
    "Counter",
    "Toolbox",
    "decorated_again",
    "decorated_by_hand",
    "double",
    "double_later",
    "halves",
    "nightly",
    "partial_tool",
    "plain",
    "session_here",
]


@tool
def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@tool
async def double_later(x: int) -> int:
    return 2 * x


@tool
def halves(x: int):  # type: ignore[no-untyped-def]  # what it yields does not matter
    while x > 1:
        x //= 2
        yield x


def plain(x: int) -> int:
    return x + 1


decorated_by_hand = tool(plain)  # its own name leads to the plain function
decorated_again = tool("again")(double)
partial_tool = tool(functools.partial(double, 4))


class Toolbox:
    def __init__(self, factor: int = 3) -> None:
        self.factor = factor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Toolbox) and other.factor == self.factor

    def __hash__(self) -> int:
        return hash(self.factor)

    @tool
    def times(self, x: int) -> int:
        return self.factor * x

    @tool
    @classmethod
    def made_outside(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @classmethod
    @tool
    def made_inside(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @tool
    @staticmethod
    def static_outside(x: int) -> int:
        return -x

    @staticmethod
    @tool
    def static_inside(x: int) -> int:
        return -x


class Counter:
    """A callable object with state."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, by: int) -> int:
        self.count += by
        return self.count


@agent_session("nightly")
def nightly(x: int) -> int:
    return double(x)


@tool
def session_here(_: object = None) -> tuple[str | None, int]:
    """The id of the session this runs in, and the process."""
    session = current_session()
    return (session.id if session else None), os.getpid()
