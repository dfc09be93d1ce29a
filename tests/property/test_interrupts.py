"""An interrupt that arrives anywhere inside our code interrupts, and does nothing else.

A signal is handled where the interpreter looks for it: after a call, at the start of a function, at the end of a loop.
Here the interrupt comes at each instruction of ours in turn, which are more places than it can come at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.recording.context import current
from tests.scale import full
from tests.unit.recorded import session_end

_FILES = tuple(
    f"/recording/{name}.py"
    for name in (
        "activation", "agent_session", "call_events", "callable_wrappers", "context", "entered_runs", "fast_coroutine",
        "fast_path", "function_wrapper", "implicit_session", "propagation", "session", "session_events", "slow_path",
        "step", "tool", "tool_state",
    )
)  # fmt: skip


class _Interrupting:
    """Raises KeyboardInterrupt at the n-th instruction of ours."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if "/pyjama_instrument/" not in code.co_filename or not code.co_filename.endswith(_FILES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def _interrupted(work: Callable[[], Any], at: int) -> tuple[Any, bool]:
    """What became of ``work``, and whether it has so many instructions of ours."""
    tracer, before = _Interrupting(at), sys.gettrace()
    sys.settrace(tracer)
    try:
        result: Any = work()
    except BaseException as error:
        result = error
    finally:
        sys.settrace(before)
    return result, tracer.left <= 0


def _stepped(coroutine: Any) -> Any:
    """Run a coroutine that awaits nothing, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it awaits something")


_FORMS = ["plain", "async", "generator", "capturing", "a session", "a step"]


def _function(form: str, ran: list[int]) -> Callable[[], Any]:
    def plain() -> int:
        ran.append(1)
        return 5

    async def later() -> int:
        return plain()

    def items() -> Iterator[int]:
        yield plain()

    def step() -> int:
        with agent_session("b") as run, run.step("x"):
            return plain()

    work: Any = {
        "plain": tool("t")(plain),
        "async": tool("t")(later),
        "generator": tool("t")(items),
        "capturing": tool("t", capture=True)(plain),
        "a session": agent_session("s")(plain),
        "a step": step,
    }[form]
    if form == "async":
        return lambda: _stepped(work())
    return (lambda: next(work())) if form == "generator" else work


@pytest.mark.parametrize("form", _FORMS)
def test_an_interrupt_inside_our_code_interrupts_and_does_nothing_else(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # it may hit a finalizer
    ran: list[int] = []
    work = _function(form, ran)
    assert work() == 5
    step = full(1, 7)
    for at in range(1, 3000, step):
        ran.clear()
        with agent_session("around"):
            result, hit = _interrupted(work, at)
        assert result == 5 or isinstance(result, KeyboardInterrupt), at
        assert len(ran) <= 1, at  # never called a second time
        if form != "a step":  # between __enter__ and the block no code of ours can come to know of an interrupt
            assert current.get() is None, at  # the session that the interrupt leaves puts everything back
        current.set(None)
        assert work() == 5
        if not hit:
            break
    else:
        raise AssertionError("more instructions than expected")
    assert result == 5
    with agent_session("afterwards"):
        assert work() == 5
    assert session_end("afterwards").status == "completed"
