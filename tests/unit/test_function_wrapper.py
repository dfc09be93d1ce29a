"""The wrapper of a decorated function is a real function, also for code that takes functions apart or inspects them."""

from __future__ import annotations

import abc
import copy
import dataclasses
import dis
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.recording.function_wrapper import handler_of, is_importable
from tests.unit import sample_tools
from tests.unit.recorded import call, calls, drained, sessions


def _work(x: int, y: int = 2, *, z: int = 3) -> tuple[int, int, int]:
    """Add nothing."""
    return x, y, z


def _wrapper(**options: Any) -> Any:
    @tool("work", **options)
    @functools.wraps(_work)
    def work(x: int, y: int = 2, *, z: int = 3) -> tuple[int, int, int]:
        return x, y, z

    return work


def _rebuilt(function: types.FunctionType, names: dict[str, Any]) -> Any:
    made = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


@pytest.mark.parametrize("options", [{}, {"capture": True}, {"control_flow": KeyError}])
def test_a_function_built_from_its_parts_records(options: dict[str, Any]) -> None:
    assert _rebuilt(_wrapper(**options), {})(1, z=5) == (1, 2, 5)
    assert call().tool == "work"


@pytest.mark.parametrize("form", ["double", "double_later", "halves"])
def test_that_holds_for_every_kind(form: str) -> None:
    function = getattr(sample_tools, form)
    assert drained(_rebuilt(function, {})(4)) == drained(function(4))
    assert len(calls()) == 2


def test_a_session_s_function_built_from_its_parts_is_a_run() -> None:
    @agent_session("nightly")
    def nightly(x: int) -> int:
        return x

    assert _rebuilt(nightly, {})(3) == 3  # type: ignore[arg-type]  # a function's type is FunctionType
    assert len(sessions("nightly")) == 1


def test_without_the_closure_nothing_can_be_built() -> None:
    with pytest.raises(TypeError):
        types.FunctionType(_wrapper().__code__, {})


def test_the_body_names_nothing_that_its_globals_must_have() -> None:
    for function in (_wrapper(), _wrapper(capture=True), sample_tools.double_later, sample_tools.halves):
        instructions = {each.opname for each in dis.get_instructions(function)}
        assert not instructions & {"LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME"}


def test_only_a_wrapper_has_a_handler() -> None:
    work = _wrapper()
    assert handler_of(work).name == "work"

    @functools.wraps(work)
    def wrapper(*args: Any) -> Any:
        return work(*args)

    def not_ours() -> Callable[[], Any]:
        def inner() -> Any:
            return handler

        if not_ours is None:
            handler = 1
        return inner

    assert handler_of(wrapper) is None
    assert handler_of(not_ours()) is None
    assert handler_of(functools.partial(work)) is None


def test_a_name_that_leads_elsewhere_is_noticed() -> None:
    assert is_importable(_work)  # type: ignore[arg-type]
    assert is_importable(sample_tools.Toolbox.times)  # type: ignore[arg-type]
    assert not is_importable(lambda: None)  # type: ignore[arg-type]


def test_wraps_over_a_tool_and_under_it() -> None:
    inner = _wrapper()

    @functools.wraps(inner)
    def over(*args: int) -> Any:
        return inner(*args)

    outer = tool("outer")(over)
    assert outer(1) == (1, 2, 3)
    assert [each.tool for each in calls()] == ["work", "outer"]
    assert inspect.signature(outer) == inspect.signature(_work)
    assert inspect.unwrap(outer) is _work


def test_inspection_finds_the_program_s_function() -> None:
    work = sample_tools.double
    assert inspect.getsource(work).startswith("@tool")
    assert inspect.getsourcefile(inspect.unwrap(work)) == sample_tools.__file__
    assert inspect.getmodule(work) is sample_tools
    assert inspect.getclosurevars(work).globals == {}
    assert typing.get_type_hints(work) == typing.get_type_hints(inspect.unwrap(work))


