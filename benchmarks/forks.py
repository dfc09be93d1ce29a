"""Fork: what it takes longer in a process that records than in one of which nothing is decorated, in turns."""

from __future__ import annotations

from benchmarks._bench import Bench
from benchmarks._child import ChildFailed
from benchmarks._environments import NotInstalled
from benchmarks._figures import median, ns, percentile
from benchmarks._results import Result, Table

__all__ = ["run"]

_LABELS = {"bare": "nothing decorated", "recording": "a process that records"}


def run(bench: Bench) -> Result:
    """Turns of both, some forks each."""
    turns, forks = bench.size((40, 25), (10, 20), (1, 3))
    table = Table("A fork, in the parent", ["", "forks", "median", "p90", "p99"])
    result = Result([table])
    took: dict[str, list[int]] = {name: [] for name in _LABELS}
    try:
        with bench.directory() as store, bench.child("pyjama", "forks") as bare, bench.child(
            "pyjama", "forks", store
        ) as recording:  # fmt: skip
            for turn in range(turns):
                bench.say(f"fork: turn {turn + 1} of {turns}")
                took["bare"] += bare.ask("forks", count=forks)
                took["recording"] += recording.ask("forks", count=forks)
    except (NotInstalled, ChildFailed) as error:
        table.rows.append(["", str(error), "", "", ""])
        return result
    for name, label in _LABELS.items():
        found = sorted(took[name])
        table.rows.append([label, str(len(found)), *(ns(percentile(found, share)) for share in (0.5, 0.9, 0.99))])
    result.figures["fork over bare, ms"] = (median(took["recording"]) - median(took["bare"])) / 1e6
    result.raw["ns"] = {name: median(found) for name, found in took.items()}
    return result
