"""The thread that calls a function periodically, and has ended once it is stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from pyjama_instrument.recording import flusher as flusher_module
from pyjama_instrument.recording.flusher import Flusher

HANG_SECONDS = 30.0


class Ticks:
    """Counts its calls; each can be waited for."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.happened = threading.Semaphore(0)

    def __call__(self) -> float:
        self.happened.release()
        return self.pause

    def wait(self) -> bool:
        return self.happened.acquire(timeout=HANG_SECONDS)


@pytest.fixture
def stopping() -> Iterator[list[Flusher]]:
    flushers: list[Flusher] = []
    yield flushers
    for flusher in flushers:
        flusher.stop()


def test_the_function_is_called_at_once_and_again_after_the_pause_it_asks_for(stopping: list[Flusher]) -> None:
    ticks = Ticks(0.001)
    stopping.append(Flusher(ticks).start())
    assert [ticks.wait() for _ in range(3)] == [True] * 3


def test_it_is_called_at_once_after_being_woken(stopping: list[Flusher]) -> None:
    ticks = Ticks(3600.0)
    flusher = Flusher(ticks).start()
    stopping.append(flusher)
    assert ticks.wait()
    flusher.wake()
    assert ticks.wait()


def test_the_thread_does_not_keep_the_program(stopping: list[Flusher]) -> None:
    stopping.append(Flusher(lambda: 3600.0).start())
    assert [thread for thread in threading.enumerate() if not thread.daemon] == [threading.main_thread()]


def test_after_stopping_the_operating_system_s_thread_is_gone() -> None:
    before = set(os.listdir("/proc/self/task"))
    for _ in range(50):
        Flusher(lambda: 3600.0).start().stop()
        assert set(os.listdir("/proc/self/task")) <= before


def test_it_can_be_stopped_twice() -> None:
    flusher = Flusher(lambda: 3600.0).start()
    flusher.stop()
    flusher.stop()
    assert flusher.stopping()


def test_the_function_can_ask_whether_it_should_hurry() -> None:
    made, ticking, hurried = threading.Event(), threading.Event(), threading.Event()

    def tick() -> float:
        made.wait(HANG_SECONDS)
        ticking.set()
        while not flusher.stopping():
            pass
        hurried.set()
        return 3600.0

    flusher = Flusher(tick).start()
    made.set()
    assert ticking.wait(HANG_SECONDS)
    flusher.stop()
    assert hurried.is_set()


def test_stopping_does_not_wait_for_ever_for_a_function_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher_module, "_JOIN_SECONDS", 0.01)
    monkeypatch.setattr(flusher_module, "_GONE_SECONDS", 0.01)
    hanging, free = threading.Event(), threading.Event()

    def tick() -> float:
        hanging.set()
        free.wait(HANG_SECONDS)
        return 3600.0

    flusher = Flusher(tick).start()
    assert hanging.wait(HANG_SECONDS)
    flusher.stop()
    free.set()
    monkeypatch.undo()
    flusher.stop()


def test_it_knows_its_own_thread() -> None:
    seen: list[bool] = []
    done = threading.Event()

    def tick() -> float:
        seen.append(flushers[0].is_this_thread() if flushers else False)
        if flushers:
            done.set()
        return 0.001

    flushers: list[Flusher] = []
    flushers.append(Flusher(tick).start())
    assert done.wait(HANG_SECONDS)
    assert not flushers[0].is_this_thread()
    flushers[0].stop()
    assert seen[-1]


def test_one_that_was_not_started_does_not_run_and_can_be_stopped() -> None:
    flusher = Flusher(lambda: 3600.0)
    assert not flusher.runs()
    flusher.stop()
    started = Flusher(lambda: 3600.0).start()
    assert started.runs()
    started.stop()
    assert not started.runs()


def test_the_first_call_can_be_put_off_and_made_at_once_by_waking(stopping: list[Flusher]) -> None:
    ticks = Ticks(3600.0)
    stopping.append(flusher := Flusher(ticks, due=time.monotonic() + 3600).start())
    assert not ticks.happened.acquire(timeout=0.01)
    flusher.wake()
    flusher.wake()
    assert ticks.wait()
    assert flusher.due > time.monotonic() + 1800


def test_when_the_next_call_is_due_outlives_the_thread(stopping: list[Flusher]) -> None:
    ticks = Ticks(0.001)
    first = Flusher(ticks).start()
    assert ticks.wait()
    first.stop()
    stopping.append(Flusher(ticks, due=first.due).start())
    assert ticks.wait()


def test_one_that_cannot_be_started_does_not_run_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(flusher_module, "start_new_thread", no_more)
    flusher = Flusher(lambda: 3600.0)
    with pytest.raises(RuntimeError):
        flusher.start()
    assert not flusher.runs()
    flusher.stop()


@pytest.fixture
def forks_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher_module, "_FORKS_WARN", False)


@pytest.mark.usefixtures("forks_do_not_warn")
def test_where_forks_do_not_warn_the_thread_rests_during_one_and_goes_on(stopping: list[Flusher]) -> None:
    ticks = Ticks(0.0)
    stopping.append(flusher := Flusher(ticks).start())
    for _ in range(50):
        assert ticks.wait()
        flusher.pause_for_fork()
        assert not flusher.runs()
        while ticks.happened.acquire(blocking=False):
            pass
        flusher.wake()
        assert not ticks.happened.acquire(timeout=0.001)
        assert flusher.resume()
        assert flusher.runs()


@pytest.mark.usefixtures("forks_do_not_warn")
def test_a_call_that_is_under_way_is_waited_for_before_a_fork_and_asked_to_hurry(stopping: list[Flusher]) -> None:
    ticking, through = threading.Event(), []

    def tick() -> float:
        ticking.set()
        while not flusher.stopping():
            pass
        through.append(True)
        return 3600.0

    stopping.append(flusher := Flusher(tick, due=time.monotonic() + 3600).start())
    flusher.wake()
    assert ticking.wait(HANG_SECONDS)
    flusher.pause_for_fork()
    assert through == [True]


@pytest.mark.usefixtures("forks_do_not_warn")
def test_a_fork_does_not_wait_for_ever_for_a_function_that_hangs(
    stopping: list[Flusher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher_module, "_JOIN_SECONDS", 0.01)
    hanging, free = threading.Event(), threading.Event()

    def tick() -> float:
        hanging.set()
        free.wait(HANG_SECONDS)
        return 3600.0

    stopping.append(flusher := Flusher(tick).start())
    assert hanging.wait(HANG_SECONDS)
    flusher.pause_for_fork()
    free.set()
    monkeypatch.undo()


@pytest.mark.usefixtures("forks_do_not_warn")
def test_one_that_rests_can_be_stopped_and_does_not_go_on_then() -> None:
    before = set(os.listdir("/proc/self/task"))
    flusher = Flusher(lambda: 3600.0).start()
    flusher.pause_for_fork()
    flusher.stop()
    assert set(os.listdir("/proc/self/task")) <= before
    assert not flusher.resume()


def test_where_forks_warn_the_thread_is_gone_before_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher_module, "_FORKS_WARN", True)
    before = set(os.listdir("/proc/self/task"))
    flusher = Flusher(lambda: 3600.0).start()
    flusher.pause_for_fork()
    assert set(os.listdir("/proc/self/task")) <= before
    assert not flusher.resume()
