"""Throughput: many processes at once, the fold running; a steady load for a minute; what the flusher costs."""

from __future__ import annotations

import struct
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks._bench import Bench
from benchmarks._child import Child, ChildFailed
from benchmarks._environments import NotInstalled
from benchmarks._figures import amount, median, ns, percentile, ratio, seconds, share
from benchmarks._results import Result, Table
from benchmarks.peers import PEERS

__all__ = ["lags", "run"]

_AT_ONCE = 4
_PEERS_AT_ONCE = ["pyjama", "prometheus", "logging", "sqlite", "otel-batch", "otel-noop", "original"]
_BESIDE_THREADS = ["pyjama", "floor", "prometheus", "logging"]
_BUSY_THREADS = 4

Timeline = Sequence[tuple[int, int]]


def run(bench: Bench) -> Result:
    """Scaling, peers, computing threads, a steady load, and the flusher's CPU."""
    result = Result()
    _scaling(bench, result)
    _peers(bench, result)
    _beside_threads(bench, result)
    _steady(bench, result)
    _trickle(bench, result)
    return result


# -- as fast as they can


def _scaling(bench: Bench, result: Result) -> None:
    sizes = bench.size((1, 2, 4, 8, 64), (1, 2, 4, 8), (2,))
    rounds, duration = bench.size((3, 2.0), (1, 1.0), (1, 0.1))
    rates: dict[int, list[float]] = defaultdict(list)
    calls: dict[int, array[int]] = {size: array("q") for size in sizes}
    for turn in range(rounds):
        for size in sizes:
            bench.say(f"throughput: {size} processes, turn {turn + 1} of {rounds}")
            rate, times = _together(bench, "pyjama", size, duration)
            rates[size].append(rate)
            calls[size].extend(times)
    table = Table(
        "Processes that call as fast as they can, the fold running",
        ["processes", "calls/s together", "÷ 2 processes", "p50", "p99", "p99.9", "max"],
    )
    middle = {size: median(found) for size, found in rates.items()}
    for size in sizes:
        row = [amount(middle[size]), _plain(ratio(middle[size], middle.get(2)))]
        table.rows.append([str(size), *row, *_quantiles(calls[size])])
    result.tables.append(table)
    result.raw["calls per second"] = {str(size): rate for size, rate in middle.items()}
    for size in (8, 64):
        if (found := ratio(middle.get(size), middle.get(2))) is not None:
            result.figures[f"throughput of {size} over 2"] = found


def _peers(bench: Bench, result: Result) -> None:
    rounds, duration, names = bench.size(
        (3, 2.0, _PEERS_AT_ONCE), (1, 1.0, _PEERS_AT_ONCE), (1, 0.05, ["prometheus", "logging"])
    )
    rates: dict[str, list[float]] = defaultdict(list)
    calls: dict[str, array[int]] = {name: array("q") for name in names}
    failed: dict[str, str] = {}
    for turn in range(rounds):
        for name in (name for name in names if name not in failed):
            bench.say(f"throughput: {_AT_ONCE} processes of {name}, turn {turn + 1} of {rounds}")
            try:
                rate, times = _together(bench, name, _AT_ONCE, duration)
            except (NotInstalled, ChildFailed) as error:
                failed[name] = str(error)
                continue
            rates[name].append(rate)
            calls[name].extend(times)
    table = Table(
        f"{_AT_ONCE} processes of each peer, as fast as they can",
        ["", "calls/s together", "÷ ours", "p50", "p99", "p99.9", "max"],
        notes=["The bare function, the loop and the timing of each call are part of every figure."],
    )
    middle = {name: median(found) for name, found in rates.items() if name not in failed}
    for name, rate in middle.items():
        row = [PEERS[name].label, amount(rate), _plain(ratio(rate, middle.get("pyjama")))]
        table.rows.append([*row, *_quantiles(calls[name])])
    table.rows += [[PEERS[name].label, why, *[""] * 5] for name, why in failed.items()]
    result.tables.append(table)
    result.raw["calls per second of peers"] = middle


