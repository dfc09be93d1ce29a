"""The benchmarks run, here with tiny sizes and without the peers; what they measure is not looked at."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import SCENARIOS
from benchmarks._bench import Bench
from benchmarks._environments import NotInstalled
from benchmarks._figures import median, ns, percentile
from benchmarks._report import markdown, renewed
from benchmarks._results import Result, Table
from benchmarks._targets import TARGETS, table
from benchmarks.throughput import lags


class OnlyThisPython:
    """This very interpreter in place of our own environments; no peer is installed."""

    def python(self, name: str) -> str:
        if name not in ("pyjama", "viewer"):
            raise NotInstalled("could not be installed")
        return sys.executable

    def packages(self, name: str) -> dict[str, str]:
        self.python(name)
        return {"pyjama-instrument": "0"}


class NoPython:
    """Nothing can be installed."""

    def python(self, name: str) -> str:
        raise NotInstalled("could not be installed")

    def packages(self, name: str) -> dict[str, str]:
        raise NotInstalled("could not be installed")


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks are for Linux")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_runs_with_tiny_sizes_and_without_peers(scenario: str, tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench("tiny", tmp_path, OnlyThisPython(), said.append)

    result = importlib.import_module(f"benchmarks.{SCENARIOS[scenario]}").run(bench)

    assert said
    assert result.tables
    assert {len(row) - len(each.columns) for each in result.tables for row in each.rows} == {0}
    assert result.figures.keys() <= {target.figure for target in TARGETS}
    assert "ended with" not in markdown({}, {scenario: result})


def test_peer_that_cannot_be_installed_is_a_row_that_says_so(tmp_path: Path) -> None:
    result = importlib.import_module("benchmarks.durability").run(
        Bench("tiny", tmp_path, NoPython(), lambda text: None)
    )

    assert {row[2] for row in result.tables[0].rows} == {"could not be installed"}
    assert result.figures == {}


def test_report_begins_with_the_targets_and_escapes_what_would_end_a_cell() -> None:
    result = Result([Table("Title", ["a", "b"], [["x|y", "1"]])], {"lost calls": 0})

    report = markdown({"Machine": "m"}, {"durability": result})

    assert report.index("## Targets") < report.index("## durability") < report.index("### Title")
    assert "| x\\|y | 1 |" in report


def test_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    rows = {row[0]: row for row in table({"lost calls": 1}).rows}

    assert rows["calls lost or counted twice, of 1,000 before SIGKILL"][2:] == ["1", "**no**"]
    assert rows["one fold, 1,000 tools and 500 sessions"][2:] == ["not measured", ""]


def test_lag_is_the_age_of_the_oldest_call_that_is_not_counted_yet() -> None:
    second = 10**9
    made = [(0, 0), (second, 10), (2 * second, 20), (3 * second, 30)]

    assert lags(made, [(2 * second, 20)], until_ns=9 * second) == [0.0]
    assert lags(made, [(3 * second, 10)], until_ns=9 * second) == [1.0]
    assert lags(made, [(3 * second, 10)], until_ns=2 * second) == []


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert median([3, 1, 2, 10]) == 2.5


def test_durations_are_written_with_three_digits() -> None:
    assert [ns(4), ns(4720), ns(12_345_678), ns(None)] == ["4.00 ns", "4.72 µs", "12.3 ms", "–"]


def test_a_scenario_measured_anew_takes_the_place_of_the_old_one() -> None:
    facts = {"Machine": "m", "Noise": "quiet", "When": "today"}
    old = {"overhead": _one("a", **{"sync over floor": 1.2}), "fold": _one("b", **{"fold: one, ms": 99.0})}
    new = {"fold": _one("c", **{"fold: one, ms": 9.0})}
    whole = markdown(facts, old)
    report = renewed(whole, markdown(facts, new), facts)
    assert report == renewed(report, markdown(facts, new), facts)
    assert report.replace("- Measured anew, fold: in a run of its own (quiet; today)\n", "") == markdown(
        facts, {"overhead": old["overhead"], "fold": new["fold"]}
    )


def _one(title: str, **figures: float) -> Result:
    return Result([Table(title, ["x"], [["1"]])], figures)
