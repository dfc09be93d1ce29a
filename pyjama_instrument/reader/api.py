"""The functions of the read side, for programs that read once."""

from __future__ import annotations

import os
from typing import Any

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.reader.reader import Reader

__all__ = ["get_dashboard_data", "load_session", "read_metrics"]


def get_dashboard_data(home: str | os.PathLike[str] | None = None) -> DashboardData:
    """What the dashboard shows now: agents, sessions, metrics, activity log. See :class:`DashboardData`.

    A program that asks repeatedly should keep a :class:`Reader`.

    Raises:
        ConfigError: ``home`` cannot be a path.
        StoreUnavailable: nothing says where the store is.
    """
    return Reader(home).dashboard()


def read_metrics(home: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The content of ``metrics.json``, brought up to date with the journals in memory.

    Raises:
        ConfigError: ``home`` cannot be a path.
        SchemaTooNew: the store was written by a newer version of this package.
        StoreUnavailable: nothing says where the store is.
    """
    return Reader(home).metrics()


def load_session(session_id: str, home: str | os.PathLike[str] | None = None) -> SessionTree:
    """The tree of spans of one session.

    Raises:
        ConfigError: an argument has the wrong type.
        SessionNotFound: no such session is known.
        SchemaTooNew: the store was written by a newer version of this package.
        StoreUnavailable: nothing says where the store is.
    """
    return Reader(home).session(session_id)
