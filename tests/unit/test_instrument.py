"""The ``@tool`` decorator: whatever is decorated behaves as before, and each call is recorded once."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import contextvars
import copy
import functools
import gc
import inspect
import pickle
import types
import typing
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from pyjama_instrument import agent_session, configure, current_session, tool
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.events import ToolStarted
from pyjama_instrument.recorder import recorder
from pyjama_instrument.testing import FakeClock, isolated_store
from tests.conftest import RunPython
from tests.unit import sample_tools
from tests.unit.recorded import all_events, call, calls, drained, session

Decorator = Callable[[Any], Any]


# -- every form of callable


def _function(decorate: Decorator) -> Any:
    @decorate
    def work(x: int) -> tuple[str, int]:
        return "done", x

    return work


def _coroutine_function(decorate: Decorator) -> Any:
    @decorate
    async def work(x: int) -> tuple[str, int]:
        await asyncio.sleep(0)
        return "done", x

    return work


def _generator_function(decorate: Decorator) -> Any:
    @decorate
    def work(x: int) -> Iterator[int]:
        yield x
        yield x + 1

    return work


def _async_generator_function(decorate: Decorator) -> Any:
    @decorate
    async def work(x: int) -> AsyncIterator[int]:
        yield x
        await asyncio.sleep(0)
        yield x + 1

    return work


def _iterable_coroutine(decorate: Decorator) -> Any:
    @decorate
    @types.coroutine
    def work(x: int) -> Any:
        yield
        return x

    async def run(x: int) -> int:
        return await work(x)  # type: ignore[no-any-return]  # the decorator is Any

    return run


def _plain_function_with_a_coroutine(decorate: Decorator) -> Any:
    async def inner(x: int) -> int:
        return x

    @decorate
    def work(x: int) -> Any:
        return inner(x)

    return work


def _methods(decorate: Decorator) -> type:
    class Methods:
        def __init__(self) -> None:
            self.own = 40

        @decorate
        def method(self, x: int) -> int:
            return self.own + x

        @decorate
        async def coroutine_method(self, x: int) -> int:
            return self.own + x

        @decorate
        def generator_method(self, x: int) -> Iterator[int]:
            yield self.own + x

        @decorate
        async def async_generator_method(self, x: int) -> AsyncIterator[int]:
            yield self.own + x

        @decorate
        @classmethod
        def class_outside(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @classmethod
        @decorate
        def class_inside(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @decorate
        @staticmethod
        def static_outside(x: int) -> int:
            return x

        @staticmethod
        @decorate
        def static_inside(x: int) -> int:
            return x

        @decorate
        @classmethod
        async def async_class_outside(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @decorate
        @staticmethod
        def generator_static_outside(x: int) -> Iterator[int]:
            yield x

        @decorate
        def __call__(self, x: int) -> int:
            return self.own - x

        @property
        @decorate
        def prop(self) -> int:
            return self.own

        @decorate
        @functools.lru_cache(maxsize=4)  # noqa: B019  # the object does not outlive the test
        def cached(self, x: int) -> int:
            return self.own * x

        tail = functools.partialmethod(decorate(lambda self, a, b: (self.own, a, b)), 1)

    return Methods


class _SyncObject:
    def __call__(self, x: int) -> int:
        return x


class _AsyncObject:
    async def __call__(self, x: int) -> int:
        return x


class _GeneratorObject:
    def __call__(self, x: int) -> Iterator[int]:
        yield x


class _AsyncGeneratorObject:
    async def __call__(self, x: int) -> AsyncIterator[int]:
        yield x


def _same(function: Any) -> Any:
    return function


FORMS: dict[str, Callable[[Decorator], Any]] = {
    "function": _function,
    "coroutine function": _coroutine_function,
    "generator function": _generator_function,
    "async generator function": _async_generator_function,
    "iterable coroutine": _iterable_coroutine,
    "plain function that returns a coroutine": _plain_function_with_a_coroutine,
    "lambda": lambda decorate: decorate(lambda x: x),
    "method": lambda decorate: _methods(decorate)().method,
    "method through the class": lambda decorate: (lambda cls: functools.partial(cls.method, cls()))(_methods(decorate)),
    "method of an instance": lambda decorate: decorate(_methods(_same)().method),
    "coroutine method": lambda decorate: _methods(decorate)().coroutine_method,
    "generator method": lambda decorate: _methods(decorate)().generator_method,
    "async generator method": lambda decorate: _methods(decorate)().async_generator_method,
    "class method, decorator outside": lambda decorate: _methods(decorate).class_outside,
    "class method, decorator outside, through an instance": lambda decorate: _methods(decorate)().class_outside,
    "class method, decorator inside": lambda decorate: _methods(decorate).class_inside,
    "class method, decorator inside, through an instance": lambda decorate: _methods(decorate)().class_inside,
    "static method, decorator outside": lambda decorate: _methods(decorate).static_outside,
    "static method, decorator outside, through an instance": lambda decorate: _methods(decorate)().static_outside,
    "static method, decorator inside": lambda decorate: _methods(decorate).static_inside,
    "static method, decorator inside, through an instance": lambda decorate: _methods(decorate)().static_inside,
    "async class method, decorator outside": lambda decorate: _methods(decorate).async_class_outside,
    "generator static method, decorator outside": lambda decorate: _methods(decorate).generator_static_outside,
    "__call__ of a class": lambda decorate: _methods(decorate)(),
    "property": lambda decorate: lambda x: _methods(decorate)().prop + x,
    "cached method": lambda decorate: _methods(decorate)().cached,
    "partial method": lambda decorate: _methods(decorate)().tail,
    "method of a subclass": lambda decorate: type("Sub", (_methods(decorate),), {})().class_outside,
    "callable object": lambda decorate: decorate(_SyncObject()),
    "async callable object": lambda decorate: decorate(_AsyncObject()),
    "generator callable object": lambda decorate: decorate(_GeneratorObject()),
    "async generator callable object": lambda decorate: decorate(_AsyncGeneratorObject()),
    "partial": lambda decorate: decorate(functools.partial(_function(_same))),
    "partial of a partial": lambda decorate: decorate(functools.partial(functools.partial(_function(_same)))),
    "async partial": lambda decorate: decorate(functools.partial(_coroutine_function(_same))),
    "generator partial": lambda decorate: decorate(functools.partial(_generator_function(_same))),
    "async generator partial": lambda decorate: decorate(functools.partial(_async_generator_function(_same))),
    "partial of a callable object": lambda decorate: decorate(functools.partial(_SyncObject())),
    "partial of an async callable object": lambda decorate: decorate(functools.partial(_AsyncObject())),
    "builtin": lambda decorate: decorate(abs),
    "method of a builtin": lambda decorate: decorate((5).__add__),
    "below functools.cache": lambda decorate: functools.cache(decorate(lambda x: x)),
    "above functools.cache": lambda decorate: decorate(functools.cache(lambda x: x)),
    "below functools.singledispatch": lambda decorate: functools.singledispatch(decorate(lambda x: x)),
}

USES: dict[str, Decorator] = {
    "bare": tool,
    "called": tool(),
    "named": tool("a name"),
    "named by keyword": tool(name="a name"),
    "capturing": tool(capture=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_decorated_callable_of_any_form_gives_what_it_gave_before(form: str) -> None:
    assert drained(FORMS[form](tool)(7)) == drained(FORMS[form](_same)(7))


@pytest.mark.parametrize("form", FORMS)
def test_a_call_of_any_form_of_callable_is_recorded_once(form: str) -> None:
    drained(FORMS[form](tool)(7))
    assert call().status == "ok"


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("form", ["function", "coroutine function", "generator function", "async generator function"])
def test_every_way_to_write_the_decorator_works_on_every_kind(form: str, use: str) -> None:
    decorated = FORMS[form](USES[use])
    assert drained(decorated(7)) == drained(FORMS[form](_same)(7))
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
def test_inspect_sees_the_same_kind_of_thing(form: str) -> None:
    decorated, plain = FORMS[form](tool), FORMS[form](_same)
    for check in _INSPECTIONS:
        if check is inspect.isroutine and ("object" in form or form.endswith("partial")):
            continue  # it takes any object that could be bound for a routine
        assert check(decorated) == check(plain), check.__name__


@pytest.mark.parametrize("form", FORMS)
def test_the_signature_is_kept(form: str) -> None:
    assert inspect.signature(FORMS[form](tool)) == inspect.signature(FORMS[form](_same))


@pytest.mark.parametrize("attribute", ["__name__", "__qualname__", "__module__", "__doc__", "__annotations__"])
@pytest.mark.parametrize("form", FORMS)
def test_the_descriptive_attributes_are_kept(form: str, attribute: str) -> None:
    missing = object()
    decorated = getattr(FORMS[form](tool), attribute, missing)
    plain = getattr(FORMS[form](_same), attribute, missing)
    assert (decorated is missing) == (plain is missing)
    assert decorated == plain or plain is missing


def test_type_hints_are_kept() -> None:
    assert typing.get_type_hints(sample_tools.double) == {"x": int, "return": int}
    assert typing.get_type_hints(sample_tools.Toolbox.times) == {"x": int, "return": int}
    assert typing.get_type_hints(sample_tools.Toolbox().times) == {"x": int, "return": int}


def test_defaults_and_code_are_kept() -> None:
    def work(x: int = 1, *, y: int = 2) -> int:
        return x + y

    decorated = tool(work)
    assert decorated.__defaults__ == (1,)
    assert decorated.__kwdefaults__ == {"y": 2}
    assert decorated.__code__ is work.__code__


def test_attributes_set_on_the_decorated_function_are_attributes_of_the_function() -> None:
    def work() -> None: ...

    decorated = tool(work)
    decorated.marked = True  # type: ignore[attr-defined]  # functions take any attribute
    assert work.marked  # type: ignore[attr-defined]


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
    tool(_SyncObject())(1)
    tool(functools.partial(sample_tools.plain, 1))()
    assert [event.tool for event in calls()] == [
        "double",
        "Toolbox.times",
        "Toolbox.made_outside",
        "_SyncObject",
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
    assert drained(decorated(1)) == drained(FORMS[form](_same)(1))
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
    (StopAsyncIteration("by hand"), "error"),
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
    with pytest.raises(type(error)) as caught:
        if form == "def":
            decorated()
        elif form == "generator":
            next(decorated())
        else:  # by hand, as an event loop has ideas of its own about these exceptions
            awaitable = decorated() if form == "async def" else anext(decorated())
            awaitable.send(None)
    return caught.value


@pytest.mark.parametrize("form", ["def", "async def", "generator", "async generator"])
@pytest.mark.parametrize(("error", "status"), _OUTCOMES, ids=[repr(error)[:30] for error, _ in _OUTCOMES])
def test_an_exception_passes_unchanged_and_decides_the_status(form: str, error: BaseException, status: str) -> None:
    if form == "async generator" and isinstance(error, StopAsyncIteration):
        pytest.skip("Python itself turns it into a RuntimeError")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    assert _raised_through(form, error) is error
    assert error.__cause__ is None
    assert error.__context__ is None
    recorded = call("work")
    assert recorded.status == status
    assert recorded.error is not None


def test_an_error_is_recorded_with_type_message_and_place() -> None:
    with pytest.raises(_CustomError):
        tool(mock.create_autospec(_function(_same), side_effect=_CustomError("it broke")))(1)
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
        for decorate in (tool, _same):
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


# -- generators


@tool
def _talk() -> typing.Generator[str, str, str]:
    """Echo what is sent, survive a ValueError, end on "end"."""
    heard = yield "hello"
    while heard != "end":
        try:
            heard = yield f"heard {heard}"
        except ValueError as error:
            heard = yield f"caught {error}"
    return "goodbye"


def test_send_throw_and_the_return_value_pass_through_a_generator() -> None:
    def outer() -> typing.Generator[str, str, None]:
        said.append((yield from _talk()))

    said: list[str] = []
    generator = outer()
    assert next(generator) == "hello"
    assert generator.send("a") == "heard a"
    assert generator.throw(ValueError("b")) == "caught b"
    with pytest.raises(StopIteration):
        generator.send("end")
    assert said == ["goodbye"]
    recorded = call("_talk")
    assert (recorded.status, recorded.items) == ("ok", 3)


def test_closing_a_generator_runs_its_cleanup_at_once() -> None:
    closed = []

    @tool
    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    generator = work()
    next(generator)
    generator.close()
    assert closed == [True]
    assert call().status == "cancelled"


def test_a_generator_that_ends_cleanly_when_closed_is_ok() -> None:
    @tool
    def work() -> Iterator[int]:
        with contextlib.suppress(GeneratorExit):
            yield 1

    generator = work()
    next(generator)
    generator.close()
    assert call().status == "ok"


def test_a_generator_that_will_not_close_is_told_so_as_undecorated() -> None:
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    for decorate in (tool, _same):
        generator = decorate(stubborn)()
        next(generator)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            generator.close()
        assert next(generator, "over") == "over"
    assert call().status == "ok"


def test_an_abandoned_generator_is_closed_when_it_is_collected() -> None:
    closed = []

    @tool
    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    for _ in work():
        break
    gc.collect()
    assert closed == [True]
    assert (call().status, call().items) == ("cancelled", 1)


def test_a_generator_that_is_never_iterated_is_not_a_call() -> None:
    sample_tools.halves(8).close()
    assert calls() == []
    assert recorder.in_flight == {}


def test_a_generators_record_has_its_life_its_first_item_and_its_items(own_store: Any) -> None:
    clock = FakeClock()

    @tool
    def work() -> Iterator[int]:
        clock.advance(2)
        yield 1
        yield 2

    with isolated_store(own_store, clock=clock):
        generator = work()
        clock.advance(50)  # before the first item: not part of the call
        next(generator)
        clock.advance(10)
        assert list(generator) == [2]
        recorded = call()
    assert recorded.first_item_ns == 2 * 10**9
    assert recorded.duration_ns == 12 * 10**9
    assert recorded.items == 2


def test_a_generator_that_yields_nothing_has_no_first_item() -> None:
    @tool
    def work() -> Iterator[int]:
        yield from ()

    assert list(work()) == []
    recorded = call()
    assert (recorded.status, recorded.items, recorded.first_item_ns) == ("ok", None, None)


def test_a_suspended_generator_holds_no_item_alive() -> None:
    class Item:
        pass

    @tool
    def work() -> Iterator[Item]:
        yield Item()
        yield Item()

    generator = work()
    reference = weakref.ref(next(generator))
    assert reference() is None
    generator.close()


def test_a_suspended_generator_does_not_put_its_consumer_into_its_call() -> None:
    generator = sample_tools.halves(8)
    with agent_session("consumer"):
        next(generator)
        sample_tools.double(1)
        generator.close()
    assert call("double").parent == session("consumer").span


def test_a_tool_called_by_a_generator_is_a_child_of_the_generators_call() -> None:
    @tool
    def work() -> Iterator[int]:
        yield sample_tools.double(1)
        yield sample_tools.double(2)

    assert list(work()) == [2, 4]
    assert {event.parent for event in calls("double")} == {call("work").span}


def test_generators_can_be_interleaved() -> None:
    @tool("first")
    def first() -> Iterator[int]:
        yield sample_tools.double(1)
        yield sample_tools.double(2)

    second = tool("second")(first.__wrapped__)  # type: ignore[attr-defined]  # what a decorator leaves
    assert list(zip(first(), second(), strict=True)) == [(2, 2), (4, 4)]
    parents = [event.parent for event in calls("double")]
    assert parents == [call("first").span, call("second").span] * 2


_variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_a_context_variable_set_in_a_generator_is_seen_as_undecorated() -> None:
    def work() -> Iterator[str]:
        _variable.set("inside")
        yield _variable.get()
        yield _variable.get()

    def seen(decorate: Decorator) -> list[str]:
        generator = decorate(work)()
        heard = [next(generator), _variable.get()]
        _variable.set("outside")
        return [*heard, next(generator), *generator, _variable.get()]

    assert contextvars.copy_context().run(seen, tool) == contextvars.copy_context().run(seen, _same)
    assert _variable.get() == "unset"


def test_a_generator_may_go_on_in_another_context() -> None:
    generator = sample_tools.halves(8)
    items = [contextvars.copy_context().run(next, generator) for _ in range(3)]
    assert items == [4, 2, 1]
    assert current_session() is None
    assert list(generator) == []
    assert call().items == 3


def test_a_context_manager_can_be_made_of_a_decorated_generator() -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    @tool
    def work() -> Iterator[str]:
        try:
            yield "entered"
        except ValueError as error:
            seen.append(str(error))

    with work() as value:
        seen.append(value)
        raise ValueError("inside")
    assert seen == ["entered", "inside"]
    assert (call().status, call().items) == ("ok", 1)


def test_a_context_manager_passes_on_the_very_exception() -> None:
    @contextlib.contextmanager
    @tool
    def work() -> Iterator[None]:
        yield

    error = ValueError()
    with pytest.raises(ValueError) as caught, work():  # noqa: PT011  # it is compared below
        raise error
    assert caught.value is error
    assert call().status == "error"


# -- coroutines


def test_the_call_of_a_coroutine_function_begins_when_it_is_awaited(own_store: Any) -> None:
    clock = FakeClock()

    @tool
    async def work() -> None:
        clock.advance(3)

    async def main() -> None:
        coroutine = work()
        clock.advance(50)
        await coroutine

    with isolated_store(own_store, clock=clock):
        asyncio.run(main())
        assert call().duration_ns == 3 * 10**9


@pytest.mark.parametrize("decorate", [tool, agent_session("a")], ids=["tool", "session"])
def test_a_coroutine_that_is_never_awaited_warns_as_undecorated(decorate: Decorator) -> None:
    async def work() -> None: ...

    def heard(function: Callable[[], Any]) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
            gc.collect()
            messages = [str(warning.message) for warning in caught]
            caught.clear()  # each holds its coroutine
            gc.collect()
            return messages + [str(warning.message) for warning in caught]

    assert heard(decorate(work)) == heard(work)
    assert calls() == []


def test_closing_a_coroutine_that_was_not_awaited_is_silent() -> None:
    sample_tools.double_later(1).close()
    gc.collect()
    assert calls() == []


def test_a_cancelled_task_is_recorded_as_cancelled() -> None:
    async def main() -> None:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @tool
    async def waiting() -> None:
        await asyncio.Event().wait()

    asyncio.run(main())
    assert call().status == "cancelled"


def test_a_timeout_around_and_inside_a_coroutine_works() -> None:
    @tool
    async def inside() -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        return "went on"

    @tool
    async def waiting() -> None:
        await asyncio.Event().wait()

    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await waiting()
        return await inside()

    assert asyncio.run(main()) == "went on"
    assert (call("waiting").status, call("inside").status) == ("cancelled", "ok")


def test_a_decorated_coroutine_function_makes_tasks_under_its_own_name() -> None:
    async def main() -> str:
        task = asyncio.create_task(sample_tools.double_later(1))
        coroutine = task.get_coro()
        await task
        return str(coroutine.__qualname__)  # type: ignore[union-attr]  # it has one

    assert asyncio.run(main()) == "double_later"


def test_what_is_not_a_coroutine_passes_a_plain_function_untouched() -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        assert tool(lambda: future)() is future
        future.cancel()

    asyncio.run(main())
    generator = (x for x in "ab")
    assert tool(lambda: generator)() is generator


def test_a_coroutine_from_a_plain_function_is_part_of_the_call(own_store: Any) -> None:
    clock = FakeClock()

    async def inner() -> None:
        clock.advance(5)

    @tool
    def work() -> Any:
        clock.advance(1)
        return inner()

    with isolated_store(own_store, clock=clock):
        drained(work())
        assert call().duration_ns == 6 * 10**9


def test_a_session_entered_inside_a_coroutine_does_not_reach_its_caller() -> None:
    @tool
    async def work() -> None:
        async with agent_session("inner"):
            await asyncio.sleep(0)

    async def main() -> None:
        await work()
        assert current_session() is None

    asyncio.run(main())


# -- async generators


@tool
async def _talk_later() -> typing.AsyncGenerator[str, str]:
    heard = yield "hello"
    while heard != "end":
        await asyncio.sleep(0)
        try:
            heard = yield f"heard {heard}"
        except ValueError as error:
            heard = yield f"caught {error}"


def test_asend_and_athrow_pass_through_an_async_generator() -> None:
    async def main() -> None:
        generator = _talk_later()
        assert await anext(generator) == "hello"
        assert await generator.asend("a") == "heard a"
        assert await generator.athrow(ValueError("b")) == "caught b"
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")

    asyncio.run(main())
    assert (call().status, call().items) == ("ok", 3)


def _closing(log: list[str]) -> Callable[[], typing.AsyncGenerator[int, None]]:
    @tool
    async def work() -> typing.AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    return work


def test_closing_an_async_generator_runs_its_cleanup() -> None:
    log: list[str] = []

    async def main() -> None:
        generator = _closing(log)()
        await anext(generator)
        await generator.aclose()
        assert log == ["closed"]
        with pytest.raises(StopAsyncIteration):
            await anext(generator)

    asyncio.run(main())
    assert call().status == "cancelled"


def test_an_async_generator_can_be_closed_from_another_task() -> None:
    log: list[str] = []

    async def main() -> None:
        generator = _closing(log)()
        await anext(generator)
        await asyncio.create_task(close(generator))
        assert log == ["closed"]

    async def close(generator: typing.AsyncGenerator[int, None]) -> None:
        await generator.aclose()

    asyncio.run(main())
    assert call().status == "cancelled"


def test_each_item_of_an_async_generator_can_be_asked_for_by_another_task() -> None:
    async def ask(generator: Any) -> int:
        return await anext(generator)  # type: ignore[no-any-return]  # an item

    async def main() -> list[int]:
        generator = _async_generator_function(tool)(1)
        return [await asyncio.create_task(ask(generator)) for _ in range(2)]

    assert asyncio.run(main()) == [1, 2]


def test_asyncio_timeout_can_be_entered_inside_an_async_generator() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        async with asyncio.timeout(3600):
            yield 1
            await asyncio.sleep(0)
            yield 2

    assert drained(work()) == [1, 2]
    assert call().status == "ok"


def test_a_timeout_inside_an_async_generator_is_raised_where_it_is_undecorated() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        yield 1

    with pytest.raises(TimeoutError):
        drained(work())
    assert call().status == "error"


def test_a_task_group_can_be_entered_inside_an_async_generator() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0, 5))
            yield 1
        yield task.result()

    assert drained(work()) == [1, 5]


def test_an_abandoned_async_generator_is_closed_by_the_loop() -> None:
    log: list[str] = []

    async def main() -> None:
        async for _ in _closing(log)():
            break
        gc.collect()
        for _ in range(100):
            if log:
                break
            await asyncio.sleep(0)

    asyncio.run(main())
    assert log == ["closed"]
    assert call().status == "cancelled"


def test_an_async_generator_left_open_is_closed_when_the_loop_shuts_down() -> None:
    log: list[str] = []
    kept: list[Any] = []

    async def main() -> None:
        kept.append(_closing(log)())
        await anext(kept[0])
        await asyncio.get_running_loop().shutdown_asyncgens()

    asyncio.run(main())
    assert log == ["closed"]
    assert call().status == "cancelled"


_ABANDONED = """
import asyncio, gc
from pyjama_instrument import agent_session, tool

