"""Exports of one run or of the whole store: JSON Lines, CSV, a Perfetto trace, an HTML report.

An export only reads, and returns bytes: the caller writes them to a file or sends them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyjama_instrument.document import descendants
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.export.chrome_trace import write_trace
from pyjama_instrument.export.csv_and_jsonl import write_csv, write_jsonl
from pyjama_instrument.export.export_data import ExportData
from pyjama_instrument.export.html_report import write_html
from pyjama_instrument.export.journal_lines import Progress, read_lines
from pyjama_instrument.reader import Reader

__all__ = ["FORMATS", "Format", "Progress", "export", "file_name"]


class Format(NamedTuple):
    """A format: its media type, the ending of its file names, and a summary."""

    media_type: str
    ending: str
    summary: str


FORMATS = {
    "jsonl": Format("application/jsonl", ".jsonl", "each event as it was recorded, one JSON object a line"),
    "csv": Format("text/csv; charset=utf-8", ".csv", "one event a row, for spreadsheets and data frames"),
    "chrome-trace": Format("application/json", ".trace.json", "a trace for ui.perfetto.dev and chrome://tracing"),
    "html": Format("text/html; charset=utf-8", ".html", "a report in a single HTML file, without scripts"),
}
"""The formats by name."""

_BATCH_BYTES = 64 * 1024

_WRITERS: dict[str, Callable[[ExportData], Iterator[bytes]]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "chrome-trace": write_trace,
    "html": write_html,
}


def export(
    source: Reader | str | os.PathLike[str] | None = None,
    session_id: str | None = None,
    format: str = "jsonl",  # noqa: A002  # the name that the command line uses
    *,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """One run with its child runs, or the whole store, in one of the ``FORMATS``.

    Errors are raised by this call, not while you iterate. ``jsonl`` and ``csv`` need little memory, even for a large
    store. The other formats contain the latest runs up to a limit, and state how many are left out.

    Args:
        source: a reader, or the store's directory, which need not exist; by default the store of this process.
        session_id: the run's id; None for the whole store.
        format: a name in ``FORMATS``.
        progress: called with the bytes read so far and the total.

    Raises:
        ConfigError: the format is unknown, or an argument has the wrong type.
        SessionNotFound: no run has this id.
        SchemaTooNew: the store was written by a newer version of this package.
        StoreUnavailable: the store's directory is not known.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r:.40}: use one of {', '.join(FORMATS)}")
    if session_id is not None and not isinstance(session_id, str):
        raise ConfigError(f"a session id is a string, not {type(session_id).__name__}")
    reader = source if isinstance(source, Reader) else Reader(source)
    reader.metrics()  # raises if the store is too new; dashboard() would return empty data instead
    data = reader.dashboard()
    wanted = None
    if session_id is not None:
        tree = reader.session(session_id)
        data = data.model_copy(update={"sessions": data.sessions | tree.relatives | {session_id: tree.session}})
        wanted = frozenset({session_id, *descendants(session_id, data.sessions)})
    lines = read_lines(reader.home, wanted, progress)
    return _batched(_WRITERS[format](ExportData(data, lines, session_id, reader.sessions)))


def file_name(format: str, session_id: str | None = None, agent: str | None = None) -> str:  # noqa: A002
    """A file name for an export, valid on every file system, such as ``pyjama-crawler-5e551011.csv``.

    Raises:
        ConfigError: the format is unknown.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r:.40}: use one of {', '.join(FORMATS)}")
    parts = ["pyjama", re.sub(r"[^A-Za-z0-9]+", "-", (agent or "")[:60]).strip("-")]
    parts.append(re.sub(r"[^A-Za-z0-9]", "", session_id)[:8] if session_id is not None else "")
    return "-".join(filter(None, parts)) + FORMATS[format].ending


def _batched(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger chunks, so that they need fewer writes."""
    batch = bytearray()
    for chunk in chunks:
        batch += chunk
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)
