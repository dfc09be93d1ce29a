"""MLflow: its decorator, with a local SQLite store."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from benchmarks.peers import Peer, Row, add

__all__ = ["recorded", "start"]

_FILE = "mlflow.db"


def start(directory: Path, variant: str) -> Peer:
    """The default settings of tracing, telemetry switched off."""
    from benchmarks.children._serve import only_loopback

    only_loopback()
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    import mlflow

    os.chdir(directory)
    mlflow.set_tracking_uri(f"sqlite:///{directory / _FILE}")
    mlflow.set_experiment("benchmark")
    return Peer([Row("sync", mlflow.trace(add))], mlflow.flush_trace_async_logging)


def recorded(directory: Path) -> int:
    """The traces in the database."""
    (rows,) = sqlite3.connect(directory / _FILE).execute("SELECT count(*) FROM trace_info").fetchone()
    return int(rows)
