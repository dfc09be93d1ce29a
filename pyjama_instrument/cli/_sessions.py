"""Which session is meant: its id, the beginning of one, an agent's name, or ``latest``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyjama_instrument._wording import printable
from pyjama_instrument.errors import ConfigError, SessionNotFound

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData, SessionSummary

__all__ = ["LATEST", "find_session"]

LATEST = "latest"
_ID = re.compile(r"[0-9a-f]{32}")
_MOST_NAMED = 5


def find_session(data: DashboardData, said: str) -> str:
    """The id of the session that is meant; for an agent's name, its latest; for ``latest``, the latest of all.

    A session inside another is never the latest of all: it is shown with the one it is in.

    A whole id is taken as it is, known or not: the history may hold sessions that the totals have forgotten.

    Raises:
        ConfigError: several sessions begin with that.
        SessionNotFound: there is none.
    """
    sessions = data.sessions
    if said in sessions or _ID.fullmatch(said):
        return said
    if not sessions:
        raise SessionNotFound("nothing is recorded yet; see what it looks like with  pyjama demo")
    meant = [key for key, session in sessions.items() if said == session.agent_id]
    if not meant and said == LATEST:
        meant = [key for key, session in sessions.items() if session.parent_session not in sessions] or list(sessions)
    if meant:
        return max(meant, key=lambda key: _recency(sessions[key]))
    beginning = [key for key in sessions if said and key.startswith(said.lower())]
    if len(beginning) > 1:
        raise ConfigError(f"{len(beginning)} sessions begin with {said}: {_listed(beginning)}; say more of the one")
    if not beginning:
        raise SessionNotFound(f"no session and no agent {printable(said, 80)}: see what there is with  pyjama status")
    return beginning[0]


def _recency(session: SessionSummary) -> tuple[bool, int]:
    return session.status == "running", session.start_time or 0


def _listed(keys: list[str]) -> str:
    shown = ", ".join(key[:12] for key in keys[:_MOST_NAMED])
    return shown if len(keys) <= _MOST_NAMED else f"{shown}, …"
