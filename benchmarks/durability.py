"""Durability: a process makes 1,000 calls and is killed at once; how many of them can still be shown?"""

from __future__ import annotations

import signal

from benchmarks._bench import Bench
from benchmarks._child import ChildFailed
from benchmarks._environments import NotInstalled
from benchmarks._figures import amount, median
from benchmarks._results import Result, Table
from benchmarks.peers import PEERS

__all__ = ["run"]

_PEERS = [
    "pyjama", "prometheus", "logging", "structlog", "sqlite", "otel-batch", "otel-simple", "logfire-file",
    "langfuse-file", "mlflow", "original",
]  # fmt: skip


def run(bench: Bench) -> Result:
    """Several bursts of every peer."""
    calls, repeats = bench.size((1000, 3), (1000, 1), (20, 1))
    table = Table(
        f"Of {calls:,} calls followed at once by SIGKILL",
        ["", "version", "shown afterwards: median", "least", "most"],
        notes=[
            "Logfire and Langfuse send to their servers; here a file takes the server's place, behind the same batches."
        ],
    )
    result = Result([table])
    for peer in _PEERS:
        bench.say(f"durability: {peer}")
        try:
            shown = [_burst(bench, peer, calls) for _ in range(repeats)]
        except (NotInstalled, ChildFailed) as error:
            table.rows.append([PEERS[peer].label, "", str(error), "", ""])
            continue
        found = [amount(median(shown)), amount(min(shown)), amount(max(shown))]
        table.rows.append([PEERS[peer].label, bench.version(peer), *found])
        result.raw[peer] = shown
        if peer == "pyjama":
            # Not a number above the calls either: each is counted once.
            result.figures["lost calls"] = max(abs(calls - count) for count in shown)
    return result


def _burst(bench: Bench, peer: str, calls: int) -> int:
    environment = PEERS[peer].environment
    with bench.directory() as directory:
        with bench.child(environment, "rows", directory, peer) as child:
            child.send("burst", calls=calls)
            code = child.wait()
            if code != -signal.SIGKILL:
                raise ChildFailed(f"ended with {code} before it could be killed")
        with bench.child(environment, "recorded", directory, peer) as child:
            return int(child.ask("recorded"))
