"""Clocks that jump: the time that has really passed, and what was dated into the future."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pyjama_instrument.storage import clock
from pyjama_instrument.storage.clock import clamp_times, elapsed_now, updated_clock, was_set_back

DAY = 24 * 3600.0
YEAR = 365 * DAY


class Clocks:
    """A machine whose clock can be set, and that can be booted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.running, self.boot = 1_800_000_000.0, 1000.0, "first"
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(clock, "_since_boot", lambda: self.running)
        monkeypatch.setattr(clock, "_boot", lambda: self.boot)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds

    def reboot(self, off_seconds: float) -> None:
        self.wall += off_seconds
        self.running, self.boot = 10.0, self.boot + "+"


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_without_jumps_the_time_is_the_clock_s(clocks: Clocks) -> None:
    known = updated_clock(None)
    for seconds in [1.0, 50.0, DAY, YEAR]:
        clocks.pass_by(seconds)
        assert elapsed_now(known) == clocks.wall
        assert not was_set_back(known)
        known = updated_clock(known)
    assert known["skew"] == 0.0


def test_years_that_never_passed_do_not_count(clocks: Clocks) -> None:
    known = updated_clock(None)
    began = clocks.wall
    clocks.wall += 10 * YEAR
    clocks.pass_by(5.0)
    known = updated_clock(known)
    assert elapsed_now(known) == pytest.approx(began + 5.0)
    clocks.pass_by(DAY)
    assert elapsed_now(updated_clock(known)) == pytest.approx(began + 5.0 + DAY)


def test_a_clock_that_is_set_right_again_takes_its_jump_back(clocks: Clocks) -> None:
    known = updated_clock(None)
    clocks.wall += 10 * YEAR
    known = updated_clock(known)
    clocks.wall -= 10 * YEAR
    assert was_set_back(known)
    known = updated_clock(known)
    assert known["skew"] == 0.0
    assert elapsed_now(known) == clocks.wall


def test_a_clock_set_back_makes_nothing_older_than_it_is(clocks: Clocks) -> None:
    known = updated_clock(None)
    clocks.wall -= DAY
    assert was_set_back(known)
    known = updated_clock(known)
    assert known["skew"] == 0.0
    assert elapsed_now(known) == clocks.wall


def test_small_corrections_are_not_jumps(clocks: Clocks) -> None:
    known = updated_clock(None)
    clocks.wall += 59.0
    assert updated_clock(known)["skew"] == 0.0
    clocks.wall -= 59.5
    assert not was_set_back(known)


@pytest.mark.parametrize(("off", "counts"), [(60.0, True), (20 * DAY, True), (-DAY, False), (10 * YEAR, False)])
def test_after_a_reboot_what_is_plausible_has_passed(clocks: Clocks, off: float, counts: bool) -> None:
    known = updated_clock(None)
    began = clocks.wall
    clocks.reboot(off)
    known = updated_clock(known)
    assert elapsed_now(known) == pytest.approx(clocks.wall if counts or off < 0 else began)


SOUND = {"wall": 1.0, "running": 2.0, "boot": "first", "skew": 0.0}


@pytest.mark.parametrize(
    "known",
    [None, 5, {}]
    + [{name: value for name, value in SOUND.items() if name != missing} for missing in SOUND]
    + [SOUND | {"wall": "1"}, SOUND | {"skew": 10**400}, SOUND | {"running": True}, SOUND | {"boot": None}],
)
def test_what_somebody_broke_is_begun_anew(clocks: Clocks, known: Any) -> None:
    assert elapsed_now(known) == clocks.wall
    assert not was_set_back(known)
    assert updated_clock(known) == {"wall": clocks.wall, "running": clocks.running, "boot": "first", "skew": 0.0}


def test_what_is_dated_into_the_future_happened_now_at_the_latest() -> None:
    document = {
        "recent-logs": [{"timestamp": 900}, {"timestamp": 5000}],
        "sessions": {"s": {"start-time": 800, "end-time": 9000, "steps": [{"start-time": 7000}, {"start-time": "x"}]}},
        "agents": {"a": {"last-seen": 2000}, "b": {"last-seen": None}},
        "rate": {"0": 1, "1": 2, "2": 3},
        "global": {"count": 6},
    }
    clamp_times(document, 1000)
    assert document == {
        "recent-logs": [{"timestamp": 900}, {"timestamp": 1000}],
        "sessions": {"s": {"start-time": 800, "end-time": 1000, "steps": [{"start-time": 1000}, {"start-time": "x"}]}},
        "agents": {"a": {"last-seen": 1000}, "b": {"last-seen": None}},
        "rate": {"0": 1, "1": 2},
        "global": {"count": 6},
    }


def test_the_clock_since_boot_only_goes_on() -> None:
    before = clock._since_boot()
    assert 0 < before <= clock._since_boot()
    assert clock._boot() == clock._boot()
