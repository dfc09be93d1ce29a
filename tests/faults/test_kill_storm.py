"""Kill storm: many processes and threads record while kills hit them, folding ones too, and the count is exact."""

from __future__ import annotations

import pytest

from tests.faults.storm import FULL, Figures, Size, storm
from tests.scale import full

SIZE = full(FULL, Size(processes=6, threads=2, calls=200, kills=12, at_once=4))


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return storm(tmp_path_factory.mktemp("storm") / "store", SIZE)


def test_the_storm_was_one_and_folding_processes_were_among_the_victims(figures: Figures) -> None:
    assert figures.kills == SIZE.kills
    assert 0 < figures.killed_folding < figures.kills
    assert figures.acknowledged == SIZE.processes * SIZE.threads * SIZE.calls


def test_every_acknowledged_call_is_recorded_and_none_twice(figures: Figures) -> None:
    assert (figures.missing, figures.twice) == (0, 0)


def test_what_is_recorded_and_not_acknowledged_is_what_a_kill_cut_off_in_between(figures: Figures) -> None:
    assert figures.unexplained == 0
    assert figures.unacknowledged <= figures.kills * SIZE.threads


def test_the_count_is_exact_in_the_reader_and_in_the_snapshot(figures: Figures) -> None:
    assert figures.counted == figures.snapshot == figures.recorded
    assert figures.recorded == figures.acknowledged + figures.unacknowledged


def test_a_kill_tears_at_most_one_line(figures: Figures) -> None:
    assert figures.torn <= figures.kills


def test_every_run_has_ended_and_only_killed_ones_crashed(figures: Figures) -> None:
    assert figures.crashed + figures.completed == SIZE.kills + SIZE.processes
    assert figures.crashed <= SIZE.kills  # a kill may come when the run is over and the process is not
