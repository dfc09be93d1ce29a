"""Logfire: its decorator, with nothing sent anywhere and no console."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.peers import Peer, Row, add
from benchmarks.peers._lines import recorded

__all__ = ["recorded", "start"]


def start(directory: Path, variant: str) -> Peer:
    """``batch`` adds a batch processor to a file, in the place of the one that would send to its server."""
    from benchmarks.children._serve import only_loopback

    only_loopback()
    os.environ["LOGFIRE_SEND_TO_LOGFIRE"] = "false"
    import logfire
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from benchmarks.peers._spans import to_file

    processors = [BatchSpanProcessor(to_file(directory))] if variant == "batch" else []
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        additional_span_processors=processors,
        config_dir=directory,
        data_dir=directory,
    )
    return Peer([Row("sync", logfire.instrument("add", extract_args=False)(add))], logfire.force_flush)
