"""Captured arguments and results: bounded, JSON-safe, never disturbing the value, and only what was asked for."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import json
import pathlib
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.redaction.json_values import error_info, jsonable
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES
from tests.unit.recorded import all_events, call, drained, journal_lines

# -- what is captured


def test_nothing_is_captured_unless_asked_for() -> None:
    tool("t")(lambda secret: secret)("hunter2")
    assert (call().arguments, call().result) == (None, None)
    assert b"hunter2" not in b"".join(journal_lines())


def test_only_the_named_parameters_are_captured() -> None:
    @tool(capture=("path",))
    def work(path: str, secret: str, *, other: int = 3) -> str:
        return secret

    work("p", "hunter2")
    assert call().arguments == {"path": "p"}
    assert call().result is None
    assert b"hunter2" not in b"".join(journal_lines())


def test_true_captures_all_arguments_and_the_result() -> None:
    @tool(capture=True)
    def work(a: int, /, b: int, *rest: int, c: int, **more: int) -> int:
        return a

    work(1, 2, 3, c=4, d=5)
    assert call().arguments == {"a": 1, "b": 2, "rest": [3], "c": 4, "more": {"d": 5}}
    assert call().result == 1


@pytest.mark.parametrize("word", ["return", "result"])
def test_the_result_can_be_captured_alone(word: str) -> None:
    tool("t", capture=(word,))(lambda x: x + 1)(1)
    assert (call().arguments, call().result) == (None, 2)


def test_a_parameter_called_result_is_captured_as_the_parameter_it_is() -> None:
    tool("t", capture=("result",))(lambda result: "returned")("given")
    assert call().arguments == {"result": "given"}
    assert call().result is None


def test_a_default_is_not_an_argument() -> None:
    tool("t", capture=True)(lambda a, b=2: None)(1)
    assert call().arguments == {"a": 1}


def test_a_call_that_does_not_fit_is_recorded_without_arguments() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        tool("t", capture=True)(lambda a: None)(1, 2, 3)
    assert (call().status, call().arguments) == ("error", None)


class _Methods:
    @tool("method", capture=("x", "return"))
    def method(self, x: int = 1, y: int = 2) -> int:
        return x

    @tool("class method", capture=("x", "return"))
    @classmethod
    def class_method(cls, x: int = 1, y: int = 2) -> int:
        return x

    @staticmethod
    @tool("static method", capture=("x", "return"))
    def static_method(x: int = 1, y: int = 2) -> int:
        return x


def test_arguments_of_methods_go_by_their_own_names() -> None:
    _Methods().method(5)
    _Methods.method(_Methods(), 5)
    _Methods.class_method(5)
    _Methods().class_method(5)
    _Methods.static_method(5)
    _Methods().static_method(5)
    tool("method", capture=("x", "return"))(_Methods().method.__wrapped__.__get__(_Methods()))(5)  # type: ignore[attr-defined]
    ended = [event for event in all_events() if event.kind == "tool.ended"]
    assert [event.arguments for event in ended] == [{"x": 5}] * 7
    assert [event.result for event in ended] == [5] * 7


def test_self_is_not_captured_among_all() -> None:
    class Box:
        @tool("t", capture=True)
        def method(self, x: int) -> None: ...

    Box().method(3)
    assert call().arguments == {"x": 3}


@pytest.mark.parametrize("kind", ["async def", "generator", "async generator"])
def test_capture_works_on_functions_of_every_kind(kind: str) -> None:
    async def coroutine_work(x: int) -> int:
        await asyncio.sleep(0)
        return x

    def generator_work(x: int) -> Iterator[int]:
        yield x

    async def async_generator_work(x: int) -> Any:
        yield x

    functions: Any = {"async def": coroutine_work, "generator": generator_work, "async generator": async_generator_work}
    drained(tool("t", capture=True)(functions[kind])(7))
    assert call().arguments == {"x": 7}
    assert call().result == (7 if kind == "async def" else None)


def test_arguments_are_captured_as_they_were_before_the_call() -> None:
    tool("t", capture=True)(lambda items: items.clear())([1, 2])
    assert call().arguments == {"items": [1, 2]}


def test_no_result_is_captured_of_a_call_that_failed() -> None:
    def fail(x: int) -> NoReturn:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # the only one there is
        tool("t", capture=True)(fail)(1)
    assert call().result is None
    assert call().arguments == {"x": 1}


# -- values


class _Colour(enum.Enum):
    RED = 1


class _Level(enum.IntEnum):
    HIGH = 3


class _Flag(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class _Point:
    x: int
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Slotted:
    x: int


class _Pair(collections.namedtuple("_Pair", "left right")):  # the untyped one is meant
    pass


class _Text(str):
    def __str__(self) -> NoReturn:
        raise RuntimeError

    __repr__ = __getitem__ = __len__ = __iter__ = __eq__ = __str__  # type: ignore[assignment]  # all of them raise
    __hash__ = str.__hash__


class _Dict(dict):  # type: ignore[type-arg]  # of anything
    def items(self) -> NoReturn:
        raise RuntimeError

    keys = values = __iter__ = __len__ = __getitem__ = items  # type: ignore[assignment]  # all of them raise


class _List(list):  # type: ignore[type-arg]  # of anything
    def __iter__(self) -> NoReturn:
        raise RuntimeError

    __len__ = __getitem__ = __iter__  # type: ignore[assignment]  # all of them raise


class _Int(int):
    def __str__(self) -> NoReturn:
        raise RuntimeError

    __repr__ = __int__ = __index__ = __pos__ = __eq__ = __str__  # type: ignore[assignment]  # all of them raise
    __hash__ = int.__hash__


class _Nothing:
    pass


VALUES: dict[str, tuple[Any, Any]] = {
    "None": (None, None),
    "bool": (True, True),
    "int": (-5, -5),
    "largest exact int": (2**53, 2**53),
    "int beyond JavaScript": (2**53 + 1, "9007199254740993"),
    "huge int": (10**5000, "<int of 16610 bits>"),
    "int subclass": (_Int(5), 5),
    "float": (1.5, 1.5),
    "nan": (float("nan"), "nan"),
    "infinity": (float("inf"), "inf"),
    "minus infinity": (float("-inf"), "-inf"),
    "text": ("ünï\n\0", "ünï\n\0"),
    "lone surrogate": ("a\ud800b", "a?b"),
    "text subclass": (_Text("abc"), "abc"),
    "bytes": (b"abc", "<bytes of 3 bytes>"),
    "bytearray": (bytearray(4), "<bytearray of 4 bytes>"),
    "memoryview": (memoryview(b"12345"), "<memoryview of 5 bytes>"),
    "list": ([1, [2]], [1, [2]]),
    "list subclass": (_List([1]), [1]),
    "tuple": ((1, 2), [1, 2]),
    "named tuple": (_Pair(1, 2), [1, 2]),
    "set": ({1}, [1]),
    "frozenset": (frozenset({1}), [1]),
    "dict": ({"a": {"b": 1}}, {"a": {"b": 1}}),
    "dict subclass": (_Dict(a=1), {"a": 1}),
    "ordered dict": (collections.OrderedDict(a=1), {"a": 1}),
    "default dict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "dict with other keys": (
        {1: "a", None: "b", (2, 3): "c", 1.5: "d", _Colour.RED: "e"},
        {"1": "a", "None": "b", "…": "e", "1.5": "d"},
    ),
    "enum": (_Colour.RED, "RED"),
    "int enum": (_Level.HIGH, "HIGH"),
    "flag": (_Flag.A | _Flag.B, "A|B"),
    "dataclass": (_Point(1, _Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
    "dataclass with slots": (_Slotted(1), f"<{__name__}._Slotted>"),
    "datetime": (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02 03:04:05"),  # without a zone
    "date": (datetime.date(2024, 1, 2), "2024-01-02"),
    "timedelta": (datetime.timedelta(seconds=90), "0:01:30"),
    "decimal": (decimal.Decimal("1.10"), "1.10"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "path": (pathlib.Path("/a/b"), "/a/b"),
    "fraction": (fractions.Fraction(1, 2), "<fractions.Fraction>"),
    "object": (_Nothing(), f"<{__name__}._Nothing>"),
    "class": (int, "<builtins.type>"),
    "function": (len, "<builtins.builtin_function_or_method>"),
    "complex": (1j, "<builtins.complex>"),
    "file": (io.StringIO("abc"), "<_io.StringIO>"),
    "lock": (threading.Lock(), "<_thread.lock>"),
}


@pytest.mark.parametrize("what", VALUES)
def test_a_value_is_shown_as_json_can(what: str) -> None:
    value, shown = VALUES[what]
    assert jsonable(value) == shown


@pytest.mark.parametrize("what", VALUES)
def test_a_value_of_any_kind_passes_unchanged_and_is_recorded(what: str) -> None:
    value, shown = VALUES[what]
    assert tool("t", capture=True)(lambda x: x)(value) is value
    assert call().arguments == {"x": shown}
    assert call().result == shown


# -- bounded work and bytes


def test_a_huge_text_is_cut_and_its_size_noted() -> None:
    text = "x" * 20_000_000
    assert tool("t", capture=True)(lambda x: x)(text) is text
    assert call().arguments == {"x": "x" * 2000 + "… [20000000 characters]"}
    assert call().result == "x" * 2000 + "… [20000000 characters]"


def test_a_huge_bytes_object_is_named_by_its_size() -> None:
    assert jsonable(bytes(20_000_000)) == "<bytes of 20000000 bytes>"


def test_long_containers_are_cut_and_the_rest_counted() -> None:
    assert jsonable(list(range(1_000_000))) == [*range(50), "… +999950 items"]
    shown = jsonable({str(n): n for n in range(1000)})
    assert len(shown) == 51
    assert shown["…"] == "+950 items"


def test_a_circular_value_ends() -> None:
    circular: list[Any] = []
    circular.append(circular)
    assert jsonable(circular) == [[[[[["…"]]]]]]
    own_value: dict[str, Any] = {}
    own_value["me"] = own_value
    assert "…" in json.dumps(jsonable(own_value), ensure_ascii=False)
    point = _Point(1)
    point.y = point
    assert "…" in json.dumps(jsonable(point), ensure_ascii=False)


def test_a_value_nested_100000_deep_ends() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert tool("t", capture=True)(lambda x: x)(deep) is deep
    assert call().arguments == {"x": [[[[["…"]]]]]}
    while deep:  # Python's own clearing of it would recurse
        deep = deep.pop()


def test_a_wide_tree_is_cut_to_a_bounded_number_of_values() -> None:
    wide: Any = 0
    for _ in range(5):
        wide = [wide] * 50
    assert len(json.dumps(jsonable(wide))) < 20_000


def test_a_conversation_is_kept_as_far_as_there_is_room() -> None:
    messages = [{"role": "user", "content": "word " * 1000} for _ in range(40)]
    tool("t", capture=True)(lambda messages: messages)(messages)
    shown = call().arguments
    assert shown is not None
    assert shown["messages"][0] == {"role": "user", "content": "word " * 400 + "… [5000 characters]"}
    assert shown["messages"][5]["role"] == "user"
    assert isinstance(call().result, list)


HUGE: dict[str, Any] = {
    "text": "x" * 20_000_000,
    "text of two bytes": "é" * 5_000_000,
    "text of four bytes": "\U0001f600" * 1_000_000,
    "control characters": "\x00" * 1_000_000,
    "lone surrogates": "\ud800" * 1_000_000,
    "many texts": ["é" * 3000] * 500,
    "many long keys": {f"{n}" + "é" * 3000: "\0" * 3000 for n in range(500)},
    "tree of texts": [[["\U0001f600" * 2000] * 12] * 12] * 12,
}


@pytest.mark.parametrize("what", HUGE)
def test_a_huge_value_keeps_its_event_and_every_line_stays_small(what: str) -> None:
    value = HUGE[what]

    def fail(**kwargs: Any) -> NoReturn:
        raise ValueError(value)

    tool("t", capture=True)(lambda *args, **kwargs: [value, value])(value, value, key=value)
    with pytest.raises(ValueError):  # noqa: PT011  # the only one there is
        tool("u", capture=True)(fail)(key=value)
    with agent_session("a", tags={"k": value}, spec={"k": value}) as run:
        run.annotate(key=value)
        run.fail(str(value))
    assert call("t").status == "ok"
    assert call("u").status == "error"
    assert max(map(len, journal_lines())) < MAX_RECORD_BYTES


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


@pytest.mark.parametrize("what", [*VALUES, *HUGE])
def test_every_journal_line_is_strict_ascii_json(what: str) -> None:
    value = VALUES[what][0] if what in VALUES else HUGE[what]
    tool(f"t {what}", capture=True)(lambda x: x)(value)
    for line in journal_lines():
        text = line.decode("ascii")
        assert "\0" not in text
        json.loads(text, parse_constant=_refuse)
        text.encode("utf-8").decode("utf-8")
        json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")  # no lone surrogates


# -- no code of the value's own class runs


class _Hostile:
    """Everything a curious library could call on it raises."""

    def _raise(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("the value was disturbed")

    __repr__ = __str__ = __eq__ = __ne__ = __lt__ = __hash__ = __bool__ = __len__ = __iter__ = _raise  # type: ignore[assignment]
    __getattr__ = __getattribute__ = __contains__ = __getitem__ = __call__ = _raise  # type: ignore[assignment]
    __int__ = __float__ = __index__ = __bytes__ = __format__ = __reduce_ex__ = __dir__ = _raise  # type: ignore[assignment]
    __class__ = property(_raise)  # type: ignore[assignment]


class _HostileMeta(type):
    def __instancecheck__(cls, _: object) -> NoReturn:
        raise RuntimeError("the class was disturbed")

    __subclasscheck__ = __hash__ = __eq__ = __instancecheck__  # type: ignore[assignment]  # all of them raise


class _OfHostileClass(metaclass=_HostileMeta):
    pass


class _HostileZone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> NoReturn:
        raise RuntimeError("asked for its offset")

    tzname = dst = utcoffset


def _released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


HOSTILE: dict[str, Any] = {
    "object": _Hostile(),
    "class": _OfHostileClass(),
    "inside": [_Hostile(), {"k": _Hostile()}, (_Hostile(),)],
    "time zone": datetime.datetime(2024, 1, 1, tzinfo=_HostileZone()),
    "released memoryview": _released(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_value_that_cannot_be_shown_is_not_disturbed_and_its_event_kept(what: str) -> None:
    value = HOSTILE[what]
    assert tool("t", capture=True)(lambda x, y: x)(value, 5) is value
    arguments = call().arguments
    assert arguments is not None
    assert arguments["y"] == 5
    assert call().status == "ok"


def test_iterators_are_not_consumed() -> None:
    values: dict[str, Any] = {
        "generator": (n for n in range(3)),
        "iterator": iter([0, 1, 2]),
        "map": map(int, "012"),
        "file": io.StringIO("0\n1\n2\n"),
        "range": iter(range(3)),
    }
    for value in values.values():
        tool("t", capture=True)(lambda x: x)(value)
        assert len(list(value)) == 3


def test_properties_and_getattr_are_not_called() -> None:
    touched = []

    class Curious:
        @property
        def prop(self) -> None:
            touched.append("prop")

        def __getattr__(self, name: str) -> None:
            touched.append(name)

    assert jsonable(Curious()).endswith("Curious>")
    assert touched == []


def test_a_dict_that_another_thread_changes_does_not_cost_the_event() -> None:
    shared: dict[str, Any] = {str(n): n for n in range(60)}
    stop = threading.Event()

    def change() -> None:
        n = 0
        while not stop.is_set():
            shared[f"new {n % 50}"] = n
            shared.pop(f"new {(n + 7) % 50}", None)
            n += 1

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(200):
            tool("t", capture=("x",))(lambda x: None)(shared)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert len([event for event in all_events() if event.kind == "tool.ended"]) == 200


def test_an_int_is_shown_whatever_limit_the_program_has_set() -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)  # the smallest there may be
    try:
        assert jsonable(2**2000) == str(2**2000)
        assert jsonable(2**3000) == "<int of 3001 bits>"
    finally:
        sys.set_int_max_str_digits(limit)


# -- secrets


_SECRET = "sk-do-not-record-me"


def test_a_secret_in_the_arguments_is_found_nowhere() -> None:
    @tool
    def work(key: str) -> str:
        return key + key

    with agent_session("a") as run, run.step("x"):
        work(_SECRET)
        drained(tool("later")(_secret_later)(_SECRET))
    assert _SECRET.encode() not in b"\n".join(journal_lines())


async def _secret_later(key: str) -> str:
    return key


def test_the_traceback_has_neither_values_nor_source_lines() -> None:
    def work(key: str) -> None:
        secret = key  # noqa: F841  # a local that holds the secret
        raise ValueError("wrong key")  # sk-in-the-source-line

    try:
        work(_SECRET)
    except ValueError as error:
        shown = json.dumps(error_info(error))
    assert _SECRET not in shown
    assert "sk-in-the-source-line" not in shown
    assert "in work" in shown


def test_the_frames_of_a_deep_recursion_are_cut_to_the_innermost() -> None:
    def sink(n: int) -> None:
        if n == 0:
            raise ValueError
        sink(n - 1)

    try:
        sink(200)
    except ValueError as error:
        frames = error_info(error)["traceback"]
    assert len(frames) == 16
    assert all(frame.endswith("in sink") for frame in frames)


def test_the_name_of_a_strange_exception_class_is_made_safe() -> None:
    strange = type("Strange" * 1000, (Exception,), {"__module__": "\ud800"})
    shown = error_info(strange("text"))
    json.dumps(shown, ensure_ascii=False).encode("utf-8")
    assert len(shown["type"]) <= 256
