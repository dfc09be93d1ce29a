"""Memory: what recording adds to a process at rest and as calls go on, and bytes on disk for each call."""

from __future__ import annotations

from benchmarks._bench import Bench
from benchmarks._child import ChildFailed
from benchmarks._environments import NotInstalled
from benchmarks._figures import amount
from benchmarks._results import Result, Table
from benchmarks.peers import PEERS

__all__ = ["run"]

_PEERS = [
    "pyjama", "prometheus", "logging", "structlog", "sqlite", "otel-noop", "otel-batch", "otel-simple", "logfire",
    "langfuse", "mlflow", "original",
]  # fmt: skip
_MIB = 2**20


def run(bench: Bench) -> Result:
    """Ourselves over a million calls, then everybody over as many as fit in a few seconds."""
    result = Result()
    _million(bench, result)
    _everybody(bench, result)
    return result


def _million(bench: Bench, result: Result) -> None:
    steps = bench.size([10_000, 90_000, 400_000, 500_000], [10_000, 90_000], [100, 900])
    table = Table(
        "Resident memory of a process that calls, everything folded at each line",
        ["calls", "MiB over the interpreter", "added since the line before, MiB"],
    )
    with bench.directory() as directory, bench.child("pyjama", "rows", directory, "pyjama") as child:
        found = child.ask("resident", calls=0)
        start, last, total, at_first = found["start"], found["after"], 0, 0.0
        table.rows.append(["imported, decorated, one call", _mib(last - start), ""])
        for calls in steps:
            bench.say(f"memory: {calls:,} more calls")
            after = child.ask("resident", calls=calls)["after"]
            total += calls
            table.rows.append([amount(total), _mib(after - start), _mib(after - last)])
            at_first, last = at_first or after, after
        bytes_each = (child.ask("files")) / total
    table.notes.append(f"On disk: {bytes_each:.0f} bytes a call, journal, history and snapshot together.")
    result.tables.append(table)
    result.figures["memory: grown, MiB"] = (last - at_first) / _MIB
    result.raw["bytes on disk a call"] = bytes_each


def _everybody(bench: Bench, result: Result) -> None:
    table = Table(
        "Resident memory of everybody",
        ["", "MiB over the interpreter, at rest", "calls made then", "added by them, MiB"],
        notes=["At rest: imported, set up, and called 100 times."],
    )
    for peer in bench.size(_PEERS, _PEERS, ["pyjama", "logging"]):
        bench.say(f"memory: {peer}")
        try:
            with (
                bench.directory() as directory,
                bench.child(PEERS[peer].environment, "rows", directory, peer) as child,
            ):
                rest = child.ask("resident", calls=100)
                calls = bench.size(100_000, 20_000, 100)
                each_ns = max(1.0, rest["ns"] / 100)
                calls = int(max(100, min(calls, bench.size(1e10, 2e9, 1e8) / each_ns)))
                more = child.ask("resident", calls=calls)
        except (NotInstalled, ChildFailed) as error:
            table.rows.append([PEERS[peer].label, str(error), "", ""])
            continue
        at_rest, added = rest["after"] - rest["start"], more["after"] - more["before"]
        table.rows.append([PEERS[peer].label, _mib(at_rest), amount(calls), _mib(added)])
    result.tables.append(table)


def _mib(size: float) -> str:
    return f"{size / _MIB:.1f}"
