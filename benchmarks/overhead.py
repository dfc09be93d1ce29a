"""Overhead: what a call costs beyond the bare function, and how bad the worst calls are.

All peers' processes take turns on one CPU, a few milliseconds each, halted in between, and measure their bare
function in every turn, so that whatever else the machine does hits all rows alike. Figures are medians over the turns.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks._bench import Bench
from benchmarks._child import Child, ChildFailed
from benchmarks._environments import NotInstalled
from benchmarks._figures import amount, median, ns, percentile, ratio, spread, times
from benchmarks._results import Result, Table
from benchmarks.peers import PEERS

__all__ = ["run"]

_GROUPS = [
    ["pyjama", "floor"], ["disabled"], ["prometheus"], ["logging"], ["structlog"], ["sqlite"], ["otel-noop"],
    ["otel-batch"], ["otel-simple"], ["logfire"], ["langfuse"], ["mlflow"], ["original"],
]  # fmt: skip
_WORST = ["pyjama", "floor", "prometheus", "otel-noop"]
_TURN_NS = 5_000_000  # short, so that most turns are over before anybody else gets the CPU
_US, _FLOOR = "pyjama/sync", "floor/sync"

Samples = dict[str, list[dict[str, float]]]


def run(bench: Bench) -> Result:
    """Cost of a call, single calls of everybody, and the worst of a million."""
    result = Result()
    failed: dict[str, str] = {}
    samples = _cost(bench, failed)
    _report_cost(bench, samples, failed, result)
    _report_tails(_tails(bench, failed), failed, result)
    _report_worst(bench, result)
    return result


# -- the cost of a call


def _cost(bench: Bench, failed: dict[str, str]) -> Samples:
    samples: Samples = defaultdict(list)
    generations, rounds = bench.size((3, 40), (1, 12), (1, 1))
    for generation in range(generations):
        with _all_children(bench, _GROUPS, failed) as children:
            calls = {}
            for name in list(children):
                bench.say(f"overhead: process {generation + 1} of {generations}, finding sizes: {name}")
                calls[name] = _or_drop(children, name, failed, "calibrate", budget_ns=_TURN_NS, most=2000)
            for turn in range(rounds):
                bench.say(f"overhead: process {generation + 1} of {generations}, turn {turn + 1} of {rounds}")
                for name in list(children):
                    for row, sample in (_or_drop(children, name, failed, "cost", calls=calls[name]) or {}).items():
                        samples[row].append(sample)
    return samples


def _report_cost(bench: Bench, samples: Samples, failed: dict[str, str], result: Result) -> None:
    over = {row: median(sample["row"] - sample["bare"] for sample in found) for row, found in samples.items()}
    cpu = {row: median(sample["cpu"] for sample in found) for row, found in samples.items()}
    table = Table(
        "Cost of a call over the bare function",
        ["", "version", "median", "± half the quartiles", "÷ floor", "÷ ours", "CPU until all is in place"],
        notes=[
            "The bare function adds two integers. *CPU until all is in place* counts every thread of the process "
            "until what was recorded is where it belongs: folded, exported or written."
        ],
    )
    for row in samples:
        peer, _, name = row.partition("/")
        label = PEERS[peer].label + (f": {name}" if name != "sync" or peer in ("pyjama", "disabled") else "")
        noise = spread(sample["row"] - sample["bare"] for sample in samples[row])
        table.rows.append(
            [
                label,
                bench.version(peer),
                ns(over[row]),
                f"{noise * 100:.0f} %",
                times(ratio(over[row], over.get(_FLOOR))),
                times(ratio(over[row], over.get(_US))),
                ns(cpu[row]),
            ]
        )
    table.rows += [[PEERS[peer].label, "", why, "", "", "", ""] for peer, why in failed.items()]
    result.tables.append(table)
    result.raw["over bare, ns"] = over
    result.raw["bare, ns"] = {row: median(sample["bare"] for sample in found) for row, found in samples.items()}
    _compare(over, result)


def _compare(over: dict[str, float], result: Result) -> None:
    pairs = {
        "sync over floor": (_US, _FLOOR),
        "sync over prometheus": (_US, "prometheus/sync"),
        "sync over otel-noop": (_US, "otel-noop/sync"),
        "sync over otel-simple": (_US, "otel-simple/sync"),
        "async over sync": ("pyjama/async", _US),
        "disabled over no-op": ("disabled/sync", "disabled/no-op wrapt wrapper"),
    }
    for name, (row, base) in pairs.items():
        found = ratio(over.get(row), over.get(base))
        if found is not None:
            result.figures[name] = found


# -- single calls


def _tails(bench: Bench, failed: dict[str, str]) -> dict[str, array[int]]:
    """Single calls of everybody's plain row, in turns."""
    rounds, most = bench.size((5, 10_000), (2, 2000), (1, 50))
    names = [group[0] for group in _GROUPS if group[0] not in failed and group != ["disabled"]] + ["floor"]
    groups = [[name] for name in names]
    with bench.directory() as files, _all_children(bench, groups, failed) as children:
        calls = {name: _or_drop(children, name, failed, "calibrate", budget_ns=10**9, most=most) for name in names}
        for turn in range(rounds):
            bench.say(f"overhead: single calls, turn {turn + 1} of {rounds}")
            for name in list(children):
                row, count = next(iter(calls[name].items()))
                _or_drop(children, name, failed, "tail", row=row, calls=count, path=str(files / name))
        return {name: _times(files / name) for name in children}


