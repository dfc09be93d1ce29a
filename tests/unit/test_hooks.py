"""Hooks: what runs before and after a tool call, in which order, and what it can do to the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest

from pyjama_instrument import agent_session, configure, hooks, tool
from pyjama_instrument.hooks import ToolCall
from tests.unit.callable_forms import FORMS, same
from tests.unit.recorded import call, calls, drained, session


@pytest.fixture(autouse=True)
def _no_hooks_left() -> Iterator[None]:
    hooks.clear_hooks()
    yield
    hooks.clear_hooks()


class _Notebook(list[ToolCall]):
    """A hook that keeps what it is told."""

    def __call__(self, told: ToolCall) -> None:
        self.append(told)

    __hash__ = object.__hash__


def _of_every_kind() -> dict[str, Callable[..., Any]]:
    def work(x: int, y: int = 0) -> list[int]:
        return [x, y]

    async def coroutine_work(x: int, y: int = 0) -> list[int]:
        await asyncio.sleep(0)
        return [x, y]

    def generator_work(x: int, y: int = 0) -> Iterator[int]:
        yield x
        yield y

    async def async_generator_work(x: int, y: int = 0) -> AsyncIterator[int]:
        yield x
        yield y

    return {
        "def": work,
        "async def": coroutine_work,
        "generator": generator_work,
        "async generator": async_generator_work,
    }


KINDS = list(_of_every_kind())


# -- after


@pytest.mark.parametrize("kind", KINDS)
def test_a_post_hook_is_told_of_the_call_that_was_recorded(kind: str) -> None:
    told = _Notebook()
    hooks.register_hook("work", told)
    with agent_session("a") as run:
        assert drained(tool("work")(_of_every_kind()[kind])(1, y=2)) == [1, 2]
    (seen,) = told
    assert (seen.tool, seen.agent, seen.session) == ("work", "a", run.id)
    assert (seen.args, seen.kwargs) == ((1,), {"y": 2})
    assert seen.event == call("work")
    assert seen.result == (None if "generator" in kind else [1, 2])
    assert seen.error is None


@pytest.mark.parametrize("form", FORMS)
def test_hooks_leave_a_callable_of_any_form_as_it_was(form: str) -> None:
    told = _Notebook()
    hooks.register_hook("*", told)
    hooks.register_pre_hook("*", told)
    assert drained(FORMS[form](tool)(7)) == drained(FORMS[form](same)(7))
    assert len(told) == 2
    assert call().status == "ok"


@pytest.mark.parametrize("kind", KINDS)
def test_a_post_hook_is_told_of_the_exception(kind: str) -> None:
    told = _Notebook()
    hooks.register_hook("work", told)

    async def fail_later() -> None:
        raise error

    def fail() -> None:
        raise error

    error = ValueError("no")
    failing: dict[str, Any] = {
        "def": fail,
        "async def": fail_later,
        "generator": lambda: (fail() for _ in "a"),
        "async generator": lambda: (await fail_later() for _ in "a"),
    }
    function = failing[kind]
    if "generator" in kind:
        function = _delegating(kind, function)
    with pytest.raises(ValueError, match="no") as caught:
        drained(tool("work")(function)())
    assert caught.value is error
    assert told[0].error is error
    assert told[0].event is not None
    assert told[0].event.status == "error"


def _delegating(kind: str, make: Callable[[], Any]) -> Any:
    def generator_function() -> Iterator[Any]:
        yield from make()

    async def async_generator_function() -> AsyncIterator[Any]:
        async for item in make():
            yield item

    return generator_function if kind == "generator" else async_generator_function


def test_captured_values_are_in_the_event_a_hook_gets() -> None:
    told = _Notebook()
    hooks.register_hook("work", told)
    tool("work", capture=True)(lambda x: x)(5)
    assert told[0].event is not None
    assert (told[0].event.arguments, told[0].event.result) == ({"x": 5}, 5)


def test_hooks_run_in_the_order_of_registration_and_those_of_every_tool_last() -> None:
    order: list[str] = []
    for name, tool_name in (("any", "*"), ("first", "work"), ("second", "work"), ("other", "another")):
        hooks.register_hook(tool_name, lambda _, name=name: order.append(f"after {name}"))
        hooks.register_pre_hook(tool_name, lambda _, name=name: order.append(f"before {name}"))
    tool("work")(lambda: order.append("work"))()
    assert order == [
        "before first",
        "before second",
        "before any",
        "work",
        "after first",
        "after second",
        "after any",
    ]


def test_a_hook_registered_twice_runs_twice() -> None:
    told = _Notebook()
    hooks.register_hook("work", told)
    hooks.register_hook("work", told)
    tool("work")(lambda: None)()
    assert len(told) == 2


def test_a_tool_named_like_the_wildcard_runs_its_hooks_once() -> None:
    told = _Notebook()
    hooks.register_hook("*", told)
    tool("*")(lambda: None)()
    assert len(told) == 1


@pytest.mark.swallows
def test_a_failing_post_hook_disturbs_neither_the_caller_nor_other_hooks() -> None:
    told = _Notebook()
    hooks.register_hook("work", mock.Mock(side_effect=RuntimeError("broken hook")))
    hooks.register_hook("work", told)
    assert tool("work")(lambda: 5)() == 5
    assert len(told) == 1
    assert call().status == "ok"


@pytest.mark.swallows
def test_a_failing_post_hook_does_not_replace_the_tools_exception() -> None:
    hooks.register_hook("work", mock.Mock(side_effect=RuntimeError("broken hook")))
    with pytest.raises(ZeroDivisionError) as caught:
        tool("work")(lambda: 1 // 0)()
    assert caught.value.__context__ is None


def test_an_interruption_while_a_post_hook_runs_reaches_the_caller() -> None:
    hooks.register_hook("work", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tool("work")(lambda: 5)()
    assert call().status == "ok"


def test_a_call_that_a_hook_makes_is_recorded_and_runs_hooks_as_well() -> None:
    told = _Notebook()
    inner = tool("inner")(lambda: None)
    hooks.register_hook("inner", told)
    hooks.register_hook("work", lambda _: inner())
    tool("work")(lambda: None)()
    assert len(told) == len(calls("inner")) == 1


def test_a_generators_post_hook_runs_when_it_ends() -> None:
    told = _Notebook()
    hooks.register_hook("work", told)
    generator = tool("work")(_of_every_kind()["generator"])(1)
    next(generator)
    assert told == []
    generator.close()
    assert [seen.event.status for seen in told if seen.event] == ["cancelled"]


# -- before


@pytest.mark.parametrize("kind", KINDS)
def test_a_pre_hook_is_asked_before_the_call(kind: str) -> None:
    told = _Notebook()
    hooks.register_pre_hook("work", told)
    drained(tool("work")(_of_every_kind()[kind])(1, y=2))
    (seen,) = told
    assert (seen.tool, seen.args, seen.kwargs) == ("work", (1,), {"y": 2})
    assert (seen.event, seen.result, seen.error) == (None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_pre_hooks_replace_the_arguments_one_after_the_other(kind: str) -> None:
    told = _Notebook()
    hooks.register_pre_hook("work", lambda seen: ((seen.args[0] * 10,), {"y": 5}))
    hooks.register_pre_hook("work", lambda seen: ((seen.args[0] + 1,), seen.kwargs))
    hooks.register_hook("work", told)
    assert drained(tool("work")(_of_every_kind()[kind])(1)) == [11, 5]
    assert (told[0].args, told[0].kwargs) == ((11,), {"y": 5})


@pytest.mark.parametrize("kind", KINDS)
def test_a_pre_hook_cancels_the_call_by_raising(kind: str) -> None:
    ran: list[int] = []
    told = _Notebook()
    error = PermissionError("not today")
    hooks.register_pre_hook("work", mock.Mock(side_effect=error))
    hooks.register_hook("work", told)
    functions = _of_every_kind()
    decorated = tool("work")(functions[kind])
    with pytest.raises(PermissionError) as caught:
        ran.append(drained(decorated(1)))
    assert caught.value is error
    assert ran == []
    recorded = call("work")
    assert recorded.status == "cancelled"
    assert recorded.error is not None
    assert recorded.error.message == "not today"
    assert told[0].error is error


def test_a_cancelled_call_does_not_ask_the_remaining_pre_hooks() -> None:
    told = _Notebook()
    hooks.register_pre_hook("work", mock.Mock(side_effect=PermissionError))
    hooks.register_pre_hook("work", told)
    with pytest.raises(PermissionError):
        tool("work")(lambda: None)()
    assert told == []


@pytest.mark.parametrize("kind", ["async def", "generator", "async generator"])
def test_pre_hooks_run_when_the_body_would_and_not_when_it_is_never_run(kind: str) -> None:
    told = _Notebook()
    hooks.register_pre_hook("work", told)
    suspended = tool("work")(_of_every_kind()[kind])(1)
    assert told == []
    if hasattr(suspended, "close"):
        suspended.close()
    del suspended
    assert told == []
    assert calls() == []


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_pre_hook_the_result_keeps_its_kind_and_name(kind: str) -> None:
    function = _of_every_kind()[kind]
    hooks.register_pre_hook("work", lambda _: None)
    with_hook, plain = tool("work")(function)(1), function(1)
    assert type(with_hook) is type(plain)
    if kind != "def":
        assert with_hook.__name__ == plain.__name__
    drained(with_hook)
    drained(plain)


@pytest.mark.swallows
@pytest.mark.parametrize("returned", [True, 5, "ab", ((1,),), ((1,), {}, 3), (1, {}), ((1,), None), mock.Mock()])
def test_what_a_pre_hook_returns_in_a_wrong_form_is_not_used(returned: Any) -> None:
    told = _Notebook()
    hooks.register_pre_hook("work", lambda _: returned)
    hooks.register_pre_hook("work", told)
    assert tool("work")(lambda x: x)(7) == 7
    assert told[0].args == (7,)


def test_a_hook_may_be_any_callable() -> None:
    hooks.register_hook("work", mock.Mock())
    hooks.register_hook("work", print)
    hooks.register_pre_hook("work", _Notebook())
    assert tool("work")(lambda: 5)() == 5


# -- the registry


def test_get_hooks_says_which_would_run() -> None:
    own, every, before = _Notebook(), _Notebook(), _Notebook()
    hooks.register_hook("work", own)
    hooks.register_hook("*", every)
    hooks.register_pre_hook("work", before)
    assert [id(hook) for hook in hooks.get_hooks("work")] == [id(own), id(every)]
    assert [id(hook) for hook in hooks.get_hooks("other")] == [id(every)]
    assert [id(hook) for hook in hooks.get_pre_hooks("work")] == [id(before)]
    assert hooks.get_pre_hooks("other") == ()
    assert hooks.registered() == {"work": 2, "*": 1}


def test_one_hook_can_be_taken_back() -> None:
    kept, taken = mock.Mock(), mock.Mock()
    for hook in (kept, taken):
        hooks.register_hook("work", hook)
        hooks.register_pre_hook("work", hook)
    assert hooks.unregister_hook("work", taken)
    assert hooks.unregister_pre_hook("work", taken)
    assert hooks.get_hooks("work") == hooks.get_pre_hooks("work") == (kept,)


def test_all_hooks_of_a_tool_can_be_taken_back() -> None:
    for name in ("work", "other"):
        hooks.register_hook(name, print)
        hooks.register_pre_hook(name, print)
    assert hooks.unregister_hook("work")
    assert hooks.unregister_pre_hook("work")
    assert hooks.registered() == {"other": 2}


def test_taking_back_what_is_not_there_says_so() -> None:
    hooks.register_hook("work", print)
    assert not hooks.unregister_hook("other")
    assert not hooks.unregister_hook("work", len)
    assert not hooks.unregister_pre_hook("work")
    assert hooks.get_hooks("work") == (print,)


def test_a_bound_method_can_be_taken_back() -> None:
    notes: list[Any] = []
    hooks.register_hook("work", notes.append)
    assert hooks.unregister_hook("work", notes.append)


def test_hooks_of_one_tool_or_of_all_can_be_cleared() -> None:
    for name in ("a", "b", "*"):
        hooks.register_hook(name, print)
        hooks.register_pre_hook(name, print)
    hooks.clear_hooks("a")
    assert hooks.registered() == {"b": 2, "*": 2}
    hooks.clear_hooks()
    assert hooks.registered() == {}


def test_hooks_can_be_registered_by_many_threads_at_once() -> None:
    def register(number: int) -> None:
        for _ in range(50):
            hooks.register_hook(f"tool {number % 2}", print)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(register, range(4)))
    assert hooks.registered() == {"tool 0": 100, "tool 1": 100}


def test_hooks_do_not_run_while_recording_is_off() -> None:
    told = _Notebook()
    hooks.register_hook("*", told)
    hooks.register_pre_hook("*", told)
    configure(enabled=False)
    tool("work")(lambda: None)()
    assert told == []


def test_hooks_registered_later_apply_to_functions_decorated_before() -> None:
    work = tool("work")(lambda: None)
    work()
    told = _Notebook()
    hooks.register_hook("work", told)
    with agent_session("a"):
        work()
    hooks.unregister_hook("work")
    work()
    assert [seen.session for seen in told] == [session("a").session]
    assert len(calls("work")) == 3
