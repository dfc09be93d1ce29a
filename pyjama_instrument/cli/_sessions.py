"""Which session is meant: its id, the beginning of one, an agent's name, or ``latest``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from pyjama_instrument.errors import ConfigError, SessionNotFound
from pyjama_instrument.presentation.formatting import printable

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData, SessionSummary

__all__ = ["LATEST", "find_session"]

LATEST = "latest"
_ID = re.compile(r"[0-9a-f]{32}")
_BEGINNING = re.compile(r"[0-9a-f]{4,31}")
_MOST_NAMED = 5


class _Reader(Protocol):
    def dashboard(self) -> DashboardData: ...

    def sessions_beginning(self, beginning: str, /) -> list[str]: ...


def find_session(reader: _Reader, said: str | None) -> str:
    """The id of the session that is meant, ``latest`` if none is; for an agent's name, the one shown for the agent.

    A session inside another is never the latest of all: it is shown with the one it is in. A whole id is taken as it
    is, known or not. The beginning of one is looked for in the history too, if it has four digits or more.

    Raises:
        ConfigError: several sessions begin with that.
        SessionNotFound: there is none.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    data, said = reader.dashboard(), LATEST if said is None else said
    if said in data.sessions or _ID.fullmatch(said):
        return said
    if said in data.agents and (session := data.agents[said].session) is not None:
        return session
    if said == LATEST and data.sessions:
        return _latest(data)
    beginning = [key for key in data.sessions if said and key.startswith(said.lower())]
    if not beginning and _BEGINNING.fullmatch(said.lower()):
        beginning = reader.sessions_beginning(said.lower())
    if len(beginning) > 1:
        raise ConfigError(f"{len(beginning)} runs begin with {said}: {_listed(beginning)}; give more of the id")
    if beginning:
        return beginning[0]
    if said in data.agents:
        raise SessionNotFound(f"agent {printable(said, 80)} was recorded without runs; only its totals are known")
    if not data.agents:
        raise SessionNotFound("nothing is recorded yet; see what it looks like with  pyjama demo")
    raise SessionNotFound(f"no agent or run matches {printable(said, 80)}: list the agents with  pyjama status")


def _latest(data: DashboardData) -> str:
    sessions = data.sessions
    on_top = [key for key, session in sessions.items() if session.parent_session not in sessions]
    return max(on_top or sessions, key=lambda key: _recency(sessions[key]))


def _recency(session: SessionSummary) -> tuple[bool, int]:
    return session.status == "running", session.start_time or 0


def _listed(keys: list[str]) -> str:
    shown = ", ".join(key[:12] for key in keys[:_MOST_NAMED])
    return shown if len(keys) <= _MOST_NAMED else f"{shown}, …"
