"""What is written by hand says the same as the models, and whatever is written can be read back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st

from pyjama_instrument import agent_session, testing, tool
from pyjama_instrument.config import check_name
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.events import Event, ToolEnded, ToolStarted, parse_event, parse_line, to_json
from pyjama_instrument.redaction.json_values import jsonable
from pyjama_instrument.storage import compaction
from pyjama_instrument.storage.decoding import decode_lines
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES, encode
from pyjama_instrument.testing import FakeClock, SequentialIds, isolated_store

# The flusher imports it when it first folds, and pytest rewrites it then: two threads may not parse at once in 3.11.
assert compaction

_us = st.integers(0, 2**53)


def _is_a_name(text: str) -> bool:
    try:
        check_name(text, "name")
    except ConfigError:
        return False
    return True


# Lone surrogates are among these texts: check_name replaces them.
_texts = st.text(st.characters(), min_size=1, max_size=60)
_names = _texts.filter(_is_a_name).map(lambda text: check_name(text, "name"))
_numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | _names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)
_python = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary()
    | st.integers(2000, 5000).map(lambda bits: 2**bits)
    | st.decimals()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.builds(object)
    | st.text(st.characters()).map(lambda text: [text] * 1000),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.floats() | st.none(), inner)
        | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _checked_line(line: bytes) -> Any:
    """The record of a line that keeps every promise about lines."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\0" not in line
    assert len(line) <= MAX_RECORD_BYTES
    text = line.decode("ascii")
    record = json.loads(text, parse_constant=_refuse)
    json.dumps(record, ensure_ascii=False).encode("utf-8")  # no lone surrogates
    return record


def _recorded(agent: str, calls: Callable[[FakeClock], None]) -> list[bytes]:
    """The journal lines of what ``calls`` does in a session of that agent, in a store of its own."""
    clock = FakeClock()
    with TemporaryDirectory() as home, isolated_store(home, clock=clock, ids=SequentialIds()):
        with agent_session(agent):
            calls(clock)
        (journal,) = Path(home, "journal").iterdir()
        return journal.read_bytes().splitlines(keepends=True)


def _of_kind(lines: list[bytes], kind: str) -> list[bytes]:
    return [line for line in lines if line.startswith(b'{"kind":"%s"' % kind.encode())]


@settings(max_examples=50)  # each makes a store
@given(agent=_names, name=_names, durations_us=st.lists(st.integers(0, 10**9), min_size=1, max_size=4))
def test_the_hand_written_lines_of_a_call_are_the_models_own_json(
    agent: str, name: str, durations_us: list[int]
) -> None:
    def calls(clock: FakeClock) -> None:
        work = tool(name)(clock.advance)
        for duration_us in durations_us:
            work(duration_us / 1e6)

    lines = _recorded(agent, calls)
    ended = _of_kind(lines, "tool.ended")
    for line, duration_us in zip(ended, durations_us, strict=True):
        event = parse_line(line)
        assert isinstance(event, ToolEnded)
        assert _checked_line(line) == json.loads(to_json(event))
        assert (event.agent, event.tool, event.status) == (agent, name, "ok")
        assert event.duration_ns == duration_us * 1000
        again = ToolEnded(**{key: getattr(event, key) for key in event.model_fields_set})
        assert json.loads(line) == json.loads(to_json(again))
    started = _of_kind(lines, "tool.started")
    assert started
    for line in started:
        event = parse_line(line)
        assert isinstance(event, ToolStarted)
        assert _checked_line(line) == json.loads(to_json(event))
        assert (event.agent, event.tool) == (agent, name)


@settings(max_examples=50)  # each makes a store
@given(agent=_names, name=_names, message=st.text(st.characters(), max_size=50), argument=_python, fails=st.booleans())
def test_every_line_of_a_call_is_the_models_own_json(
    agent: str, name: str, message: str, argument: Any, fails: bool
) -> None:
    def work(value: Any) -> Iterator[Any]:
        yield value
        if fails:
            raise ValueError(message)

    def calls(clock: FakeClock) -> None:
        with contextlib.suppress(ValueError):
            list(tool(name, capture=True)(work)(argument))

    lines = _recorded(agent, calls)
    for line in lines:
        assert _checked_line(line) == json.loads(to_json(parse_line(line)))
    (event,) = map(parse_line, _of_kind(lines, "tool.ended"))
    assert isinstance(event, ToolEnded)
    assert (event.items, event.status) == (1, "error" if fails else "ok")
    assert event.arguments == {"value": jsonable({"value": argument})["value"]}


@given(testing.events())
def test_any_event_survives_its_line(event: Event) -> None:
    line = encode(event.model_dump(mode="json", exclude_none=True))
    _checked_line(line)
    assert parse_line(line) == event
    assert parse_event(decode_lines([line.rstrip(b"\n")])[0][0]) == event


@given(testing.events())
def test_a_line_is_the_events_own_json(event: Event) -> None:
    line = encode(event.model_dump(mode="json", exclude_none=True))
    assert json.loads(line) == json.loads(to_json(event))


@given(testing.events(), st.dictionaries(_names.map("new {}".format), _json, min_size=1, max_size=3))
def test_fields_that_this_version_does_not_know_survive(event: Event, unknown: dict[str, Any]) -> None:
    record = event.model_dump(mode="json", exclude_none=True) | unknown
    again = parse_line(encode(record))
    assert type(again) is type(event)
    assert again.model_extra == unknown
    assert {key: value for key, value in again.model_dump(mode="json").items() if key in unknown} == unknown


@given(_names.map("new.{}".format), _us, st.dictionaries(_names.map("new {}".format), _json, max_size=3))
def test_kinds_that_this_version_does_not_know_survive(kind: str, ts: int, fields: dict[str, Any]) -> None:
    record = {"kind": kind, "ts": ts} | fields
    event = parse_line(encode(record))
    assert event.model_dump(mode="json") == record


@given(st.lists(testing.events(), max_size=8))
def test_lines_are_read_back_one_by_one_as_all_at_once(events: list[Event]) -> None:
    lines = [encode(event.model_dump(mode="json", exclude_none=True)) for event in events]
    together = b"".join(lines).split(b"\n")
    records, damaged = decode_lines(together)
    assert damaged == 0
    assert [parse_event(record) for record in records] == events


@given(_python)
def test_any_python_value_becomes_bounded_strict_json(value: Any) -> None:
    shown = jsonable(value)
    text = json.dumps(shown, allow_nan=False)
    assert len(text) < MAX_RECORD_BYTES
    json.dumps(shown, ensure_ascii=False).encode("utf-8")
    assert json.loads(text) == shown
    assert jsonable(shown) == shown or "…" in json.dumps(shown, ensure_ascii=False)


@settings(max_examples=50)
@given(arguments=st.dictionaries(_names, _python, max_size=5), result=_python)
def test_a_call_with_any_values_stays_under_the_limit(arguments: dict[str, Any], result: Any) -> None:
    lines = _recorded("a" * 256, lambda _: tool("t" * 256, capture=True)(lambda **_: result)(**arguments))
    (line,) = _of_kind(lines, "tool.ended")
    record = _checked_line(line)
    assert "not recorded" not in json.dumps([record.get("arguments"), record.get("result")])


@given(st.text(st.characters(), min_size=1))
def test_a_name_is_kept_or_refused(text: str) -> None:
    if _is_a_name(text):
        assert check_name(text, "name") == "".join("?" if "\ud800" <= char <= "\udfff" else char for char in text)
    else:
        assert not text.strip() or len(text) > 256
