"""What a fold or a reader keeps for its next run changes nothing of the outcome."""

from __future__ import annotations

import json
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyjama_instrument.document import AgentSummary, SessionSummary
from pyjama_instrument.reader import Reader
from pyjama_instrument.reader import reader as reader_module
from pyjama_instrument.reader.dashboard_data import _agent_fields, session_fields
from pyjama_instrument.storage import compaction
from pyjama_instrument.storage.compaction import compact
from pyjama_instrument.storage.store_directory import Store
from tests.stores import Writer, a_call, call_begins, fold, session_begins, session_ends, snapshot, step_begins

SESSIONS = [letter * 32 for letter in "abcd"]
AGENTS = ("ann", "bob")
TOOLS = ("read", "write", "__other__")

_sessions, _agents, _tools = st.sampled_from(SESSIONS), st.sampled_from(AGENTS), st.sampled_from(TOOLS)
_records = st.one_of(
    st.builds(a_call, _tools, _sessions, _agents),
    st.builds(lambda *names: a_call(*names, status="error", error={"type": "E", "message": "m"}), _tools, _sessions),
    st.builds(call_begins, _tools, _sessions, _agents),
    st.builds(session_begins, _sessions, _agents),
    st.builds(session_ends, _sessions, _agents),
    st.builds(lambda session, agent: step_begins("fetch", "5" * 16, session, agent), _sessions, _agents),
)
_acts = st.one_of(
    st.tuples(st.just("write"), st.lists(_records, min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["fold", "fold elsewhere", "look", "die"]), st.none()),
)


@pytest.fixture(autouse=True)
def every_look_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 0.0)


@settings(max_examples=60)
@given(st.lists(_acts, max_size=14))
def test_no_entry_that_is_kept_is_older_than_the_document(acts: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        store, reader = Store(home), Reader(home)
        writer = Writer(home)
        for act, records in [*acts, ("look", None), ("fold", None)]:
            if act == "write":
                writer.write(*records)
            elif act == "die":
                writer.die()
                writer = Writer(home)
            elif act == "fold":
                compact(store)
                if isinstance(store.kept, compaction._Kept):
                    assert snapshot(home) == json.loads(json.dumps(store.kept.document))
            elif act == "fold elsewhere":
                fold(home)
            else:
                assert_current(reader)
        writer.die()
        store.close()


def assert_current(reader: Reader) -> None:
    """What the reader shows is what its document says now."""
    shown = reader.dashboard()
    document = reader.metrics()
    for sid, session in document["sessions"].items():
        assert shown.sessions[sid] == SessionSummary.model_validate(session_fields(session))
    for name, agent in document["agents"].items():
        assert shown.agents[name] == AgentSummary.model_validate(_agent_fields(agent))
    assert (len(shown.sessions), len(shown.agents)) == (len(document["sessions"]), len(document["agents"]))