@tool
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        print("closed")
        await asyncio.sleep(0)

@tool
def letters():
    try:
        yield "a"
    finally:
        print("closed")

async def main():
    async for _ in numbers():
        break
    gc.collect()
    await asyncio.sleep(0)
    numbers()
    global kept
    kept = numbers(), letters(), agent_session("s")(numbers)()
    for generator in kept[::2]:
        await anext(generator)
    next(kept[1])

asyncio.run(main(), debug=True)
letters()
kept[1].close()
"""


def test_abandoned_generators_raise_nothing_unraisable_in_development_mode(run_python: RunPython) -> None:
    done = run_python(_ABANDONED, PYTHONDEVMODE="1")
    assert done.stderr == ""
    assert done.stdout.split() == ["closed"] * 4


def test_an_async_generator_already_running_says_so_as_undecorated() -> None:
    async def work() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        yield 1

    async def main(decorate: Decorator) -> str:
        generator = decorate(work)()
        first = asyncio.ensure_future(anext(generator))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError) as caught:
            await anext(generator)
        assert await first == 1
        await generator.aclose()
        return str(caught.value)

    assert asyncio.run(main(tool)) == asyncio.run(main(_same))


def test_a_cancelled_async_generator_is_recorded_as_cancelled() -> None:
    @tool
    async def work() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in work():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (call().status, call().items) == ("cancelled", 1)


def test_a_suspended_async_generator_does_not_put_its_consumer_into_its_call() -> None:
    async def main() -> None:
        async with agent_session("consumer"):
            async for _ in _async_generator_function(tool)(1):
                sample_tools.double(1)

    asyncio.run(main())
    assert {event.parent for event in calls("double")} == {session("consumer").span}


def test_a_suspended_async_generator_holds_no_item_alive() -> None:
    class Item:
        pass

    @tool
    async def work() -> AsyncIterator[Item]:
        yield Item()
        yield Item()

    async def main() -> None:
        generator = work()
        reference = weakref.ref(await anext(generator))
        assert reference() is None
        await generator.aclose()

    asyncio.run(main())


def test_an_async_context_manager_can_be_made_of_a_decorated_generator() -> None:
    @contextlib.asynccontextmanager
    @tool
    async def work() -> AsyncIterator[str]:
        yield "entered"

    async def main() -> str:
        async with work() as value:
            return value

    assert asyncio.run(main()) == "entered"
    assert call().status == "ok"


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
    assert drained(decorated(1)) == drained(FORMS[form](_same)(1))
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


# -- pickling and copying


_BY_NAME = {
    "function": sample_tools.double,
    "coroutine function": sample_tools.double_later,
    "generator function": sample_tools.halves,
    "method of a class": sample_tools.Toolbox.times,
    "class method, decorator outside": sample_tools.Toolbox.made_outside,
    "class method, decorator inside": sample_tools.Toolbox.made_inside,
    "static method, decorator outside": sample_tools.Toolbox.static_outside,
    "static method, decorator inside": sample_tools.Toolbox.static_inside,
    "session function": sample_tools.nightly,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", _BY_NAME)
def test_what_has_a_name_is_pickled_by_that_name(thing: str, protocol: int) -> None:
    function = _BY_NAME[thing]
    if "class method" in thing:
        assert pickle.loads(pickle.dumps(function, protocol)) == function
    else:
        assert pickle.loads(pickle.dumps(function, protocol)) is function


def test_a_bound_method_is_pickled_with_its_object() -> None:
    again = pickle.loads(pickle.dumps(sample_tools.Toolbox(7).times))
    assert again(2) == 14
    assert call().tool == "Toolbox.times"


@pytest.mark.parametrize(
    ("decorated", "argument", "result"),
    [
        (sample_tools.decorated_by_hand, (1,), 2),
        (sample_tools.decorated_again, (2,), 4),
        (sample_tools.partial_tool, (), 8),
        (tool("count")(sample_tools.Counter()), (3,), 3),
    ],
    ids=["a function under another name", "decorated twice", "partial", "callable object"],
)
def test_what_has_no_name_of_its_own_is_pickled_by_what_it_wraps(
    decorated: Any, argument: tuple[Any, ...], result: int
) -> None:
    again = pickle.loads(pickle.dumps(decorated))
    assert again(*argument) == result
    assert calls()


def test_a_local_function_is_refused_by_pickle_as_undecorated() -> None:
    for decorate in (tool, _same):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pickle.dumps(_function(decorate))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("thing", _BY_NAME)
def test_a_copy_of_a_function_is_the_function(thing: str, copied: Callable[[Any], Any]) -> None:
    function = _BY_NAME[thing]
    assert copied(function) == function
    assert copied({"key": [function]}) == {"key": [function]}


def test_a_deep_copy_of_a_bound_method_has_an_object_of_its_own() -> None:
    box = sample_tools.Toolbox(2)
    again = copy.deepcopy(box.times)
    box.factor = 100
    assert again(3) == 6


def test_a_deep_copy_of_a_decorated_object_has_a_state_of_its_own() -> None:
    counter = tool(sample_tools.Counter())
    again = copy.deepcopy(counter)
    counter(5)
    assert again(1) == 1
    assert len(calls("Counter")) == 2


def test_a_class_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="decorate the methods of Toolbox"):
        tool(sample_tools.Toolbox)
