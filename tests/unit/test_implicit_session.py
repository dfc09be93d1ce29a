"""The run that calls belong to if the program starts none."""

from __future__ import annotations

from pyjama_instrument import agent_session
from pyjama_instrument.events import SessionStarted
from tests.unit import sample_tools
from tests.unit.recorded import (
    all_events,
    call,
    session,
)


def test_a_tool_called_outside_any_session_runs_in_the_implicit_one() -> None:
    found, _ = sample_tools.session_here()
    (implicit,) = [event for event in all_events() if isinstance(event, SessionStarted)]
    assert implicit.implicit
    assert found == call().session == implicit.session


def test_the_implicit_session_is_nobodys_parent() -> None:
    sample_tools.double(1)
    with agent_session("a"):
        pass
    assert session("a").parent_session is None