def test_a_method_made_by_hand_is_bound() -> None:
    work = _wrapper()
    assert types.MethodType(work, 7)(8) == (7, 8, 3)
    assert work.__get__(7)(8) == (7, 8, 3)
    assert len(calls("work")) == 2


class _Base(abc.ABC):
    @tool
    @abc.abstractmethod
    def size(self) -> int: ...


@dataclasses.dataclass
class _Box(_Base):
    width: int = 1
    maker: Any = sample_tools.double

    @tool
    def size(self) -> int:
        return self.width

    @functools.cached_property
    @tool
    def cached(self) -> int:
        return self.width

    @functools.singledispatchmethod
    @tool
    def shown(self, value: object) -> str:
        return "object"

    @shown.register
    @tool("shown as a number")
    def _(self, value: int) -> str:
        return "number"

    add = functools.partialmethod(tool("add")(lambda self, a, b: self.width + a + b), 1)


def test_classes_make_of_it_what_they_make_of_a_function() -> None:
    with pytest.raises(TypeError, match="abstract"):
        _Base()  # type: ignore[abstract]
    box = _Box(2)
    assert (box.size(), box.cached, box.cached, box.shown(""), box.shown(1), box.add(5)) == (
        2,
        2,
        2,
        "object",
        "number",
        8,
    )
    assert (box.maker(2), copy.deepcopy(box).maker is box.maker, dataclasses.replace(box, width=3).size()) == (
        4,
        True,
        3,
    )
    assert [each.tool for each in calls()] == [
        "_Box.size", "_Box.cached", "_Box.shown", "shown as a number", "add", "double", "_Box.size",
    ]  # fmt: skip


def test_special_methods_do_their_work() -> None:
    class Special:
        seen: typing.ClassVar[dict[str, Any]] = {}

        @tool
        def __init_subclass__(cls, **keywords: Any) -> None:
            cls.seen = keywords

        @tool
        def __class_getitem__(cls, key: Any) -> Any:
            return cls.__name__, key

        @tool
        def __new__(cls, *args: Any) -> Any:
            return super().__new__(cls)

        @tool
        def __init__(self, value: Any = None) -> None:
            self.value = value

        @tool
        def __set_name__(self, owner: type, name: str) -> None:
            self.value = name

        @tool
        def __get__(self, instance: Any, owner: Any = None) -> Any:
            return self.value

        @tool
        def __len__(self) -> int:
            return 3

        @tool
        def __iter__(self) -> Any:
            yield 1

    class Below(Special, key=1):
        pass

    class Owner:
        special = Special()

    assert Below.seen == {"key": 1}
    assert (Special[1], Below[2]) == (("Special", 1), ("Below", 2))  # type: ignore[misc, type-arg, valid-type]
    assert (Owner.special, len(Special()), list(Special())) == ("special", 3, [1])
    counted = {each.tool for each in calls()}
    special = (
        "__init_subclass__", "__class_getitem__", "__new__", "__init__", "__set_name__", "__get__", "__len__",
        "__iter__",
    )  # fmt: skip
    assert counted == {f"Special.{name}" for name in special}


def test_an_enumeration_s_functions_are_methods_and_no_members() -> None:
    class Color(enum.Enum):
        RED = 1

        @tool
        def shown(self) -> str:
            return self.name.lower()

        @classmethod
        @tool
        def _missing_(cls, value: object) -> Any:
            return cls.RED

    assert [*Color] == [Color.RED]
    assert (Color.RED.shown(), Color(7)) == ("red", Color.RED)
    assert [each.tool for each in calls()] == ["Color.shown", "Color._missing_"]


def test_functions_of_c_s_can_be_decorated() -> None:
    assert (tool("len")(len)([1]), tool("upper")(str.upper)("a"), tool("append")([].append)(1)) == (1, "A", None)
    assert [each.tool for each in calls()] == ["len", "upper", "append"]
