"""``pyjama export``: a session, or everything, for other tools."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from pyjama_instrument.cli._progress import Progress
from pyjama_instrument.cli._sessions import find_session
from pyjama_instrument.cli._terminal import safe
from pyjama_instrument.errors import ConfigError

__all__ = ["export"]


def export(options: argparse.Namespace) -> int:
    """Write the export to the file, or to standard output.

    Raises:
        ConfigError: the file cannot be written, or several sessions are meant.
        SessionNotFound: there is no such session.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.export import export as exported
    from pyjama_instrument.reader import Reader

    reader = Reader()
    session = None if options.all else find_session(reader, options.session)
    path = None if options.output in (None, "-") else options.output
    name = options.format or _format_of(path)
    with Progress(wanted=path is not None or not sys.stdout.isatty()) as progress:
        pieces = exported(reader, session, name, progress=progress.tell)
        size = _write(sys.stdout.buffer, pieces) if path is None else _write_file(path, pieces)
    if path is not None:
        print(f"Wrote {safe(path)}, {size:,} bytes", file=sys.stderr)
    return 0


def _format_of(path: str | None) -> str:
    """The format that a file's name asks for; JSON Lines if it has no ending.

    Raises:
        ConfigError: no format has this ending.
    """
    from pyjama_instrument.export import FORMATS

    name = os.path.basename(path or "").lower()
    for format_name, each in FORMATS.items():
        if name.endswith(each.ending):
            return format_name
    ending = os.path.splitext(name)[1]
    if not ending or (path and os.path.exists(path) and not os.path.isfile(path)):  # a named pipe asks for nothing
        return "jsonl"
    endings = ", ".join(each.ending for each in FORMATS.values())
    raise ConfigError(f"{path}: no format has the ending {ending}; use one of {endings}, or add --format")


def _write(stream: BinaryIO, pieces: Iterator[bytes]) -> int:
    size = 0
    for piece in pieces:
        stream.write(piece)
        size += len(piece)
    stream.flush()
    return size


def _write_file(path: str, pieces: Iterator[bytes]) -> int:
    """Write all of it, or leave what was there. Something that is no plain file is written to as it is."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # /dev/null, a named pipe
            with open(path, "wb") as stream:
                return _write(stream, pieces)
        path = os.path.realpath(path)  # through a symbolic link, as a shell would write
        folder, name = os.path.split(path)
        fd, unfinished = tempfile.mkstemp(prefix=f".{name[:100]}.", dir=folder)
        try:
            with open(fd, "wb") as stream:
                size = _write(stream, pieces)
            _let_others_read(unfinished)
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    return size


def _let_others_read(path: str) -> None:
    """The mode a new file has, instead of that of a temporary one."""
    mask = os.umask(0o077)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
