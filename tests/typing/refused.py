"""What the type checkers must refuse: each line marked ``# error`` and no other. Checked, never run."""

from __future__ import annotations

from pyjama_instrument import agent_session, tool


@tool
def bare(path: str, *, limit: int = 10) -> list[str]:
    return [path] * limit


@tool(name="a name")
async def coroutine(x: int) -> bytes:
    return bytes(x)


@agent_session("nightly")
def nightly(day: str) -> int:
    return len(day)


class Box:
    @tool
    def method(self, x: int) -> str:
        return str(x)


def mistakes_are_found() -> None:
    bare(1)  # error
    bare("p", 3)  # error
    bare("p", limits=3)  # error
    coroutine("x")  # error
    nightly(1)  # error
    Box().method("x")  # error
    number: int = bare("p")  # error
    print(number)
    tool(nmae="x")  # error
    agent_session()  # error
