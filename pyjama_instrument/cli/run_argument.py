"""The argument RUN: finds the run by its id, the beginning of its id, the name of its agent, or ``latest``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from pyjama_instrument.errors import ConfigError, SessionNotFound
from pyjama_instrument.presentation.formatting import join_names, printable

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData, SessionSummary

__all__ = ["LATEST", "find_run"]

LATEST = "latest"
_ID = re.compile(r"[0-9a-f]{32}")
_BEGINNING = re.compile(r"[0-9a-f]{4,31}")
_MOST_NAMED = 5


class _Reader(Protocol):
    def dashboard(self) -> DashboardData: ...

    def sessions_beginning(self, beginning: str, /) -> list[str]: ...


def find_run(reader: _Reader, text: str | None) -> str:
    """The id of the run that ``text`` names, or of the latest run if there is no text.

    For an agent's name, it is the run that is shown for the agent. The latest run is never a child run if its parent
    is listed. A whole id is returned as it is, known or not. The beginning of an id is also looked up in the history
    if it has at least four digits.

    Raises:
        ConfigError: several runs begin with that.
        SessionNotFound: no run does.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    data, text = reader.dashboard(), LATEST if text is None else text
    if text in data.sessions or _ID.fullmatch(text):
        return text
    if text in data.agents and (run := data.agents[text].session) is not None:
        return run
    if text == LATEST and data.sessions:
        return _latest(data)
    found = [key for key in data.sessions if text and key.startswith(text.lower())]
    if not found and _BEGINNING.fullmatch(text.lower()):
        found = reader.sessions_beginning(text.lower())
    if len(found) > 1:
        ids = join_names([key[:12] for key in found], _MOST_NAMED)
        raise ConfigError(f"{len(found)} runs begin with {text}: {ids}. Give more digits of the id")
    if found:
        return found[0]
    raise SessionNotFound(_why_not_found(data, text))


def _why_not_found(data: DashboardData, text: str) -> str:
    named = printable(text, 80)
    if text in data.agents:
        return f"agent {named} was recorded without runs, only with totals. To see them, run: pyjama status"
    if not data.agents:
        return "nothing is recorded yet. To see what it looks like, run: pyjama demo"
    return f"no agent or run matches '{named}'. To list the agents, run: pyjama status"


def _latest(data: DashboardData) -> str:
    sessions = data.sessions
    on_top = [key for key, session in sessions.items() if session.parent_session not in sessions]
    return max(on_top or sessions, key=lambda key: _recency(sessions[key]))


def _recency(session: SessionSummary) -> tuple[bool, int]:
    return session.status == "running", session.start_time or 0
