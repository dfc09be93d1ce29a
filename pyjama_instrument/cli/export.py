"""``pyjama export``: writes a run, or everything, for other tools."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from pyjama_instrument.cli.home import nothing_is_recorded
from pyjama_instrument.cli.progress_bar import ProgressBar
from pyjama_instrument.cli.run_argument import find_run
from pyjama_instrument.cli.summary import NOTHING_RECORDED
from pyjama_instrument.cli.terminal import print_note
from pyjama_instrument.errors import ConfigError

__all__ = ["export"]


def export(options: argparse.Namespace) -> int:
    """Write the export to the file, or to standard output.

    Raises:
        ConfigError: the file cannot be written, its ending is unknown, or several runs match.
        SessionNotFound: no run matches.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.export import export as exported
    from pyjama_instrument.reader import Reader

    if options.all and nothing_is_recorded():
        print_note(NOTHING_RECORDED)
    reader = Reader()
    run = None if options.all else find_run(reader, options.run)
    path = None if options.output in (None, "-") else options.output
    name = options.format or _format_of(path)
    with ProgressBar(wanted=path is not None or not sys.stdout.isatty()) as progress:
        chunks = exported(reader, run, name, progress=progress.update)
        size = _write(sys.stdout.buffer, chunks) if path is None else _write_file(path, chunks)
    if path is not None:
        print_note(f"Wrote {path}, {size:,} bytes")
    return 0


def _format_of(path: str | None) -> str:
    """The format that belongs to the ending of a file's name; JSON Lines if it has no ending.

    Raises:
        ConfigError: no format has this ending.
    """
    from pyjama_instrument.export import FORMATS

    name = os.path.basename(path or "").lower()
    for format_name, each in FORMATS.items():
        if name.endswith(each.ending):
            return format_name
    ending = os.path.splitext(name)[1]
    if not ending or (path and os.path.exists(path) and not os.path.isfile(path)):  # a named pipe or a device
        return "jsonl"
    endings = ", ".join(each.ending for each in FORMATS.values())
    raise ConfigError(f"{path}: no format has the ending {ending}. Use one of {endings}, or add --format")


def _write(stream: BinaryIO, chunks: Iterator[bytes]) -> int:
    size = 0
    for chunk in chunks:
        stream.write(chunk)
        size += len(chunk)
    stream.flush()
    return size


def _write_file(path: str, chunks: Iterator[bytes]) -> int:
    """Replace the file if all is written; otherwise leave it as it was. A pipe or a device is written to directly."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # /dev/null, a named pipe
            with open(path, "wb") as stream:
                return _write(stream, chunks)
        path = os.path.realpath(path)  # follow a symbolic link, as a shell does
        folder, name = os.path.split(path)
        fd, unfinished = tempfile.mkstemp(prefix=f".{name[:100]}.", dir=folder)
        try:
            with open(fd, "wb") as stream:
                size = _write(stream, chunks)
            _set_usual_mode(unfinished)
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    return size


def _set_usual_mode(path: str) -> None:
    """Give a temporary file the mode that a new file has."""
    mask = os.umask(0o077)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
