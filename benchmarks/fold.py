"""Fold: how fast events become totals, and what one fold costs as the store grows."""

from __future__ import annotations

from array import array
from typing import Any

from benchmarks._bench import Bench
from benchmarks._child import Child
from benchmarks._figures import amount, median, ns, percentile, times
from benchmarks._results import Result, Table

__all__ = ["run"]

_DOCUMENTS = [(10, 100), (100, 100), (1000, 100), (1000, 500), (2000, 100), (10, 1000), (1000, 1000)]
_JOURNALS = [(10, 0), (1000, 0), (10, 10_000)]
_HOT_SECONDS = 900.0  # a hot loop on the same CPU leaves the fold little of the interpreter lock


def run(bench: Bench) -> Result:
    """Rate, size of the document, number of journals, and a call's price while a fold runs."""
    result = Result()
    with bench.directory() as directory, bench.child("pyjama", "fold", directory, pinned=True) as child:
        _rate(bench, child, result)
        _documents(bench, child, result)
        _journals(bench, child, result)
    _beside(bench, result)
    return result


def _rate(bench: Bench, child: Child, result: Result) -> None:
    events, repeats = bench.size((200_000, 5), (50_000, 2), (500, 1))
    table = Table("Events folded in one go, on one core", ["tools", "sessions", "events", "bytes an event", "events/s"])
    for tools, sessions in bench.size([(10, 10), (100, 100), (1000, 500)], [(100, 100)], [(10, 2)]):
        bench.say(f"fold: {events:,} events of {tools} tools")
        found = [child.ask("rate", events=events, tools=tools, sessions=sessions) for _ in range(repeats)]
        rate = events / median(each["ns"] for each in found) * 1e9
        row = [tools, sessions, events, found[0]["bytes"], rate]
        table.rows.append([amount(value) for value in row])
        if tools <= 100:
            result.figures["fold: events per second"] = rate
    result.tables.append(table)


def _documents(bench: Bench, child: Child, result: Result) -> None:
    table = Table(
        "One fold of 100 events, by the size of the document",
        ["tools", "sessions", "metrics.json, bytes", "median", "p99", "of which writing and syncing the file"],
    )
    for tools, sessions in bench.size(_DOCUMENTS, [(100, 100), (1000, 500)], [(10, 4)]):
        bench.say(f"fold: a document of {tools} tools and {sessions} sessions")
        found = child.ask("by_document", tools=tools, sessions=sessions, folds=bench.size(25, 9, 2))
        row = [amount(tools), amount(sessions), amount(found["bytes"]), *_middle_and_tail(found["ns"])]
        table.rows.append([*row, ns(median(found["disk_ns"]))])
        if (tools, sessions) == (1000, 500):
            result.figures["fold: one, ms"] = median(found["ns"]) / 1e6
    result.tables.append(table)


def _journals(bench: Bench, child: Child, result: Result) -> None:
    table = Table(
        "One fold, by the number of journals",
        ["live", "dead", "the first fold", "the second, which retires", "then: median of 100 events", "p99"],
    )
    for live, dead in bench.size(_JOURNALS, [(10, 0), (200, 500)], [(2, 5)]):
        bench.say(f"fold: {live} live journals and {dead} dead ones")
        found: dict[str, Any] = child.ask("by_journals", live=live, dead=dead, folds=bench.size(25, 9, 2))
        row = [amount(live), amount(dead), ns(found["first"]), ns(found["second"])]
        table.rows.append([*row, *_middle_and_tail(found["ns"])])
    result.tables.append(table)


def _beside(bench: Bench, result: Result) -> None:
    events, repeats = bench.size((50_000, 5), (50_000, 2), (300, 1))
    table = Table(
        f"Calls while a fold of {events:,} events runs in the same process",
        ["", "calls", "p50", "p99", "p99.9", "max"],
        notes=["The target is compared with the worse of the two."],
    )
    for pinned, where in ((True, "on one CPU"), (False, "on all CPUs")):
        bench.say(f"fold: calls beside a fold of {events:,} events, {where}")
        alone, took, ordered = _calls_beside(bench, events, repeats, pinned=pinned)
        table.rows.append([f"{where}: alone", "", ns(alone), "", "", ""])
        if ordered:
            quantiles = [percentile(ordered, fraction) for fraction in (0.5, 0.99, 0.999, 1.0)]
            label = f"{where}: beside the fold, which takes {ns(took)}"
            table.rows.append([label, amount(len(ordered)), *map(ns, quantiles)])
            table.rows.append(["÷ the median alone", "", *(times(value / alone) for value in quantiles)])
            key = "beside a fold: p99 over median"
            result.figures[key] = max(quantiles[1] / alone, result.figures.get(key, 0.0))
    result.tables.append(table)


def _calls_beside(bench: Bench, events: int, repeats: int, *, pinned: bool) -> tuple[float, float, list[int]]:
    """A call's median alone, the fold's duration, and the durations of the calls beside it, ascending."""
    medians, took, calls = [], [], array("q")
    with bench.directory() as directory, bench.child("pyjama", "fold", directory, pinned=pinned) as child:
        for _ in range(repeats):
            found = child.ask("beside", _HOT_SECONDS, events=events, path=str(directory / "times"))
            calls.frombytes((directory / "times").read_bytes())
            medians.append(found["alone_median"])
            took.append(found["fold_ns"])
    return median(medians), median(took), sorted(calls)


def _middle_and_tail(values: list[float]) -> list[str]:
    return [ns(median(values)), ns(percentile(sorted(values), 0.99))]
