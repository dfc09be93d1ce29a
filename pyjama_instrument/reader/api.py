"""The functions of the read side, for programs that read once."""

from __future__ import annotations

import os
from typing import Any

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.reader.reader import Reader

__all__ = ["get_dashboard_data", "load_session", "read_metrics"]


def get_dashboard_data(home: str | os.PathLike[str] | None = None) -> DashboardData:
    """The data of the dashboard as of now: agents, sessions, metrics, activity log. See :class:`DashboardData`.

    If you call it repeatedly, keep a :class:`Reader` instead.

    Raises:
        ConfigError: ``home`` cannot be a path.
        StoreUnavailable: no setting names the store, and there is no home directory.
    """
    return Reader(home).dashboard()


def read_metrics(home: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The content of ``metrics.json`` with the new events of the journals, folded in memory.

    Raises:
        ConfigError: ``home`` cannot be a path.
        SchemaTooNew: the store was written by a newer version of this package.
        StoreUnavailable: no setting names the store, and there is no home directory.
    """
    return Reader(home).metrics()


def load_session(session_id: str, home: str | os.PathLike[str] | None = None) -> SessionTree:
    """The tree of spans of one session.

    Raises:
        ConfigError: an argument has the wrong type.
        SessionNotFound: no such session is known.
        SchemaTooNew: the store was written by a newer version of this package.
        StoreUnavailable: no setting names the store, and there is no home directory.
    """
    return Reader(home).session(session_id)
