"""The environment that makes a child process record into the run of its parent."""

from __future__ import annotations

import pytest

from pyjama_instrument import agent_session
from pyjama_instrument.errors import StoreUnavailable


def test_a_child_gets_its_environment_even_where_no_store_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise StoreUnavailable("no home")

    with agent_session("a") as run:
        monkeypatch.setattr("pyjama_instrument.recording.propagation.home_to_write", nowhere)
        env = run.env({})
    assert env.keys() == {"TRACEPARENT", "PYJAMA_PARENT", "PYJAMA_AGENT"}
