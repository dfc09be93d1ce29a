"""Any bytes in the place of a journal or of the document: reading ends, the rest is served, and nothing is raised.

Bytes are made by Hypothesis, most of them by damaging sound files. ``tests/corpus`` keeps files that were bad once or
are bad in a way of their own: each is tried in every run. With ``PYJAMA_STRESS=1`` many more are made, and one that
raises is written there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyjama_instrument.reader import Reader
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.storage.layout import SegmentName
from tests.scale import STRESS, full
from tests.stores import (
    SESSION,
    a_call,
    call_begins,
    dead_journal,
    fold,
    header,
    session_begins,
    session_ends,
    snapshot,
    step_begins,
    step_ends,
)

_CORPUS = Path(__file__).parents[1] / "corpus"
_NAME = SegmentName("00000000000000aa", 1)

_RECORDS = [
    session_begins(tags={"k": 1}, spec={"s": [1]}),
    step_begins("x", "00000000000000b1"),
    call_begins(),
    a_call(error={"type": "ValueError", "message": "m"}, status="error"),
    a_call(arguments={"a": [1, {"b": None}]}, items=3, first_item_ns=5),
    step_ends("x", "00000000000000b1"),
    {
        "kind": "annotated",
        "ts": 1_700_000_000_000_000,
        "agent": "a",
        "session": SESSION,
        "span": "0" * 16,
        "attributes": {},
    },
    {"kind": "workflow.declared", "ts": 1_700_000_000_000_000, "agent": "a", "session": SESSION, "steps": ["x"]},
    {"kind": "writer.dropped", "ts": 1_700_000_000_000_000, "count": 3, "reason": "ENOSPC"},
    {"kind": "activity", "ts": 1_700_000_000_000_000, "agent": "a", "session": SESSION, "status": "ok"},
    session_ends(),
]
_SOUND_JOURNAL = header(_NAME) + b"".join(map(encode, _RECORDS))


def _sound_document() -> bytes:
    with TemporaryDirectory() as home:
        dead_journal(home, *_RECORDS)
        fold(home)
        return Path(home, "metrics.json").read_bytes()


_SOUND_DOCUMENT = _sound_document()

_JUNK: list[bytes] = [
    b"\n", b"\0", b"{}", b"[]", b"null", b"NaN", b"1e999", b'"', b"\\", b"{", b"}", b"[" * 3000, b"\xff",
    b"\xed\xa0\x80", b"-1", b"9" * 5000, b'{"kind":"tool.ended"}\n', b'"__proto__"', b'""', b"true", b"-0.0", b"1.5",
]  # fmt: skip


@st.composite
def _damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 60)))
        data[at:end] = draw(st.sampled_from(_JUNK) | st.binary(max_size=12))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 3)) == 0 else data)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({})


@st.composite
def _with_wrong_types(draw: st.DrawFn, record: Any) -> Any:
    """The JSON value with one of its parts, at any depth, replaced by something else."""
    if not isinstance(record, dict) or not record or draw(st.integers(0, 3)) == 0:
        return draw(_SCALARS)
    key = draw(st.sampled_from(sorted(record)))
    return record | {key: draw(_with_wrong_types(record[key]))}


def _document_bytes(document: Any) -> bytes:
    return json.dumps(document).encode()


_JOURNALS = (
    _damaged(_SOUND_JOURNAL)
    | st.binary(max_size=300)
    | st.sampled_from(_RECORDS).flatmap(_with_wrong_types).map(lambda record: json.dumps(record).encode() + b"\n")
)
_DOCUMENTS = (
    _damaged(_SOUND_DOCUMENT)
    | st.binary(max_size=300)
    | _with_wrong_types(json.loads(_SOUND_DOCUMENT)).map(_document_bytes)
)


def _everything_is_served(home: str | Path) -> None:
    reader = Reader(home)
    for _ in range(2):
        data = reader.dashboard()
        json.dumps(data.to_dict(), allow_nan=False)
        for session in list(data.sessions)[:3]:
            reader.session(session)
        reader.tail(50)
        fold(home)
    after = snapshot(home)
    json.dumps(after, allow_nan=False)
    assert Reader(home).metrics()["global"] == after["global"]


def _journal_is_survived(data: bytes) -> None:
    with TemporaryDirectory() as home:
        dead_journal(home, a_call("sound"))
        Path(home, "journal", _NAME.filename).write_bytes(data)
        _everything_is_served(home)
        assert snapshot(home)["tools"]["sound"]["count"] == 1


def _document_is_survived(data: bytes) -> None:
    with TemporaryDirectory() as home:
        dead_journal(home, a_call("sound"))
        Path(home, "metrics.json").write_bytes(data)
        if b'"schema"' in data and _is_newer(data):
            return  # left alone: that is tested elsewhere
        _everything_is_served(home)


def _is_newer(data: bytes) -> bool:
    try:
        schema = json.loads(data).get("schema")
    except (ValueError, AttributeError, RecursionError):
        return False
    return type(schema) is int and schema > 1


def _kept(kind: str, survived: Any, data: bytes) -> None:
    try:
        survived(data)
    except Exception:
        if STRESS:
            (_CORPUS / kind / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        raise


@settings(max_examples=full(20_000, 150))
@given(_JOURNALS)
def test_any_bytes_in_a_journal_are_survived(data: bytes) -> None:
    _kept("journal", _journal_is_survived, data)


@settings(max_examples=full(20_000, 150))
@given(_DOCUMENTS)
def test_any_bytes_in_the_document_are_survived(data: bytes) -> None:
    _kept("document", _document_is_survived, data)


@pytest.mark.parametrize("file", sorted((_CORPUS / "journal").iterdir()), ids=lambda file: file.name)
def test_a_journal_of_the_corpus_is_survived(file: Path) -> None:
    _journal_is_survived(file.read_bytes())


@pytest.mark.parametrize("file", sorted((_CORPUS / "document").iterdir()), ids=lambda file: file.name)
def test_a_document_of_the_corpus_is_survived(file: Path) -> None:
    _document_is_survived(file.read_bytes())