def _report_tails(found: dict[str, array[int]], failed: dict[str, str], result: Result) -> None:
    table = Table("Single calls", ["", "calls", "p50", "p99", "p99.9", "max"])
    table.notes.append("Each call timed by itself, the two clock reads of about 80 ns included.")
    table.rows = [[PEERS[name].label, *_quantiles(found[name])] for name in found]
    table.rows += [[PEERS[name].label, why, "", "", "", ""] for name, why in failed.items()]
    result.tables.append(table)


def _report_worst(bench: Bench, result: Result) -> None:
    """A million calls each, in turns, and of the bare function: the worst of those is the machine's."""
    turns, calls = bench.size((10, 100_000), (2, 20_000), (1, 100))
    table = Table(f"The worst of {turns * calls:,} calls", ["", "calls", "p50", "p99", "p99.9", "max"])
    failed: dict[str, str] = {}
    with bench.directory() as files, _all_children(bench, [[name] for name in _WORST], failed) as children:
        for turn in range(turns):
            bench.say(f"overhead: the worst call, turn {turn + 1} of {turns}")
            _or_drop(children, "pyjama", failed, "bare", calls=calls, path=str(files / "bare"))
            for name in list(children):
                _or_drop(children, name, failed, "tail", row=f"{name}/sync", calls=calls, path=str(files / name))
        found = {name: _times(files / name) for name in ["bare", *children]}
    labels = {"bare": "bare function: clock, interpreter and machine"} | {name: PEERS[name].label for name in PEERS}
    table.rows = [[labels[name], *_quantiles(found[name])] for name in found if found[name]]
    table.rows += [[PEERS[name].label, why, "", "", "", ""] for name, why in failed.items()]
    result.tables.append(table)
    worst = {name: max(each) for name, each in found.items() if each}
    result.raw["worst, ns"] = worst
    if worst_ratio := ratio(worst.get("pyjama"), worst.get("prometheus")):
        result.figures["worst over prometheus"] = worst_ratio


def _quantiles(unordered: array[int]) -> list[str]:
    ordered = sorted(unordered)
    return [amount(len(ordered)), *(ns(percentile(ordered, fraction)) for fraction in (0.5, 0.99, 0.999, 1.0))]


def _times(path: Path) -> array[int]:
    times: array[int] = array("q")
    if path.exists():
        times.frombytes(path.read_bytes())
    return times


# -- children


@contextmanager
def _all_children(bench: Bench, groups: list[list[str]], failed: dict[str, str]) -> Iterator[dict[str, Child]]:
    """A child per group, by the group's first name; groups that cannot be had are noted in ``failed``."""
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for group in groups:
            name = group[0]
            if name in failed:
                continue
            bench.say(f"overhead: starting {name}")
            try:
                directory = stack.enter_context(bench.directory())
                child = bench.child(PEERS[name].environment, "rows", directory, *group, pinned=True)
                children[name] = stack.enter_context(child)
                child.ask_alone("rows")
            except (NotInstalled, ChildFailed) as error:
                failed[name] = str(error)
                children.pop(name, None)
        yield children


def _or_drop(children: dict[str, Child], name: str, failed: dict[str, str], do: str, **arguments: Any) -> Any:
    """The answer of a child; one that fails is dropped and answers nothing."""
    try:
        return children[name].ask_alone(do, **arguments)
    except ChildFailed as error:
        failed[name] = str(error)
        children.pop(name).kill()
        return {}
