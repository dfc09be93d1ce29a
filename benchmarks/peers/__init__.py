"""The peers: one small module each, which sets one up the way its documentation does.

A peer's module has ``start(directory, variant)``, which gives a :class:`Peer`, and may have
``recorded(directory)``, which says, in another process, how many calls the peer can still show.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["PEERS", "Peer", "PeerName", "Row", "add", "recorded", "start"]


class PeerName(NamedTuple):
    """A peer: the environment it runs in, its module here, which of the module's ways is meant, and its package."""

    environment: str
    module: str
    variant: str
    label: str
    package: str = ""


_OURS, _OTEL = "pyjama-instrument", "opentelemetry-sdk"

PEERS: dict[str, PeerName] = {
    "pyjama": PeerName("pyjama", "pyjama", "", "pyjama_instrument", _OURS),
    "disabled": PeerName("pyjama", "pyjama", "disabled", "pyjama_instrument, PYJAMA_DISABLED=1", _OURS),
    "floor": PeerName("pyjama", "floor", "", "floor: closure, ContextVar, two clocks, one write"),
    "prometheus": PeerName("prometheus", "prometheus", "", "prometheus_client, multiprocess", "prometheus-client"),
    "logging": PeerName("pyjama", "stdlib_logging", "", "logging to a file"),
    "structlog": PeerName("structlog", "structlog_file", "", "structlog to a file", "structlog"),
    "sqlite": PeerName("pyjama", "sqlite_wal", "", "SQLite insert, WAL"),
    "otel-noop": PeerName("opentelemetry", "otel", "noop", "OpenTelemetry, batch, no-op exporter", _OTEL),
    "otel-batch": PeerName("opentelemetry", "otel", "batch", "OpenTelemetry, batch to a JSON file", _OTEL),
    "otel-simple": PeerName("opentelemetry", "otel", "simple", "OpenTelemetry, simple to a JSON file", _OTEL),
    "logfire": PeerName("logfire", "logfire_sdk", "noop", "Logfire, nothing sent", "logfire"),
    "logfire-file": PeerName("logfire", "logfire_sdk", "batch", "Logfire, batch to a JSON file", "logfire"),
    "langfuse": PeerName("langfuse", "langfuse_sdk", "noop", "Langfuse @observe, nothing sent", "langfuse"),
    "langfuse-file": PeerName(
        "langfuse", "langfuse_sdk", "batch", "Langfuse @observe, batch to a JSON file", "langfuse"
    ),
    "mlflow": PeerName("mlflow", "mlflow_sdk", "", "MLflow @trace, SQLite store", "mlflow"),
    "original": PeerName("pyjama", "original", "", "the original's way: lock, parse, dump, replace"),
}


def add(a: int, b: int) -> int:
    """The function that is decorated everywhere."""
    return a + b


@dataclass
class Row:
    """One way to call one function, decorated and bare.

    ``style`` says how it is called in a loop: ``call``, ``await``, ``iterate`` or ``slow`` (a function that takes
    a millisecond). ``around`` is entered before a batch of calls.
    """

    name: str
    function: Callable[..., Any]
    bare: Callable[..., Any] = add
    style: str = "call"
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass
class Peer:
    """A peer at work in this process.

    ``drain`` returns when all calls are where they belong. ``renew`` begins a new file where a growing one would weigh
    on the next turn.
    """

    rows: list[Row]
    drain: Callable[[], Any] = lambda: None
    renew: Callable[[], Any] = lambda: None


def start(name: str, directory: Path) -> Peer:
    """Set the peer up in this process; it keeps its files in ``directory``."""
    peer = PEERS[name]
    started: Peer = _module(peer).start(directory, peer.variant)
    return started


def recorded(name: str, directory: Path) -> int | None:
    """How many calls the peer can show from what is in ``directory``; None if it keeps nothing there."""
    count = getattr(_module(PEERS[name]), "recorded", None)
    found: int | None = count(directory) if count else None
    return found


def _module(peer: PeerName) -> Any:
    return importlib.import_module(f"benchmarks.peers.{peer.module}")
