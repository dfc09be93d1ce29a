"""Journal lines: one record a line, safe for any reader, never over the limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.events import ToolEnded, ToolStarted, parse_line, to_json
from pyjama_instrument.recording.recorder import Recorder, recorder
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES, encode, tool_prefix
from pyjama_instrument.testing import events
from tests.stores import a_call

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
HUGE = "x" * 1_000_000


@given(events())
def test_a_line_is_printable_ascii_and_ends_with_its_only_newline(event: Any) -> None:
    line = encode(json.loads(to_json(event)))
    assert line.endswith(b"\n")
    assert line[:-1].isascii()
    assert line[:-1].decode().isprintable()


@given(events())
def test_any_event_comes_back_as_it_was(event: Any) -> None:
    line = encode(json.loads(to_json(event)))
    assert json.loads(to_json(parse_line(line))) == json.loads(to_json(event))


@given(NAMES, NAMES, st.integers(0, 2**53))
def test_a_call_encoded_by_hand_equals_the_model_s_own_json(agent: str, tool: str, ts: int) -> None:
    model = ToolStarted(agent=agent, session="a" * 32, tool=tool, ts=ts, parent="b" * 16, span="c" * 16)
    assert json.loads(_started_line(recorder, agent, tool, ts)) == json.loads(to_json(model))


@given(NAMES, NAMES)
def test_the_constant_part_of_a_line_says_what_the_model_says(agent: str, tool: str) -> None:
    prefix = tool_prefix("tool.ended", agent, "a" * 32, tool)
    model = ToolEnded(
        agent=agent, session="a" * 32, tool=tool, parent="b" * 16, span="c" * 16, ts=7, duration_ns=8, status="ok"
    )
    line = f'{prefix}"parent":"{"b" * 16}","span":"{"c" * 16}","ts":7,"duration_ns":8,"status":"ok"}}'
    assert json.loads(line) == json.loads(to_json(model))


def _started_line(by: Recorder, agent: str, tool: str, ts: int) -> bytes:
    from pyjama_instrument.recording.context import SessionState

    state = SessionState(id="a" * 32, agent=agent, span="d" * 16)
    return by.announcements.line(state, tool, "b" * 16, "c" * 16, ts)


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("arguments", {"a": HUGE}, {"…": "[1000023 bytes, not recorded]"}),
        ("result", HUGE, "[1000014 bytes, not recorded]"),
        ("attributes", {"a": HUGE}, {"…": "[1000024 bytes, not recorded]"}),
        ("tags", {"a": HUGE}, {"…": "[1000018 bytes, not recorded]"}),
        ("steps", [HUGE], []),
        ("error", {"type": "E", "message": HUGE}, {"type": "E", "message": "[1000036 bytes, not recorded]"}),
    ],
)
def test_a_value_beyond_the_limit_leaves_its_size_and_the_event(field: str, value: object, left: object) -> None:
    call = a_call()
    line = encode(call | {field: value})
    assert len(line) <= MAX_RECORD_BYTES
    assert json.loads(line) == call | {field: left}


def test_only_as_many_values_go_as_must() -> None:
    line = encode(a_call(arguments={"a": "x" * 60_000}, result="y" * 30_000))
    assert json.loads(line)["result"] == "y" * 30_000


def test_the_caller_s_record_is_left_as_it_was() -> None:
    record = a_call(result=HUGE)
    encode(record)
    assert record["result"] == HUGE


def test_a_record_that_cannot_be_made_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activity.*size limit"):
        encode({"kind": "activity", "status": HUGE, "tags": {"a": HUGE}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"kind": "annotated", "attributes": {"a": value}})
