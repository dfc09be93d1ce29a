"""What an exception means for the call, the step, the run and the program that it leaves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import importlib
import importlib.util
import os
import pickle
import pty
import subprocess
import sys
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from pyjama_instrument import agent_session, configure, tool
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.reader import get_dashboard_data
from pyjama_instrument.recording import outcome
from pyjama_instrument.recording.tool_state import Tool
from tests.conftest import RunPython
from tests.unit.recorded import call, calls, session_end, step_ends

_HERE = "tests.unit.test_outcome"


class Pause(Exception):
    """A framework's, say: the program is to stop here and to go on later."""


class PauseForApproval(Pause):
    pass


class Outer:
    class Inner(Exception):
        """Known as ``Outer.Inner``."""


class Steering(BaseException):
    """No ``Exception``, so that ``except Exception`` does not catch it."""


Pause.__module__ = PauseForApproval.__module__ = Outer.Inner.__module__ = _HERE  # whatever pytest calls this module


def _way(form: str, error: BaseException, **options: Any) -> Callable[[], Any]:
    """A call of a tool of that form, in a step, in a run, that is left by the exception."""

    def work() -> None:
        raise error

    async def coroutine_work() -> None:
        raise error

    def generator_work() -> Iterator[int]:
        yield 1
        raise error

    async def async_generator_work() -> AsyncIterator[int]:
        yield 1
        raise error

    functions: dict[str, Any] = {"def": work, "async def": coroutine_work, "generator": generator_work}
    decorated = tool(name="work", **options)(functions.get(form, async_generator_work))

    async def exhaust() -> None:
        if form == "async def":
            await decorated()
        else:
            async for _ in decorated():
                pass

    def call_it() -> None:
        with agent_session("a") as run, run.step("x"):
            if form == "def":
                decorated()
            elif form == "generator":
                list(decorated())
            else:
                try:
                    exhausting = exhaust()
                    exhausting.send(None)
                finally:
                    exhausting.close()

    return call_it


FORMS = ("def", "async def", "generator", "async generator")