def _beside_threads(bench: Bench, result: Result) -> None:
    duration = bench.size(5.0, 2.0, 0.1)
    table = Table(
        f"A thread that calls beside {_BUSY_THREADS} threads that compute, in one process",
        ["", "calls/s", "p50", "p99", "p99.9", "max"],
        notes=[
            "Whoever makes a system call gives up the interpreter lock, and may have to wait for it behind the "
            "computing threads, 5 ms each by Python's default. Anything that writes to a file at each call pays that."
        ],
    )
    for name in bench.size(_BESIDE_THREADS, _BESIDE_THREADS, _BESIDE_THREADS[:1]):
        bench.say(f"throughput: {name} beside computing threads")
        try:
            rate, times = _together(bench, name, 1, duration, busy_threads=_BUSY_THREADS)
        except (NotInstalled, ChildFailed) as error:
            table.rows.append([PEERS[name].label, str(error), "", "", "", ""])
            continue
        table.rows.append([PEERS[name].label, amount(rate), *_quantiles(times)])
    result.tables.append(table)


def _together(bench: Bench, peer: str, size: int, duration: float, **more: Any) -> tuple[float, array[int]]:
    """Calls a second of so many processes together, and how long each call took."""
    times = array("q")
    with bench.directory() as directory, bench.directory() as files, ExitStack() as stack:
        children = _children(bench, stack, peer, size, directory)
        start_ns = _soon(bench)
        for at, child in enumerate(children):
            child.send("run", start_ns=start_ns, seconds=duration, path=str(files / str(at)), **more)
        answers = [child.receive() for child in children]
        for child in children:
            child.kill()  # the fold of what they leave behind would run into the next figure
        for path in files.iterdir():
            times.frombytes(path.read_bytes())
    return sum(answer["calls"] / answer["seconds"] for answer in answers), times


# -- a steady load


def _steady(bench: Bench, result: Result) -> None:
    processes, rate, duration = bench.size((4, 10_000, 60.0), (4, 10_000, 8.0), (2, 1000, 0.4))
    bench.say(f"throughput: {processes} processes, {rate:,} calls/s each, for {duration:.0f} s")
    with bench.directory() as directory, ExitStack() as stack:
        tally = directory / "tally"
        tally.write_bytes(struct.pack(f"={processes}q", *[0] * processes))
        watch = stack.enter_context(bench.child("pyjama", "watch", directory / "store"))
        page = stack.enter_context(bench.child("pyjama", "watch", directory / "store"))
        children = _children(bench, stack, "pyjama", processes, directory)
        warm_up = watch.ask("count")
        watch.ask("totals", tally=str(tally), writers=processes)
        page.ask("pages")
        start_ns = _soon(bench)
        for at, child in enumerate(children):
            child.send("pace", start_ns=start_ns, seconds=duration, rate=rate, tally=str(tally), place=at)
        answers = [child.receive(timeout=duration * 3 + 60) for child in children]
        for child in children:
            child.stop()
        noted, pages = watch.ask("stop"), page.ask("stop")["pages"]
        counted = watch.ask("count")
    made = sum(answer["calls"] for answer in answers)
    timeline = [(when, total + warm_up) for when, total in noted["made"]]
    until = start_ns + int(max(answer["seconds"] for answer in answers) * 1e9)
    fold_lags = lags(timeline, noted["folded"], until)
    page_lags = lags(timeline, [(begun, count) for begun, _, count in pages], until)
    polls = sorted((done - begun) / 1e9 for begun, done, _ in pages)
    _report_steady(
        result, (processes, rate, duration), made, counted - warm_up, max(answer["late_ms"] for answer in answers),
        fold_lags, page_lags, polls,
    )  # fmt: skip


