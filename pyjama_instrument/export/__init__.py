"""The store in other tools' formats: JSON Lines, CSV, a trace for Perfetto, a page to mail.

Reads and never writes: the caller does what it likes with the bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyjama_instrument.errors import ConfigError
from pyjama_instrument.export._flat import write_csv, write_jsonl
from pyjama_instrument.export._lines import Progress, read_lines
from pyjama_instrument.export._material import Material, family
from pyjama_instrument.export._page import write_page
from pyjama_instrument.export._trace import write_trace
from pyjama_instrument.reader import Reader

__all__ = ["FORMATS", "Format", "Progress", "export", "file_name"]


class Format(NamedTuple):
    """One format: the media type to serve it with, the ending of its files, and what it is for."""

    media_type: str
    ending: str
    summary: str


FORMATS = {
    "jsonl": Format("application/jsonl", ".jsonl", "each event as it was recorded, one JSON object a line"),
    "csv": Format("text/csv; charset=utf-8", ".csv", "one event a row, for spreadsheets and data frames"),
    "chrome-trace": Format("application/json", ".trace.json", "a time line for ui.perfetto.dev and chrome://tracing"),
    "html": Format("text/html; charset=utf-8", ".html", "one page with everything in it, to mail and to keep"),
}
"""The formats by name."""

_BATCH_BYTES = 64 * 1024

_WRITERS: dict[str, Callable[[Material], Iterator[bytes]]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "chrome-trace": write_trace,
    "html": write_page,
}


def export(
    source: Reader | str | os.PathLike[str] | None = None,
    session_id: str | None = None,
    format: str = "jsonl",  # noqa: A002  # it is what users call it
    *,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """One session with the sessions inside it, or the whole store, in one of the ``FORMATS``.

    Errors are raised here and not while the bytes are taken. ``jsonl`` and ``csv`` need little memory, however large
    the store; the others show the latest sessions up to a bound, and say what is left out.

    Args:
        source: a reader, or the store's directory; by default the one in force. It need not exist.
        session_id: the session; None for everything.
        format: a name in ``FORMATS``.
        progress: called with the bytes read so far and the bytes there are to read.

    Raises:
        ConfigError: there is no such format, or an argument has the wrong type.
        SessionNotFound: no such session is known.
        SchemaTooNew: the store was written by a newer version of this package.
        StoreUnavailable: nothing says where the store is.
    """
    if format not in FORMATS:
        raise ConfigError(f"no such format: {format!r:.40}; there are {', '.join(FORMATS)}")
    if session_id is not None and not isinstance(session_id, str):
        raise ConfigError(f"a session id is a string, not {type(session_id).__name__}")
    reader = source if isinstance(source, Reader) else Reader(source)
    reader.metrics()  # raises for a store that is too new, of which the dashboard's data would show nothing
    data = reader.dashboard()
    wanted = None
    if session_id is not None:
        tree = reader.session(session_id)
        data = data.model_copy(update={"sessions": data.sessions | tree.relatives | {session_id: tree.session}})
        wanted = family(session_id, data)
    lines = read_lines(reader.home, wanted, progress)
    return _batched(_WRITERS[format](Material(data, lines, session_id, reader.sessions)))


def file_name(format: str, session_id: str | None = None, agent: str | None = None) -> str:  # noqa: A002
    """A name for a file with an export of that format, safe on every file system: ``pyjama-crawler-5e551011.csv``.

    Raises:
        ConfigError: there is no such format.
    """
    if format not in FORMATS:
        raise ConfigError(f"no such format: {format!r:.40}; there are {', '.join(FORMATS)}")
    parts = ["pyjama", re.sub(r"[^A-Za-z0-9]+", "-", (agent or "")[:60]).strip("-")]
    parts.append(re.sub(r"[^A-Za-z0-9]", "", session_id)[:8] if session_id is not None else "")
    return "-".join(filter(None, parts)) + FORMATS[format].ending


def _batched(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of a size that is worth a write of its own."""
    batch = bytearray()
    for piece in pieces:
        batch += piece
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)