def _statuses(call_it: Callable[[], Any], error: BaseException) -> list[str]:
    """How the call, the step and the run ended; the exception is the one that was raised."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # any of them
        call_it()
    assert caught.value is error
    return [call().status, step_ends()[0].status, session_end("a").status]


# -- exceptions that are no Exception


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [Steering("pause"), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_what_is_no_exception_cancels(form: str, error: BaseException) -> None:
    error.__traceback__ = None
    assert _statuses(_way(form, error), error) == ["cancelled"] * 3
    assert call().error is not None
    assert call().error.type.rpartition(".")[2] == type(error).__name__


def test_a_cancelled_scope_of_trio_cancels_the_calls_the_steps_and_the_runs_in_it() -> None:
    @tool
    async def fetch() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with agent_session("a") as run, run.step("x"), trio.open_nursery() as nursery:
                nursery.start_soon(fetch)
                nursery.start_soon(fetch)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

    trio.run(main)
    assert [event.status for event in calls("fetch")] == ["cancelled"] * 2
    assert [step_ends()[0].status, session_end("a").status] == ["cancelled"] * 2
    counts = get_dashboard_data().metrics.tools["fetch"]
    assert (counts.count, counts.success, counts.error, counts.cancelled) == (2, 0, 0, 2)


def test_a_panic_of_a_rust_extension_is_an_error() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})("index out of bounds")
    assert _statuses(_way("def", panic), panic) == ["error", "error", "failed"]


def test_the_future_that_was_cancelled_is_an_error_of_who_wants_its_result() -> None:
    error = concurrent.futures.CancelledError()
    assert _statuses(_way("def", error), error) == ["error", "error", "failed"]


# -- declared control flow


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "declared",
    [
        (Pause,),
        [KeyError, Pause],
        Pause,
        (f"{_HERE}.Pause",),
        f"{_HERE}.Pause",
        (KeyError, "package.module.Other", f"{_HERE}.Pause"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", ["tool", "process"])
def test_declared_exceptions_and_their_subclasses_are_no_failures(form: str, declared: Any, place: str) -> None:
    if place == "process":
        configure(control_flow=declared)
    error = PauseForApproval("ask somebody")
    way = _way(form, error, **({"control_flow": declared} if place == "tool" else {}))
    assert _statuses(way, error) == ["cancelled"] * 3
    data = get_dashboard_data()
    counts = data.metrics.tools["work"]
    assert (counts.count, counts.success, counts.error, counts.cancelled) == (1, 0, 0, 1)
    assert counts.last_error is None
    (run,) = data.sessions.values()
    assert (run.status, run.errors) == ("cancelled", 0)
    assert run.error is not None
    assert (run.error.type, run.error.message) == (f"{_HERE}.PauseForApproval", "ask somebody")


def test_a_dotted_name_may_be_of_a_nested_class() -> None:
    configure(control_flow=f"{_HERE}.Outer.Inner")
    error = Outer.Inner()
    assert _statuses(_way("def", error), error) == ["cancelled"] * 3


def test_a_dotted_name_may_be_the_one_under_which_a_package_gives_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("framework")
    package.Stop = Pause  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "framework", package)
    configure(control_flow=("framework.Stop",))
    error = Pause()
    assert _statuses(_way("def", error), error) == ["cancelled"] * 3


def test_a_dotted_name_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_imported.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    configure(control_flow=("never_imported.Pause",))
    error = Pause()
    assert _statuses(_way("def", error), error) == ["error", "error", "failed"]
    assert "never_imported" not in sys.modules


def test_what_one_tool_declares_is_an_error_of_another_and_of_the_run() -> None:
    @tool(control_flow=(Pause,))
    def one() -> None:
        raise Pause

    @tool
    def other() -> None:
        raise Pause

    with contextlib.suppress(Pause), agent_session("a"):
        with contextlib.suppress(Pause):
            one()
        other()
    assert [call("one").status, call("other").status] == ["cancelled", "error"]
    assert session_end("a").status == "failed"


def test_what_one_tool_declares_is_no_error_of_the_tool_around_it() -> None:
    @tool(control_flow=(Pause,))
    def inner() -> None:
        raise Pause

    @tool
    def outer() -> None:
        inner()

    with pytest.raises(Pause):
        outer()
    assert [call("inner").status, call("outer").status] == ["cancelled"] * 2


def test_an_exception_that_is_control_flow_is_not_kept_alive() -> None:
    @tool(control_flow=(Pause,))
    def work() -> None:
        raise Pause

    def caught() -> weakref.ref[Pause]:
        try:
            work()
        except Pause as error:
            return weakref.ref(error)
        raise AssertionError

    reference = caught()
    gc.collect()
    assert reference() is None
    assert not outcome._matched


def test_built_in_exceptions_can_be_declared() -> None:
    @tool(control_flow=(KeyError, "builtins.StopIteration"))
    def work(error: BaseException) -> None:
        raise error

    for error in (KeyError("x"), StopIteration(), ValueError()):
        with contextlib.suppress(KeyError, StopIteration, ValueError):
            work(error)
    assert [event.status for event in calls()] == ["cancelled", "cancelled", "error"]


def test_a_later_declaration_of_the_process_replaces_an_earlier_one() -> None:
    configure(control_flow=(Pause,))
    configure(error_messages=True)
    with pytest.raises(Pause):
        _way("def", Pause())()
    configure(control_flow=())
    with pytest.raises(Pause):
        _way("def", Pause())()
    assert [event.status for event in calls()] == ["cancelled", "error"]


def test_a_tool_with_control_flow_above_a_class_method_keeps_it() -> None:
    class Box:
        @tool(control_flow=(Pause,))
        @classmethod
        def work(cls) -> None:
            raise Pause

    with pytest.raises(Pause):
        Box.work()
    assert call().status == "cancelled"


def test_a_tool_keeps_its_control_flow_where_it_is_pickled_to() -> None:
    source = Tool("work", "sync", None, outcome.checked((Pause, "package.module.Other")))
    sent = pickle.loads(pickle.dumps(source))
    assert outcome.outcome(PauseForApproval(), "work", sent.control_flow)[0] == "cancelled"
    assert outcome.outcome(ValueError(), "work", sent.control_flow)[0] == "error"


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        object(),
        ("Pause",),
        "Pause",
        "",
        "module.",
        "package.not a name",
        ("package..Pause",),
        (3,),
        (int,),
        (Pause, None),
        (Pause(),),
        [[Pause]],
    ],
    ids=lambda wrong: type(wrong).__name__ if type(wrong) is object else repr(wrong),
)
def test_control_flow_that_is_not_made_of_exceptions_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="control_flow"):
        tool(control_flow=wrong)
    with pytest.raises(ConfigError, match="control_flow"):
        configure(control_flow=wrong)


# -- what is known to steer


@pytest.mark.parametrize("name", sorted(outcome._CONTROL_FLOW))
def test_exceptions_of_frameworks_that_steer_are_known_by_name(name: str) -> None:
    module, _, class_name = name.rpartition(".")
    base = type(class_name, (Exception,), {"__module__": module, "__qualname__": class_name})
    error = type("Subclass", (base,), {"__module__": "somewhere_else"})("go on later")
    assert _statuses(_way("def", error), error) == ["cancelled"] * 3


@pytest.mark.parametrize("name", sorted(outcome._CONTROL_FLOW))
def test_each_known_name_is_that_of_a_class(name: str) -> None:
    module, _, class_name = name.rpartition(".")
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module.partition('.')[0]} is not installed")
    assert outcome._name(getattr(importlib.import_module(module), class_name)) == name


def test_a_namesake_in_another_module_is_an_error() -> None:
    error = type("GraphInterrupt", (Exception,), {"__module__": "mine"})()
    assert _statuses(_way("def", error), error) == ["error", "error", "failed"]


# -- groups


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BaseExceptionGroup("", [asyncio.CancelledError(), Steering()]), "cancelled"),
        (ExceptionGroup("", [Pause(), ExceptionGroup("", [PauseForApproval()])]), "cancelled"),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), "cancelled"),
        (BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()]), "failed"),
        (ExceptionGroup("", [Pause(), ValueError()]), "failed"),
        (BaseExceptionGroup("", [asyncio.CancelledError(), BaseExceptionGroup("", [ValueError()])]), "failed"),
        (BaseExceptionGroup("", [SystemExit(3)]), "failed"),
        (BaseExceptionGroup("", [SystemExit(0), KeyboardInterrupt()]), "cancelled"),
    ],
    ids=repr,
)
def test_a_group_has_failed_if_anything_in_it_has(error: BaseException, status: str) -> None:
    configure(control_flow=(Pause,))
    with contextlib.suppress(BaseExceptionGroup), agent_session("a"):
        raise error
    assert session_end("a").status == status


def test_a_group_may_be_nested_deeper_than_python_recurses() -> None:
    error: Exception = Pause()
    for _ in range(20_000):
        error = ExceptionGroup("", [error])
    assert outcome._is_no_failure(error, outcome.checked(Pause))


# -- the program itself

_PROGRAM = "from pyjama_instrument import tool\ntool(abs)(1)\n"
_MARKED = "class Pause(Exception): pass\nfrom pyjama_instrument import configure\nconfigure(control_flow=Pause)\n"
_AT_A_PROMPT = "import code\ncode.InteractiveInterpreter().runsource('1 / 0')\n"
_IN_A_THREAD = "import threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()\n"
_SET_BY_HAND = "import sys\ndef f():\n try: 1 / 0\n except Exception as e: sys.last_exc = sys.last_value = e\nf()\n"


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise KeyError('gone')", "failed"),
        ("def f(): raise KeyError('gone')\nf()", "failed"),
        ("raise KeyboardInterrupt", "cancelled"),
        ("import asyncio\nasync def main(): raise OSError(1)\nasyncio.run(main())", "failed"),
        ("import sys\nsys.excepthook = lambda *_: None\nraise KeyError('gone')", "failed"),
        (_MARKED + "raise Pause", "cancelled"),
        ("raise SystemExit(3)", "completed"),
        (
            "import threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()",
            "completed",
        ),
        (
            "import sys\ndef f():\n try: 1 / 0\n except Exception as e: sys.last_exc = sys.last_value = e\nf()",
            "completed",
        ),
        (_AT_A_PROMPT, "completed"),
        (_AT_A_PROMPT + "raise KeyError('gone')", "failed"),
    ],
)
@pytest.mark.parametrize("how", ["script", "module", "-c", "standard input"])
def test_the_implicit_run_ends_the_way_the_program_does(
    own_store: Path, tmp_path: Path, source: str, status: str, how: str
) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM + source)
    arguments = {
        "script": ["program.py"],
        "module": ["-m", "program"],
        "-c": ["-c", _PROGRAM + source],
        "standard input": ["-"],
    }
    given = _PROGRAM + source if how == "standard input" else ""
    subprocess.run(
        [sys.executable, *arguments[how]], cwd=tmp_path, input=given, text=True, capture_output=True, check=False
    )
    (run,) = get_dashboard_data().sessions.values()
    assert run.status == status


@pytest.mark.parametrize("arguments", [["-i", "program.py"], ["-i"]], ids=repr)
def test_an_exception_at_a_prompt_does_not_end_the_program(
    own_store: Path, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM + "1 / 0")
    typed = _PROGRAM + "1 / 0\n2 / 0\n"
    subprocess.run([sys.executable, *arguments], cwd=tmp_path, input=typed, text=True, capture_output=True, check=True)
    (run,) = get_dashboard_data().sessions.values()
    assert (run.status, run.error) == ("completed", None)


@pytest.mark.parametrize("basic", ["", "1"])
def test_an_exception_at_the_prompt_of_a_terminal_does_not_end_the_program(
    run_python: RunPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, basic: str
) -> None:
    monkeypatch.setenv("PYTHON_BASIC_REPL", basic)  # of two that Python has since 3.13
    monkeypatch.setenv("TERM", "dumb" if basic else "xterm")
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-q"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path) as child:
        os.close(theirs)
        os.write(ours, (_PROGRAM + "1 / 0\nexit()\n").encode())
        with contextlib.suppress(OSError):  # EIO once the child is gone
            while os.read(ours, 4096):
                pass
    os.close(ours)
    assert child.returncode == 0
    (run,) = get_dashboard_data().sessions.values()
    assert (run.status, run.error) == ("completed", None)