def _report_steady(
    result: Result,
    load: tuple[int, int, float],
    made: int,
    counted: int,
    late_ms: float,
    fold_lags: list[float],
    page_lags: list[float],
    polls: list[float],
) -> None:
    processes, rate, duration = load
    table = Table(f"{processes} processes × {rate:,} calls/s for {duration:.0f} s", ["", "median", "p99", "max"])
    table.notes.append(
        f"{made:,} calls were made, {counted:,} are counted. The callers were at most {late_ms:.0f} ms behind their "
        "own schedule. *Behind* is the age of the oldest call that is not counted yet, from samples every 20 ms "
        "(`metrics.json`) and every 250 ms (a reader, as the viewer polls)."
    )
    for label, values in (
        ("`metrics.json` is behind", fold_lags),
        ("a reader's answer is behind, at the moment it was asked", page_lags),
        ("a reader takes", polls),
    ):
        if values:
            table.rows.append([label, *(seconds(percentile(values, fraction)) for fraction in (0.5, 0.99, 1.0))])
    result.tables.append(table)
    result.figures["steady: calls not counted"] = abs(made - counted)
    if fold_lags and page_lags:
        result.figures["steady: fold behind, s"] = fold_lags[-1]
        result.figures["steady: page behind, s"] = page_lags[-1]


def lags(made: Timeline, counted: Timeline, until_ns: int) -> list[float]:
    """How old, in seconds, the oldest call not counted yet was at each look, in ascending order.

    Args:
        made: when so many calls had been made, in order.
        counted: when somebody looked and how many were counted, in order.
        until_ns: looks after this moment are left out.
    """
    totals = [total for _, total in made]
    found = []
    for when, count in counted:
        at = bisect_left(totals, count + 1)  # the first moment at which more had been made than are counted
        if made and made[0][0] <= when <= until_ns and at < len(made):
            found.append(max(0, when - made[at][0]) / 1e9)
    return sorted(found)


# -- the flusher


def _trickle(bench: Bench, result: Result) -> None:
    processes, rate, duration, warm_up = bench.size((20, 100, 20.0, 3.0), (20, 100, 6.0, 2.0), (2, 50, 0.1, 0.1))
    found: dict[str, list[dict[str, float]]] = {}
    for name in ("disabled", "pyjama"):
        bench.say(f"throughput: {processes} processes, {rate} calls/s each: {name}")
        with bench.directory() as directory, ExitStack() as stack:
            children = _children(bench, stack, name, processes, directory)
            start_ns = _soon(bench)
            for at, child in enumerate(children):
                offset_ns = at * 10**9 // rate // processes
                child.send("trickle", start_ns=start_ns + offset_ns, seconds=duration, rate=rate, warm_up=warm_up)
            found[name] = [child.receive(timeout=duration * 3 + 60) for child in children]
    cores = {name: sum(answer["process"] for answer in answers) / duration for name, answers in found.items()}
    flusher, recording, control = (
        sum(answer["flusher"] for answer in found["pyjama"]) / duration, cores["pyjama"], cores["disabled"],
    )  # fmt: skip
    recording, control = (
        sum(answer["process"] for answer in found[name]) / duration for name in ("pyjama", "disabled")
    )
    table = Table(
        f"CPU of {processes} processes with {rate} calls/s each, together",
        ["", "of one core"],
        [
            ["the flusher threads", share(flusher)],
            ["the processes with recording off", share(control)],
            ["the processes with recording on", share(recording)],
            ["on − off: recording and folding", share(recording - control)],
        ],
    )
    result.tables.append(table)
    result.figures["flusher CPU"] = flusher


def _children(bench: Bench, stack: ExitStack, peer: str, size: int, directory: Path) -> list[Child]:
    environment = PEERS[peer].environment
    children = [stack.enter_context(bench.child(environment, "load", directory, peer)) for _ in range(size)]
    for child in children:
        child.ask("ready")
    return children


def _soon(bench: Bench) -> int:
    return time.monotonic_ns() + bench.size(300_000_000, 300_000_000, 30_000_000)


def _quantiles(times: array[int]) -> list[str]:
    ordered = sorted(times)
    return [ns(percentile(ordered, fraction)) if ordered else "–" for fraction in (0.5, 0.99, 0.999, 1.0)]


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
