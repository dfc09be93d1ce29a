"""The ``@tool`` decorator: whatever is decorated behaves as before, and each call is recorded once."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import time
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from pyjama_instrument import agent_session, configure, current_session, tool
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.events import ToolStarted
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.testing import FakeClock, isolated_store
from tests.conftest import RunPython
from tests.unit import sample_tools
from tests.unit.callable_forms import FORMS, Decorator, SyncObject, same
from tests.unit.recorded import all_events, call, calls, drained, session

USES: dict[str, Decorator] = {
    "bare": tool,
    "called": tool(),
    "named": tool("a name"),
    "named by keyword": tool(name="a name"),
    "capturing": tool(capture=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_decorated_callable_of_any_form_gives_what_it_gave_before(form: str) -> None:
    assert drained(FORMS[form](tool)(7)) == drained(FORMS[form](same)(7))


@pytest.mark.parametrize("form", FORMS)
def test_a_call_of_any_form_of_callable_is_recorded_once(form: str) -> None:
    drained(FORMS[form](tool)(7))
    assert call().status == "ok"


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("form", ["function", "coroutine function", "generator function", "async generator function"])
def test_every_way_to_write_the_decorator_works_on_every_kind(form: str, use: str) -> None:
    decorated = FORMS[form](USES[use])
    assert drained(decorated(7)) == drained(FORMS[form](same)(7))
    assert call().tool == ("a name" if "named" in use else "work")


_INSPECTIONS = [
    inspect.isfunction,
    inspect.ismethod,
    inspect.isbuiltin,
    inspect.isroutine,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.isclass,
    callable,
]


@pytest.mark.parametrize("form", FORMS)
def test_inspect_sees_thesame_kind_of_thing(form: str) -> None:
    decorated, plain = FORMS[form](tool), FORMS[form](same)
    for check in _INSPECTIONS:
        if check is inspect.isroutine and ("object" in form or form.endswith("partial")):
            continue  # it takes any object that could be bound for a routine
        assert check(decorated) == check(plain), check.__name__


@pytest.mark.parametrize("form", FORMS)
def test_the_signature_is_kept(form: str) -> None:
    assert inspect.signature(FORMS[form](tool)) == inspect.signature(FORMS[form](same))


@pytest.mark.parametrize("attribute", ["__name__", "__qualname__", "__module__", "__doc__", "__annotations__"])
@pytest.mark.parametrize("form", FORMS)
def test_the_descriptive_attributes_are_kept(form: str, attribute: str) -> None:
    missing = object()
    decorated = getattr(FORMS[form](tool), attribute, missing)
    plain = getattr(FORMS[form](same), attribute, missing)
    assert (decorated is missing) == (plain is missing)
    assert decorated == plain or plain is missing


def test_type_hints_are_kept() -> None:
    assert typing.get_type_hints(sample_tools.double) == {"x": int, "return": int}
    assert typing.get_type_hints(sample_tools.Toolbox.times) == {"x": int, "return": int}
    assert typing.get_type_hints(sample_tools.Toolbox().times) == {"x": int, "return": int}


def test_defaults_and_globals_are_kept() -> None:
    def work(x: int = 1, *, y: int = 2) -> int:
        return x + y

    decorated = tool(work)
    assert decorated.__defaults__ == (1,)
    assert decorated.__kwdefaults__ == {"y": 2}
    assert decorated.__globals__ is work.__globals__


@pytest.mark.parametrize("form", [form for form in FORMS if "function" in form or "method" in form])
def test_the_code_tells_the_kind_of_function(form: str) -> None:
    decorated, plain = FORMS[form](tool), FORMS[form](same)
    if hasattr(plain, "__code__"):
        kinds = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
        assert decorated.__code__.co_flags & kinds == plain.__code__.co_flags & kinds


def test_attributes_of_the_function_are_attributes_of_the_decorated_function() -> None:
    def work() -> None: ...

    work.marked = True  # type: ignore[attr-defined]  # functions take any attribute
    decorated = tool(work)
    assert decorated.marked  # type: ignore[attr-defined]


def test_the_source_and_the_wrapped_function_can_be_found() -> None:
    def work() -> None: ...

    decorated = tool(work)
    assert inspect.unwrap(decorated) is work
    assert inspect.getsource(decorated) == inspect.getsource(work)


def test_an_abstract_method_stays_abstract() -> None:
    class Base(abc.ABC):
        @tool
        @abc.abstractmethod
        def work(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]  # that is the test


def test_super_reaches_the_decorated_method_of_the_base() -> None:
    class Base:
        @tool
        def work(self) -> list[str]:
            return ["base"]

    class Sub(Base):
        @tool
        def work(self) -> list[str]:
            return [*super().work(), "sub"]

    assert Sub().work() == ["base", "sub"]
    assert sorted(event.tool for event in calls()) == ["Base.work", "Sub.work"]


def test_bound_methods_are_equal_as_undecorated_ones_are() -> None:
    box = sample_tools.Toolbox()
    assert box.times == box.times
    assert {box.times: 1}[box.times] == 1


def test_a_weak_reference_to_a_bound_method_works() -> None:
    box = sample_tools.Toolbox(5)
    found = weakref.WeakMethod(box.times)()
    assert found is not None
    assert found(2) == 10
    assert call().tool == "Toolbox.times"


def test_a_weak_reference_to_a_decorated_function_dies_with_it() -> None:
    decorated = tool(lambda: None)
    reference = weakref.ref(decorated)
    del decorated
    gc.collect()
    assert reference() is None


def test_a_mock_can_be_decorated() -> None:
    decorated = tool(mock.Mock(return_value=3))
    assert decorated(1) == 3
    assert call().tool == "Mock"


# -- names


def test_a_tool_is_named_after_its_function() -> None:
    sample_tools.double(1)
    sample_tools.Toolbox().times(1)
    sample_tools.Toolbox.made_outside(1)
    tool(SyncObject())(1)
    tool(functools.partial(sample_tools.plain, 1))()
    assert [event.tool for event in calls()] == [
        "double",
        "Toolbox.times",
        "Toolbox.made_outside",
        "SyncObject",
        "plain",
    ]


def test_names_may_hold_any_character() -> None:
    name = 'ünï "\\\n\x00\x1b\U0001f600'
    tool(name)(lambda: None)()
    assert call().tool == name


# -- wrapped more than once


def test_a_function_decorated_twice_is_counted_once() -> None:
    decorated = tool(tool(lambda: 5))
    assert decorated() == 5
    assert len(calls()) == 1


def test_a_function_decorated_under_two_names_is_counted_under_both() -> None:
    def work() -> int:
        return 5

    assert tool("outer")(tool("inner")(work))() == 5
    inner, outer = calls()
    assert (inner.tool, outer.tool) == ("inner", "outer")
    assert inner.parent == outer.span


@pytest.mark.parametrize("form", ["coroutine function", "generator function", "async generator function"])
def test_suspendable_functions_can_be_decorated_twice_as_well(form: str) -> None:
    decorated = tool("outer")(FORMS[form](tool("inner")))
    assert drained(decorated(1)) == drained(FORMS[form](same)(1))
    inner, outer = calls()
    assert inner.parent == outer.span


def test_the_decorator_works_among_others() -> None:
    def twice(function: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(function)
        def wrapper(x: int) -> int:
            return 2 * function(x)

        return wrapper

    @twice
    @tool
    @twice
    def work(x: int) -> int:
        return x

    assert work(1) == 4
    assert call().tool.endswith("work")


# -- nesting


def test_a_nested_call_is_the_child_of_the_call_it_is_in() -> None:
    inner = tool("inner")(lambda: None)
    outer = tool("outer")(inner.__call__)
    with agent_session("a"):
        outer()
    child, parent = calls()
    assert (child.tool, parent.tool) == ("inner", "outer")
    assert child.parent == parent.span
    assert parent.parent == session("a").span


def test_each_level_of_a_recursion_is_a_call_within_the_level_above() -> None:
    @tool
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(5) == 120
    ended = calls("factorial")  # the innermost ends first
    assert len(ended) == 6
    assert [inner.parent for inner in ended[:-1]] == [outer.span for outer in ended[1:]]


def test_concurrent_tasks_are_siblings() -> None:
    @tool
    async def work() -> None:
        await asyncio.sleep(0)

    @tool
    async def fan_out() -> None:
        await asyncio.gather(*(work() for _ in range(3)))

    asyncio.run(fan_out())
    assert {event.parent for event in calls("work")} == {call("fan_out").span}


@pytest.mark.swallows
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_function_that_runs_unrecorded_does_not_find_our_fault_as_what_is_being_handled(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seen = []

    @tool
    def work() -> None:
        seen.append(sys.exc_info()[0])
        raise KeyError("the host's")

    @tool
    async def later() -> None:
        seen.append(sys.exc_info()[0])
        raise KeyError("the host's")

    def fail() -> int:
        raise RuntimeError("ours")

    monkeypatch.setattr(recorder, "mono_ns", fail)
    with pytest.raises(KeyError) as caught:
        work() if kind == "plain" else asyncio.run(later())
    assert seen == [None]
    assert caught.value.__context__ is None


@pytest.mark.swallows
def test_a_recursion_without_end_ends_as_undecorated_and_leaves_nothing_behind() -> None:
    @tool
    def endless(n: int) -> int:
        return endless(n + 1)

    with pytest.raises(RecursionError):
        endless(0)
    assert recorder.in_flight == {}
    assert current_session() is None
    assert sample_tools.double(1) == 2
    assert call("double").status == "ok"


# -- exceptions


class _CustomError(Exception):
    pass


_OUTCOMES: list[tuple[BaseException, str]] = [
    (_CustomError("no"), "error"),
    (ValueError("bad\nvalue \ud800"), "error"),
    (OSError(28, "no space"), "error"),
    (ExceptionGroup("several", [ValueError("one")]), "error"),
    (MemoryError(), "error"),
    (asyncio.CancelledError(), "cancelled"),
    (KeyboardInterrupt(), "cancelled"),
    (GeneratorExit(), "cancelled"),
    (SystemExit(1), "error"),
    (SystemExit("message"), "error"),
    (SystemExit(0), "cancelled"),
    (SystemExit(None), "cancelled"),
]


def _raised_through(form: str, error: BaseException) -> BaseException:
    """The exception that leaves a decorated function of a kind when its body raises ``error``."""

    def work() -> None:
        raise error

    async def coroutine_work() -> None:
        raise error

    def generator_work() -> Iterator[int]:
        raise error
        yield

    async def async_generator_work() -> AsyncIterator[int]:
        raise error
        yield

    functions = {"def": work, "async def": coroutine_work, "generator": generator_work}
    decorated: Any = tool("work")(functions.get(form, async_generator_work))
    try:
        if form == "def":
            decorated()
        elif form == "generator":
            next(decorated())
        else:  # by hand, as an event loop has ideas of its own about these exceptions
            awaitable = decorated() if form == "async def" else anext(decorated())
            awaitable.send(None)
    except BaseException as raised:
        return raised
    pytest.fail("nothing was raised")


@pytest.mark.parametrize("form", ["def", "async def", "generator", "async generator"])
@pytest.mark.parametrize(("error", "status"), _OUTCOMES, ids=[repr(error)[:30] for error, _ in _OUTCOMES])
def test_an_exception_passes_unchanged_and_decides_the_status(form: str, error: BaseException, status: str) -> None:
    error.__traceback__ = error.__cause__ = error.__context__ = None
    assert _raised_through(form, error) is error
    assert error.__cause__ is None
    assert error.__context__ is None
    recorded = call("work")
    assert recorded.status == status
    assert recorded.error is not None


def test_an_error_is_recorded_with_type_message_and_place() -> None:
    with pytest.raises(_CustomError):
        tool(mock.create_autospec(FORMS["function"](same), side_effect=_CustomError("it broke")))(1)
    error = call().error
    assert error is not None
    assert error.type.endswith("._CustomError")
    assert error.message == "it broke"


def test_the_recorded_place_names_the_users_frames_only() -> None:
    @tool
    def work() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # the only one there is
        work()
    error = call().error
    assert error is not None
    assert error.traceback is not None
    (frame,) = error.traceback
    assert frame.startswith(__file__)
    assert frame.endswith(" in work")


def test_an_exception_whose_text_cannot_be_had_is_recorded_by_its_type() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    _raised_through("def", Silent())
    error = call().error
    assert error is not None
    assert (error.type.rpartition(".")[2], error.message) == ("Silent", "")


def test_a_huge_error_message_is_cut_and_its_size_noted() -> None:
    _raised_through("def", ValueError("x" * 1_000_000))
    error = call().error
    assert error is not None
    assert len(error.message) < 3_000
    assert "[1000000 characters]" in error.message


def test_a_wrong_call_raises_the_functions_own_type_error() -> None:
    for form in ("function", "coroutine function", "generator function", "async generator function"):
        messages = []
        for decorate in (tool, same):
            with pytest.raises(TypeError) as caught:
                FORMS[form](decorate)(1, 2, 3)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_a_caught_exception_holds_nothing_alive_in_a_cycle() -> None:
    class Witness:
        pass

    @tool
    def work(witness: Witness) -> Iterator[None]:
        yield
        raise ValueError

    def use() -> weakref.ref[Witness]:
        witness = Witness()
        generator = work(witness)
        next(generator)
        with contextlib.suppress(ValueError):
            generator.throw(ValueError())
        return weakref.ref(witness)

    gc.disable()
    try:
        assert use()() is None
    finally:
        gc.enable()


# -- arguments


@pytest.mark.parametrize("form", ["def", "async def", "generator", "async generator"])
@pytest.mark.parametrize(
    "name", ["name", "self", "cls", "run_id", "config", "wrapped", "instance", "args", "kwargs", "function", "this"]
)
@pytest.mark.parametrize("decorate", [tool, tool(capture=True), agent_session("a")], ids=["tool", "capture", "session"])
def test_keyword_arguments_of_any_name_reach_the_function(form: str, name: str, decorate: Decorator) -> None:
    def work(**kwargs: Any) -> dict[str, Any]:
        return kwargs

    async def coroutine_work(**kwargs: Any) -> dict[str, Any]:
        return kwargs

    def generator_work(**kwargs: Any) -> Iterator[dict[str, Any]]:
        yield kwargs

    async def async_generator_work(**kwargs: Any) -> AsyncIterator[dict[str, Any]]:
        yield kwargs

    functions = {"def": work, "async def": coroutine_work, "generator": generator_work}
    result = drained(decorate(functions.get(form, async_generator_work))(**{name: 5}))
    assert result in ({name: 5}, [{name: 5}])


def test_arguments_are_passed_as_the_very_objects() -> None:
    class Picky:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("compared")

        __hash__ = None  # type: ignore[assignment]  # unhashable on purpose

        def __bool__(self) -> bool:
            raise RuntimeError("tested")

        def __repr__(self) -> str:
            raise RuntimeError("shown")

    value = Picky()
    assert tool(lambda x: x)(value) is value
    assert tool(capture=True)(lambda x: x)(value) is value


# -- when a start is announced


def test_the_first_call_is_announced_at_its_start() -> None:
    seen: list[Any] = []
    tool("work")(lambda: seen.extend(all_events()))()
    assert [event.tool for event in seen if isinstance(event, ToolStarted)] == ["work"]


def test_a_call_after_a_fast_one_is_not_announced(own_store: Any) -> None:
    clock = FakeClock()
    work = tool("work")(clock.advance)
    with isolated_store(own_store, clock=clock):
        for seconds in (0.0, 5.0, 0.0, 0.0):
            work(seconds)
        started = [event for event in all_events() if isinstance(event, ToolStarted)]
        assert len(calls("work")) == 4
    assert len(started) == 2  # the first call, and the one after the slow one


# -- off


@pytest.mark.parametrize("form", ["function", "coroutine function", "generator function", "async generator function"])
def test_nothing_is_recorded_while_recording_is_off(form: str, own_store: Any) -> None:
    configure(enabled=False)
    decorated = FORMS[form](tool)
    assert drained(decorated(1)) == drained(FORMS[form](same)(1))
    assert not own_store.exists()


def test_recording_can_be_switched_on_again() -> None:
    configure(enabled=False)
    sample_tools.double(1)
    configure(enabled=True)
    sample_tools.double(2)
    assert len(calls("double")) == 1


def test_the_environment_switches_recording_off(run_python: RunPython, own_store: Any) -> None:
    source = "from pyjama_instrument import tool; print(tool(abs)(-3))"
    assert run_python(source, PYJAMA_DISABLED="1").stdout == "3\n"
    assert not own_store.exists()


# -- what is refused


def test_a_class_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="decorate the methods of Toolbox"):
        tool(sample_tools.Toolbox)


def test_a_long_call_of_a_slow_tool_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool("long")
    def long() -> None:
        monkeypatch.setattr(recorder, "mono_ns", lambda: time.perf_counter_ns() + 10**9)
        recorder.announcements.announce_slow_calls()

    long()
    kinds = [event.kind for event in all_events() if getattr(event, "tool", "") == "long"]
    assert kinds == ["tool.started", "tool.ended"]
